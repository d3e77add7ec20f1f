// Workspace of one call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace conveyor {

// Uninitialised floats, aligned to a cache line or, where there are enough of them, to huge pages: a fresh page costs
// a fault, and two megabytes have 512 small ones.
class Memory {
 public:
  explicit Memory(std::size_t floats) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    const std::size_t align = floats * sizeof(float) >= kHuge ? kHuge : 64;
    const std::size_t bytes = (floats * sizeof(float) + align - 1) / align * align;
    if (bytes == 0) return;
    data_ = static_cast<float*>(std::aligned_alloc(align, bytes));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (align == kHuge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
};

}  // namespace conveyor
