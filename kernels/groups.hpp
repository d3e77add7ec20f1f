// Groups of lanes that go back through time each by itself, on a team of its own: threads that made the gradients of the
// weights together would read most of what they multiply from one another's caches. The groups depend on the sizes alone,
// so that the results do not depend on the number of threads.
#pragma once

#include "backward.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

template <class Cell, class E>
class BackwardGroups {
 public:
  BackwardGroups(const Backward<E>& backward, Workspace& space)
      : f(backward), cell(f.options, f.sizes.H), R(cell.fed(f.sizes.P)), G(cell.gates * f.sizes.H), count(count_of()) {
    for (long n = 0; n < count; ++n) {
      groups[n] = group(n);
      Workspace needed{nullptr};
      const BackwardPass<Cell, E> pass(groups[n], needed);
      memory[n] = space.take(static_cast<long>(needed.used));
    }
    for (long n = 1; n < count; ++n) take_gradients(groups[n], space);
  }

  void run(const Team& team) const {
    const long teams = least(team.size, count), own = ((team.index + 1) * teams - 1) / team.size;
    const int first = static_cast<int>(own * team.size / teams), next = static_cast<int>((own + 1) * team.size / teams);
    const Team mine{team.index - first, next - first, &barriers[own]};
    for (long n = count * own / teams; n < count * (own + 1) / teams; ++n) {
      Workspace space{memory[n]};
      const BackwardPass<Cell, E> pass(groups[n], space);
      pass.run(mine);
    }
    if (count == 1) return;
    team.meet();
    add(&Backward<E>::dw_ih, G * f.sizes.I, team);
    add(&Backward<E>::dw_hh, G * R, team);
    add(&Backward<E>::dw_hr, f.sizes.P * f.sizes.H, team);
    add(&Backward<E>::db_ih, G, team);
    add(&Backward<E>::db_hh, G, team);
    add(&Backward<E>::dvectors, cell.vectors(), team);
  }

 private:
  static constexpr long kMost = 4;
  static constexpr long kGroupLanes = 16;  // at least
  static constexpr long kSharedLanes = 6;  // where rows of unequal lengths share them, but on tiles
  // Each group has gradients of the weights of its own: of few enough weights to stay in the cache of a core.
  static constexpr long kGroupWeights = 1 << 17;

  long count_of() const {
    const Sizes& sizes = f.sizes;
    if (sizes.every > 1 || G * (sizes.I + R) > kGroupWeights) return 1;
    const long full = least(sizes.lanes.count / kGroupLanes, kMost);
    if (full < 2 && sizes.lanes.shared() && !by_tiles(sizes) && sizes.lanes.count >= 2 * kSharedLanes) return 2;
    return full < 1 ? 1 : full;
  }

  Backward<E> group(long n) const {
    Backward<E> part = f;
    Lanes& lanes = part.sizes.lanes;
    const long l0 = lanes.count * n / count, l1 = lanes.count * (n + 1) / count;
    lanes.ticks = l0 < l1 ? lanes.end[l0] : 0;
    lanes.count = l1 - l0;
    lanes.end += l0;
    lanes.first += l0;
    return part;
  }

  // All but the first, which writes to where the caller wants them.
  void take_gradients(Backward<E>& part, Workspace& space) const {
    const auto own = [&](float*& gradient, long size) { gradient = gradient ? space.take(size) : nullptr; };
    own(part.dw_ih, G * f.sizes.I);
    own(part.dw_hh, G * R);
    own(part.dw_hr, f.sizes.P * f.sizes.H);
    own(part.db_ih, G);
    own(part.db_hh, G);
    own(part.dvectors, cell.vectors());
  }

  void add(float* Backward<E>::* gradient, long size, const Team& team) const {
    float* const all = f.*gradient;
    if (!all) return;
    const long end = team.end(size);
    for (long m = team.begin(size); m < end; m += V) {
      Vec sum = load(all + m, end - m);
      for (long n = 1; n < count; ++n) sum += load(groups[n].*gradient + m, end - m);
      store(all + m, sum, end - m);
    }
  }

  const Backward<E>& f;
  const Cell cell;
  const long R, G, count;
  Backward<E> groups[kMost];
  float* memory[kMost];
  mutable Barrier barriers[kMost];
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
