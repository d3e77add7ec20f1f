// Teams of threads for the kernels: a small pool that sleeps when idle, survives fork(), and never spins without bound.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace conveyor {

// Meeting point of `size` threads, reusable at once. Spins briefly, then sleeps: the other core may be somebody else's.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> round_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// What a task knows of the threads that run it together.
struct Team {
  int index;
  int size;
  Barrier* barrier;

  void meet() const {
    if (size > 1) barrier->wait();
  }
  // This member's share of [0, count).
  long begin(long count) const { return count * index / size; }
  long end(long count) const { return count * (index + 1) / size; }
};

// Runs task(context, team) on up to `threads` threads, the caller's among them, and returns when all have ended.
// The team is smaller than asked where another caller holds the pool: callers never wait for one another.
// Subnormal numbers are flushed to zero meanwhile; the floating-point state of the caller is restored.
void parallel(int threads, void (*task)(const void*, const Team&), const void* context);

template <class Task>
void parallel(int threads, const Task& task) {
  parallel(threads, [](const void* context, const Team& team) { (*static_cast<const Task*>(context))(team); },
           &task);
}

// Processors this process may run on.
int available_processors();

}  // namespace conveyor
