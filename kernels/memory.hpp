// Memory that is written for the first time: fresh pages cost a fault each, and two megabytes have 512 small ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace conveyor {

constexpr std::size_t kHugePage = std::size_t{1} << 21;

// Asks for huge pages where an array holds whole ones.
inline void prefer_huge_pages(float* data, std::size_t floats) {
#if defined(__linux__)
  const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(data), to = from + floats * sizeof(float);
  const std::uintptr_t first = (from + kHugePage - 1) / kHugePage * kHugePage, last = to / kHugePage * kHugePage;
  if (data && first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data, (void)floats;
#endif
}

// The workspace of one call: uninitialised floats, aligned to cache lines. A thread keeps its last one, if that is
// small, for its next call.
class Memory {
 public:
  explicit Memory(std::size_t floats) {
    Block& kept = kept_();
    if (kept.floats >= floats) {
      block_ = kept;
      kept = Block{};
      return;
    }
    void* data = nullptr;
    if (posix_memalign(&data, floats * sizeof(float) >= kHugePage ? kHugePage : 64, floats * sizeof(float)))
      throw std::bad_alloc();
    block_ = {static_cast<float*>(data), floats};
    prefer_huge_pages(block_.data, block_.floats);
  }
  ~Memory() {
    if (block_.floats <= kKeptFloats) std::swap(block_, kept_());
    std::free(block_.data);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* data() const { return block_.data; }

 private:
  static constexpr std::size_t kKeptFloats = std::size_t{1} << 24;  // 64 MiB

  struct Block {
    float* data = nullptr;
    std::size_t floats = 0;
  };
  struct Kept : Block {
    ~Kept() { std::free(data); }
  };
  static Block& kept_() {
    static thread_local Kept kept;
    return kept;
  }

  Block block_;
};

}  // namespace conveyor
