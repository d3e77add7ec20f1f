// Memory that is written for the first time: fresh pages cost a fault each, and two megabytes have 512 small ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>
#include <vector>

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

// Uninitialised floats, aligned to cache lines.
struct Block {
  float* data = nullptr;
  std::size_t floats = 0;
};

inline Block allocate(std::size_t floats) {
  void* data = nullptr;
  if (posix_memalign(&data, floats * sizeof(float) >= kHugePage ? kHugePage : 64, floats * sizeof(float)))
    throw std::bad_alloc();
  const Block block{static_cast<float*>(data), floats};
  prefer_huge_pages(block.data, block.floats);
  return block;
}

// Arrays that outlive a call. A large one that is given back waits for the next of about its size. Used under the GIL
// alone.
class Pool {
 public:
  Block take(std::size_t floats) {
    if (floats < kLarge) return allocate(floats);
    const auto fits = [&](const Block& block) { return block.floats >= floats && block.floats <= floats / 4 * 5; };
    for (std::size_t n = waiting_.size(); n-- > 0;)
      if (fits(waiting_[n])) return remove(n);
    return allocate(floats);
  }

  void give(Block block) {
    if (block.floats < kLarge) return std::free(block.data);
    waiting_.push_back(block);
    all_ += block.floats;
    while (all_ > kWaitingFloats) std::free(remove(0).data);
  }

 private:
  static constexpr std::size_t kLarge = std::size_t{1} << 18;          // floats
  static constexpr std::size_t kWaitingFloats = std::size_t{1} << 26;  // 256 MiB

  Block remove(std::size_t n) {
    const Block block = waiting_[n];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(n));
    all_ -= block.floats;
    return block;
  }

  std::vector<Block> waiting_;  // the longest waiting first
  std::size_t all_ = 0;
};

// The weights that inference packed, for its next call with the same arrays. Under the GIL alone.
class Packings {
 public:
  // W_ih, W_hh, I, H, P, the cell, the bytes of a value, and how many floats they take as they are packed.
  using Key = std::tuple<const float*, const float*, long, long, long, int, std::size_t, std::size_t>;

  // For one call at a time: what the last one left, else zeros; nothing where there is no room.
  Block take(const Key& key, std::size_t floats) {
    ++calls_;
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
      if (entry->key == key) return remove(entry);
    while (!entries_.empty() && all_ + floats > kFloats && calls_ - entries_.front().call > kCalls)
      std::free(remove(entries_.begin()).data);
    if (all_ + floats > kFloats) return {};
    const Block block = allocate(floats);
    std::memset(block.data, 0, floats * sizeof(float));
    return block;
  }

  void give(const Key& key, Block block) {
    if (!block.data) return;
    entries_.push_back({key, block, calls_});
    all_ += block.floats;
  }

 private:
  static constexpr std::size_t kFloats = std::size_t{1} << 25;  // 128 MiB
  static constexpr long kCalls = 100;                           // without use, until one makes way for others

  struct Entry {
    Key key;
    Block block;
    long call;
  };

  Block remove(std::vector<Entry>::iterator entry) {
    const Block block = entry->block;
    all_ -= block.floats;
    entries_.erase(entry);
    return block;
  }

  std::vector<Entry> entries_;  // the longest unused first
  std::size_t all_ = 0;
  long calls_ = 0;
};

// The workspace of one call. A thread keeps its last one, if that is small, for its next call.
class Memory {
 public:
  explicit Memory(std::size_t floats) {
    std::swap(block_, kept_());
    if (block_.floats >= floats) return;
    std::free(block_.data);
    block_ = Block{};
    block_ = allocate(floats);
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
