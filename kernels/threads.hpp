// Teams of threads for the kernels, which survive fork() and never spin without bound.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace conveyor {

// Meeting point of threads, reusable at once. Spins briefly, then sleeps: the other core may be somebody else's.
class Barrier {
 public:
  void wait(int size);
  // How often this was asked since the threads last met.
  long take() { return taken_.fetch_add(1, std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<long> taken_{0};
  alignas(64) std::atomic<int> arrived_{0};
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
    if (size > 1) barrier->wait(size);
  }
  // The number of a piece of work that is whoever's takes it, from 0 each time the team has met.
  long take() const { return barrier->take(); }
  // This member's share of [0, count).
  long begin(long count) const { return count * index / size; }
  long end(long count) const { return count * (index + 1) / size; }
};

// Runs task(context, team) on up to `threads` threads, the caller's among them, and returns when all have ended.
// The team is smaller than asked where another caller holds the threads: callers never wait for one another.
// Subnormal numbers are flushed to zero meanwhile; the floating-point state of the caller is restored.
void parallel(int threads, void (*task)(const void*, const Team&), const void* context);

template <class Task>
void parallel(int threads, const Task& task) {
  parallel(threads, [](const void* context, const Team& team) { (*static_cast<const Task*>(context))(team); }, &task);
}

// Memory of this thread's own, aligned to cache lines, until it asks again.
float* scratch(std::size_t floats);

// From now on teams are made of the OpenMP threads this process has loaded, if any, rather than of the kernels' own.
// Where torch runs, its threads wait for work on the other cores for milliseconds, spinning: they are at hand, and
// threads beside them would have to share the cores with them. Says whether there are any.
bool share_openmp();

// Processors this process may run on.
int available_processors();

}  // namespace conveyor
