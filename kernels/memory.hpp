// Memory that is written for the first time: fresh pages cost a fault each, and two megabytes have 512 small ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

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

// The workspace of one call: uninitialised floats, aligned to cache lines.
class Memory {
 public:
  explicit Memory(std::size_t floats) {
    const std::size_t align = floats * sizeof(float) >= kHugePage ? kHugePage : 64;
    const std::size_t bytes = (floats * sizeof(float) + align - 1) / align * align;
    if (bytes == 0) return;
    data_ = static_cast<float*>(std::aligned_alloc(align, bytes));
    if (!data_) throw std::bad_alloc();
    prefer_huge_pages(data_, bytes / sizeof(float));
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
};

}  // namespace conveyor
