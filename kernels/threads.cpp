#include "threads.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "memory.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace conveyor {
namespace {

// About a tenth of a millisecond: longer than a step of most layers; and to wake a sleeping core can take longer.
constexpr int kSpins = 10000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Ready>
bool spin_until(Ready ready) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (ready()) return true;
    relax();
  }
  return ready();
}

// Flushes subnormals to zero while it lives: one of them costs as much as a hundred ordinary products.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushSubnormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

using Clock = std::chrono::steady_clock;
using Task = void (*)(const void*, const Team&);

// How long this thread has run on a core.
Clock::duration running() {
#if defined(__unix__) || defined(__APPLE__)
  timespec time;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
#endif
  return Clock::now().time_since_epoch();
}

// How long this thread has slept in barriers.
thread_local Clock::duration asleep{0};

struct Job {
  Task task;
  const void* context;
  int size;
  Barrier barrier{};
  Clock::time_point start = Clock::now();
  std::atomic<Clock::rep> kept_waiting{0};  // by the scheduler: the longest of any thread

  void run(int index, int team) {
    FlushSubnormals guard;
    if (team == 1) return task(context, Team{0, 1, &barrier});
    const Clock::duration before = running() + asleep;
    task(context, Team{index, team, &barrier});
    const Clock::rep waited = (Clock::now() - start - (running() + asleep - before)).count();
    Clock::rep most = kept_waiting.load(std::memory_order_relaxed);
    while (waited > most && !kept_waiting.compare_exchange_weak(most, waited, std::memory_order_relaxed)) {
    }
  }
};

class Pool {
 public:
  // Runs the job on its workers and the caller; false where another caller is at it.
  bool run(Job& job) {
    std::unique_lock<std::mutex> mine(busy_, std::try_to_lock);
    if (!mine) return false;
    while (static_cast<int>(workers_.size()) < job.size - 1) {
      workers_.push_back(std::make_unique<Worker>());
      Worker* worker = workers_.back().get();
      std::thread([this, worker] { serve(*worker); }).detach();
    }
    remaining_.store(job.size - 1, std::memory_order_relaxed);
    for (int i = 1; i < job.size; ++i) workers_[i - 1]->give(&job, i);
    job.run(0, job.size);
    wait_for_workers();
    return true;
  }

 private:
  struct Worker {
    std::atomic<Job*> job{nullptr};
    int index = 0;
    std::mutex mutex;
    std::condition_variable wake;

    void give(Job* next, int next_index) {
      index = next_index;
      {
        std::lock_guard<std::mutex> lock(mutex);
        job.store(next, std::memory_order_release);
      }
      wake.notify_one();
    }
    Job* take() {
      const auto has_job = [this] { return job.load(std::memory_order_acquire) != nullptr; };
      if (!spin_until(has_job)) {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, has_job);
      }
      return job.exchange(nullptr, std::memory_order_acquire);
    }
  };

  void serve(Worker& worker) {
    for (;;) {
      Job* job = worker.take();
      job->run(worker.index, job->size);
      // The job is the caller's, and gone once the last worker has counted down: what follows is the pool's.
      if (remaining_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  void wait_for_workers() {
    const auto done = [this] { return remaining_.load(std::memory_order_acquire) == 0; };
    if (spin_until(done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, done);
  }

  std::mutex busy_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<int> remaining_{0};
  std::mutex mutex_;
  std::condition_variable done_;
};

// Never destroyed: workers may sleep in it while the process ends.
Pool* pool = nullptr;

// The entry points of OpenMP that compilers generate calls to; found by name, so that nothing is linked.
struct OpenMp {
  void (*parallel)(void (*task)(void*), void* context, unsigned threads, unsigned flags) = nullptr;
  int (*index)() = nullptr;
  int (*size)() = nullptr;

  bool run(Job& job) const {
    if (!parallel) return false;
    Call call{this, &job};
    parallel([](void* context) { static_cast<Call*>(context)->run(); }, &call, static_cast<unsigned>(job.size), 0);
    return true;
  }

 private:
  struct Call {
    const OpenMp* openmp;
    Job* job;
    void run() const { job->run(openmp->index(), openmp->size()); }
  };
};

OpenMp openmp;

// A child of fork() has none of its parent's threads, and perhaps a locked mutex: it starts with a pool of its own.
void start_anew() {
  pool = new Pool;
  openmp = OpenMp{};
}

bool run_on_team(Job& job) {
  static const bool ready = [] {
    pool = new Pool;
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, start_anew);
#endif
    return true;
  }();
  return ready && (openmp.run(job) || pool->run(job));
}

// Where another program has the other cores, a team waits for the scheduler, milliseconds at a time. A call one of whose
// threads waited so for more than a quarter of its time is followed by calls on one thread for a while, twice as long
// each time it happens again; a single wait may just be for a core that slept, and has been woken by it.
constexpr std::chrono::milliseconds kPatience{2}, kShortest{4}, kLongest{256};
std::atomic<Clock::rep> alone_until{0}, alone_for{0};

bool crowded() { return Clock::now().time_since_epoch().count() < alone_until.load(std::memory_order_relaxed); }

void judge(const Job& job) {
  const auto end = Clock::now();
  const Clock::duration waited{job.kept_waiting.load(std::memory_order_relaxed)};
  Clock::duration alone{0};
  if (waited > kPatience && 4 * waited > end - job.start) {
    alone = std::max<Clock::duration>(kShortest, Clock::duration(2 * alone_for.load(std::memory_order_relaxed)));
    alone = std::min<Clock::duration>(alone, kLongest);
    alone_until.store((end + alone).time_since_epoch().count(), std::memory_order_relaxed);
  }
  alone_for.store(alone.count(), std::memory_order_relaxed);
}

}  // namespace

void Barrier::wait(int size) {
  const unsigned round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    taken_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    return;
  }
  const auto passed = [&] { return round_.load(std::memory_order_seq_cst) != round; };
  if (spin_until(passed)) return;
  const auto start = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  wake_.wait(lock, passed);
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  asleep += Clock::now() - start;
}

void parallel(int threads, Task task, const void* context) {
  Job job{task, context, threads};
  if (threads > 1 && !crowded() && run_on_team(job)) return judge(job);
  job.run(0, 1);
}

bool share_openmp() {
#if defined(__unix__) || defined(__APPLE__)
  const auto find = [](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    return function != nullptr;
  };
  OpenMp found;
  if (find("GOMP_parallel", found.parallel) && find("omp_get_thread_num", found.index) &&
      find("omp_get_num_threads", found.size))
    openmp = found;
#endif
  return openmp.parallel != nullptr;
}

int available_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count ? static_cast<int>(count) : 1;
}

float* scratch(std::size_t floats) {
  struct Own : Block {
    ~Own() { std::free(data); }
  };
  static thread_local Own own;
  if (own.floats < floats) {
    std::free(own.data);
    static_cast<Block&>(own) = Block{};
    static_cast<Block&>(own) = allocate(floats);
  }
  return own.data;
}

}  // namespace conveyor
