// The directions of a layer. Where all threads in one of them would share its rows or weights in pieces too small, both
// go at once, each on half the threads. Each then makes a gradient of the input of its own, and the two are added up: bit
// for bit what one after the other makes, where products go by tiles.
#pragma once

#include "groups.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

template <class E>
bool may_go_at_once(const Forward<E>&) {
  return true;
}
template <class E>
bool may_go_at_once(const Backward<E>& f) {
  if (f.sizes.every > 1) return false;
  return !f.dx.data || (kPack<E> == 1 && by_tiles(f.sizes) && f.sizes.lanes.ticks >= kTileDepth);
}

// Recurrent weights that stay in a core's cache beside what few rows of them make.
constexpr long kOwnWeights = 1 << 17;

template <class Arguments>
bool at_once(const Arguments* directions, int count, long gates, int threads) {
  if (count < 2 || threads < 2 || !may_go_at_once(directions[0])) return false;
  const Sizes& sizes = directions[0].sizes;
  const bool tiles = by_tiles(sizes);
  const long full = tiles ? 2 * kTileRows : kRows, most = tiles ? kPrivateWeights : kOwnWeights;
  return sizes.lanes.count < full * threads && gates * sizes.H * sizes.H <= most;
}

// Multiply-adds of a tick that take about as long as meeting.
constexpr long kMeeting = V >= 16 ? 40000 : 16000;

// Below two million multiply-adds, some tens of microseconds, waking threads costs more than they save; and where they
// meet at every tick, where that takes longer than what they share.
inline int useful(const Sizes& sizes, long gates, bool both, int threads) {
  const int each = both ? threads / 2 : threads;
  const long rows = sizes.lanes.count, tick = rows * gates * sizes.H * sizes.P;
  const long all = sizes.lanes.ticks * (tick + rows * gates * sizes.H * sizes.I);
  if (all < (both ? 1000000 : 2000000)) return 1;
  return by_lanes(sizes, gates, each) || tick >= kMeeting ? threads : both ? 2 : 1;
}

template <class Pass, class Arguments>
class Directions {
 public:
  Directions(const Arguments* directions_, int count_, long gates, int threads_, Workspace& space)
      : directions(directions_),
        count(count_),
        both(at_once(directions, count, gates, threads_)),
        threads(useful(directions[0].sizes, gates, both, threads_)),
        second(directions[both]) {
    if (both) take_dx(second, space);
    for (int d = 0; d <= both; ++d) {
      Workspace needed{nullptr};
      const Pass pass(directions[d], needed);
      memory[d] = space.take(static_cast<long>(needed.used));
    }
  }

  void run() const {
    if (both) return run_both();
    for (int d = 0; d < count; ++d) {
      Workspace space{memory[0]};
      const Pass pass(directions[d], space);
      parallel(threads, [&](const Team& team) {
        const TileRegisters registers;
        pass.run(team);
      });
    }
  }

 private:
  void run_both() const {
    Workspace spaces[] = {{memory[0]}, {memory[1]}};
    const Pass passes[] = {{directions[0], spaces[0]}, {second, spaces[1]}};
    Barrier barriers[2];
    parallel(threads, [&](const Team& team) {
      const TileRegisters registers;
      const int half = team.size / 2, d = team.index >= half;
      if (team.size == 1) passes[0].run(team);
      passes[d].run(team.size == 1 ? team : Team{team.index - d * half, d ? team.size - half : half, &barriers[d]});
      team.meet();
      add_dx(directions[0], second, team);
    });
  }

  template <class E>
  static void take_dx(Forward<E>&, Workspace&) {}
  template <class E>
  static void take_dx(Backward<E>& f, Workspace& space) {
    const Sizes& sizes = f.sizes;
    if (f.dx.data) f.dx = {space.take<E>(sizes.T * sizes.B * sizes.I), sizes.B * sizes.I, sizes.I};
    f.adds_dx = false;
  }

  template <class E>
  static void add_dx(const Forward<E>&, const Forward<E>&, const Team&) {}
  template <class E>
  static void add_dx(const Backward<E>& to, const Backward<E>& from, const Team& team) {
    const Sizes& sizes = to.sizes;
    if (!to.dx.data) return;
    for (long t = team.begin(sizes.T); t < team.end(sizes.T); ++t)
      for (long b = 0; b < sizes.B; ++b) {
        E* const all = to.dx.at(t, b);
        const E* const own = from.dx.at(t, b);
        for (long i = 0; i < sizes.I; i += V)
          store(all + i, load(all + i, sizes.I - i) + load(own + i, sizes.I - i), sizes.I - i);
      }
  }

  const Arguments* const directions;
  const int count;
  const bool both;
  const int threads;
  Arguments second;  // with a gradient of the input of its own
  float* memory[2];
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
