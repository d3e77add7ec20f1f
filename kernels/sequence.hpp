// What the passes over a sequence, forward and backward in time, have in common.
//
// Threads share the work in one of two ways. With enough lanes for full blocks, and weights that are small, each thread
// takes lanes of its own and never waits. Else each takes hidden units, and so its slice of the weights, and they meet
// once a tick.
#pragma once

#include "cells.hpp"
#include "threads.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Hands out the workspace in order, aligned to cache lines; counts floats where there is none yet.
struct Workspace {
  float* base;
  std::size_t used = 0;

  template <class T = float>
  T* take(long count) {
    T* part = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 16;
    return part;
  }
};

// Recurrent weights beyond this many floats are shared even if there are lanes for each thread, and panels too: all of
// them would stream through every core's cache at each step, where blocks of six rows make more of them than smaller ones.
constexpr long kPrivateWeights = kRows >= 6 ? 1 << 20 : 3 << 14;

// Whether the products of a tick go by tiles: not where a row's result must not depend on how many there are.
inline bool by_tiles(const Sizes& sizes) { return kTiles && !sizes.alone && sizes.lanes.count >= kRowsForTiles; }

inline bool by_lanes(const Sizes& sizes, long gates, int threads) {
  const bool small = gates * sizes.H * sizes.P <= kPrivateWeights, few = ceil_div(sizes.H, kWide * V) < 2 * threads;
  return threads == 1 || (sizes.lanes.count >= kRows * threads && (small || few));
}

// This member's lanes and panels of a tick; and the lanes for which it writes down where their rows lie.
struct Share {
  long l0, l1, j0, j1, own0, own1;

  Share(const Team& team, bool lanes, long count, long panels)
      : l0(lanes ? team.begin(count) : 0),
        l1(lanes ? team.end(count) : count),
        j0(lanes ? 0 : team.begin(panels)),
        j1(lanes ? panels : team.end(panels)),
        own0(team.begin(count)),
        own1(team.end(count)) {}
};

// A step of a row: the step-th in the order of processing, at time t.
struct Place {
  long row, step, t;
  bool first, last;
};

// Where the lanes are at a tick. Each remembers which of its rows it was at.
class Places {
 public:
  Places(const Sizes& sizes, Workspace& space) : sizes_(sizes), row_at_(space.take<long>(sizes.lanes.count)) {}

  void start(long l0, long l1) const {
    for (long l = l0; l < l1; ++l) row_at_[l] = sizes_.lanes.first[l];
  }

  Place at(long tick, long l) const { return find(tick, row_at_[l]); }

  Place ahead(long tick, long l) const {
    long n = row_at_[l];
    return find(tick, n);
  }

  // Lanes that are not yet at their end: the first so many.
  long active(long tick) const {
    long some = 0, none = sizes_.lanes.count + 1;  // the lanes up to some, excluded, are; from none - 1 on they are not
    while (some + 1 < none) {
      const long middle = (some + none) / 2;
      (sizes_.lanes.end[middle - 1] > tick ? some : none) = middle;
    }
    return some;
  }

  long time_of(long row, long step) const { return sizes_.reverse ? sizes_.lanes.length[row] - 1 - step : step; }

  // Whether the state before this step is zero.
  bool fresh(const Place& at) const {
    if (!sizes_.resets || (sizes_.reverse && at.first)) return false;
    return reset(at.t + sizes_.reverse, at.row);
  }

  // Whether the state after a row's last step is given away as zero.
  bool dropped(long row) const {
    return sizes_.resets && sizes_.reverse && sizes_.lanes.length[row] > 0 && reset(0, row);
  }

  // Whether no later step uses the state after this one.
  bool cut(const Place& at) const { return at.last || (sizes_.resets && reset(at.t + !sizes_.reverse, at.row)); }

 private:
  Place find(long tick, long& n) const {
    const Lanes& lanes = sizes_.lanes;
    while (tick < lanes.start[n]) --n;
    while (tick >= lanes.start[n] + lanes.length[lanes.row[n]]) ++n;
    const long row = lanes.row[n], step = tick - lanes.start[n];
    return {row, step, time_of(row, step), step == 0, step + 1 == lanes.length[row]};
  }

  bool reset(long t, long row) const { return sizes_.resets[t * sizes_.B + row]; }

  const Sizes& sizes_;
  long* row_at_;
};

// Ticks from here on that are worked out once more for the backward pass: what is kept of them lies [ticks, lanes].
struct Segment {
  long from = 0;
  float *gates = nullptr, *cells = nullptr;  // null: not once more
};

// Where the gates of a step lie, and the belt after it and before.
template <class Cell>
struct Kept {
  const Sizes& sizes;
  const Places& places;
  const long kept, width;  // values a step of gates and of belt
  float *all_gates, *all_cells, *newest;
  const float *c_0, *zeros;

  // Only the newest cell state of each row is at hand.
  bool running() const { return !all_cells || sizes.every > 1; }

  float* gates(const Place& at, long tick, long l, const Segment& segment) const {
    if (segment.gates) return segment.gates + ((tick - segment.from) * sizes.lanes.count + l) * kept;
    return all_gates ? all_gates + (at.t * sizes.B + at.row) * kept : nullptr;
  }

  float* c(const Place& at, long tick, long l, const Segment& segment) const {
    if (!Cell::kBelt) return nullptr;
    if (segment.cells) return segment.cells + ((tick - segment.from) * sizes.lanes.count + l) * sizes.H;
    return running() ? newest + at.row * sizes.H : all_cells + (at.t * sizes.B + at.row) * sizes.H;
  }

  const float* c_before(const Place& at, long tick, long l, const Segment& segment) const {
    if (!Cell::kBelt) return nullptr;
    if (places.fresh(at)) return zeros;
    if (at.first) return c_0 + at.row * sizes.H;
    if (segment.cells && tick == segment.from) return belt(tick, l);
    const long before = at.step - 1;
    return c({at.row, before, places.time_of(at.row, before), before == 0, false}, tick - 1, l, segment);
  }

  // Before the tick, which is one of every so many; behind it, the gates that the next step sees.
  float* belt(long tick, long l) const { return all_cells + (tick / sizes.every * sizes.lanes.count + l) * width; }
};

// The sums of one row and panel: G vectors, of which vector g lies at from + g V.
template <int G>
CONVEYOR_INLINE void load_all(Vec (&sums)[G], const float* from) {
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) sums[g] = load(from + g * V);
}

template <int G>
CONVEYOR_INLINE void store_all(float* to, const Vec (&sums)[G]) {
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) store(to + g * V, sums[g]);
}

template <class E>
void clear(E* values, long count) {
  std::memset(static_cast<void*>(values), 0, static_cast<size_t>(count) * sizeof(E));
}

template <class To, class From>
void convert(To* to, const From* from, long count) {
  for (long n = 0; n < count; n += V) store(to + n, load(from + n, count - n), count - n);
}

template <class E>
void copy(E* to, const E* from, long count) {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(E));
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
