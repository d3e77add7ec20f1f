// A cell carried over a sequence, forward in time.
#pragma once

#include "tables.hpp"
#include "variant.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

template <class Cell, class E>
class ForwardPass {
 public:
  ForwardPass(const Forward<E>& forward, Workspace& space)
      : f(forward),
        sizes(f.sizes),
        L(sizes.lanes.count),
        H(sizes.H),
        P(sizes.P),
        cell(f.options, H),
        R(cell.fed(P)),
        layout(columns(cell), by_tiles(sizes)),
        outputs(P, by_tiles(sizes)),
        places(sizes, space),
        common(L > kRows && !layout.tiled ? layout.panels / kCommon : 0),
        ahead(ticks_ahead(sizes, cell.gates, layout.tiled, apart(cell))),
        keeping{f.packed},
        seen(f.packed ? keeping.take<std::uint64_t>(layout.panels) : nullptr),
        w_ih((f.packed ? keeping : space).take(packed<E>(layout, sizes.I))),
        w_hh((f.packed ? keeping : space).take(packed<E>(layout, R))),
        w_hr(space.take(f.weights.w_hr ? packed<E>(outputs, H) : 0)),
        bias(space.take(layout.floats(1))),
        bias_hh(space.take(layout.floats(1))),
        zeros(space.take<E>(widest())),
        c_zeros(space.take(H)),
        projected(space.take(Cell::kByRow ? ahead * L * layout.n : layout.floats(ahead * L))),
        hidden(space.take<E>(f.weights.w_hr || sizes.every > 1 ? L * H : 0)),
        x_ahead(space.take<const E*>(2 * ahead * L)),
        x(space.take<const E*>(2 * L)),
        h_before(space.take<const E*>(2 * L)),
        c_before(space.take<const float*>(2 * L)),
        h(space.take<E*>(2 * L)),
        y(space.take<E*>(2 * L)),
        c(space.take<float*>(2 * L)),
        gates(space.take<float*>(2 * L)),
        noise(space.take<const float*>(2 * L)),
        by_row(space, cell, L, R),
        kept{sizes, places, cell.kept() * H, H + R - P, f.gates, f.cells, f.c_n, f.c_0, c_zeros} {}

  // What is kept of the weights from call to call: each panel's fingerprint and the panels.
  static std::size_t packed_floats(const Forward<E>& f) {
    const Cell cell(f.options, f.sizes.H);
    const typename Cell::Layout layout(columns(cell), by_tiles(f.sizes));
    Workspace space{nullptr};
    space.take<std::uint64_t>(layout.panels);
    space.take(packed<E>(layout, f.sizes.I));
    space.take(packed<E>(layout, cell.fed(f.sizes.P)));
    return space.used;
  }

  void run(const Team& team) const {
    if (sizes.lanes.ticks == 1 && !Cell::kByRow) {
      single_tick(team);
    } else {
      prepare(team);
      advance(sizes.lanes.ticks, Segment{}, team);
    }
    for (long b = team.begin(sizes.B); b < team.end(sizes.B); ++b) end_row(b);
  }

  void prepare(const Team& team) const {
    pack_weights(team.begin(layout.panels), team.end(layout.panels), 0, w_ih, w_hh);
    prepare_tables(team);
  }

  // The segment's ticks before `to`, which all members of the team enter together and leave together.
  void advance(long to, const Segment& segment, const Team& team) const {
    const bool lanes = by_lanes(sizes, cell.gates, team.size);
    const Share mine(team, lanes, L, layout.panels);
    const bool shared = !lanes && team.size > 1 && common > 0;
    if (segment.from < to) place(segment.from, segment, mine);
    team.meet();
    for (long tick = segment.from; tick < to; ++tick) {
      if (Cell::kByRow) keep_belt(tick, segment, mine);
      if (shared)
        step_in_common(tick, segment, mine, team);
      else
        step_panels(tick, segment, mine);
      if constexpr (Cell::kByRow) {
        if (!lanes) team.meet();
        step_rows(tick, segment, mine);
      }
      if (f.weights.w_hr && !segment.gates) {
        if (!lanes) team.meet();
        project_output(tick, lanes, mine, team);
        if constexpr (Cell::kByRow) {
          if (!lanes) team.meet();
          bound_rows(tick, mine);
        }
      }
      if (tick + 1 < to) place(tick + 1, segment, mine);
      if (!lanes) team.meet();
    }
    team.meet();
  }

 private:
  static constexpr long kProjectedRows = 96, kProjectedTiles = 192, kProjectedLarge = 768;
  static constexpr long kLarge = 1 << 20;  // weights of the input
  static constexpr long kCommon = 5;       // of so many panels one is whoever's takes it; none on tiles

  // Of the panels that hold its sums: the units, or all sums in a row.
  static long columns(const Cell& cell) { return Cell::kByRow ? cell.gates * cell.H : cell.H; }

  // Panels [j0, j1), of which panel `start` is the first there. Those that are kept are packed where they have changed.
  void pack_weights(long j0, long j1, long start, float* to_ih, float* to_hh) const {
    for (long j = j0; j < j1; ++j) {
      if (seen) {
        const std::uint64_t now = fingerprint(j);
        if (now == seen[j]) continue;
        seen[j] = now;
      }
      pack<E>(layout, f.weights.w_ih, sizes.I, to_ih, j, j + 1, start);
      pack<E>(layout, f.weights.w_hh, R, to_hh, j, j + 1, start);
    }
  }

  std::uint64_t fingerprint(long j) const {
    Fingerprint print;
    add_panel(print, layout, f.weights.w_ih, sizes.I, j);
    add_panel(print, layout, f.weights.w_hh, R, j);
    return print.value();
  }

  void prepare_tables(const Team& team) const {
    if (f.weights.w_hr) pack<E>(outputs, f.weights.w_hr, H, w_hr, team.begin(outputs.panels), team.end(outputs.panels));
    prepare_bias(team.begin(layout.panels), team.end(layout.panels));
    places.start(team.begin(L), team.end(L));
    if (team.index != 0) return;
    clear(zeros, widest());
    clear(c_zeros, H);
  }

  // Of a single tick the weights are used once: a few panels at a time are packed where they stay in the cache, unless
  // they are kept.
  void single_tick(const Team& team) const {
    prepare_tables(team);
    Share mine(team, false, L, layout.panels);
    place(0, Segment{}, mine);
    team.meet();
    const long last = mine.j1, first = seen ? 0 : mine.j0;
    float* const own_ih = panel_at(w_ih, first, depth_of<E>(layout.tiled, sizes.I));
    float* const own_hh = panel_at(w_hh, first, depth_of<E>(layout.tiled, R));
    for (; mine.j0 < last; mine.j0 = mine.j1) {
      mine.j1 = mine.j0 + (L == 1 ? panels_of_next(last - mine.j0, L) : 1);
      const long start = seen ? 0 : mine.j0;
      pack_weights(mine.j0, mine.j1, start, own_ih, own_hh);
      const Packed weights{own_ih, own_hh, start};
      if (ahead) project(x_ahead, weights, mine);
      step(0, Segment{}, weights, mine);
    }
    team.meet();
    if (f.weights.w_hr) project_output(0, false, mine, team);
    team.meet();
  }

  // The packed weights at hand: from panel `start` on.
  struct Packed {
    const float *w_ih, *w_hh;
    long start;
  };

  // Whether the sums of the input are wanted by themselves.
  static bool apart(const Cell& cell) {
    if constexpr (Cell::kByRow)
      return cell.norms;
    else
      return Cell::kApart;
  }

  // Few lanes: their input is projected for many ticks at once, so that its weights are not read at each; on tiles, so
  // that they are full. So is that of weights too large for a cache, where to read them takes longer than to put the
  // sums down and take them up again. As many blocks as that takes, and all alike.
  static long ticks_ahead(const Sizes& sizes, long gates, bool tiled, bool apart) {
    const Lanes& lanes = sizes.lanes;
    if (lanes.count == 0 || lanes.ticks == 0) return 0;
    const bool few = lanes.count < (tiled ? 4 * kTileRows : kRows);
    const bool large = !tiled && lanes.ticks > 1 && sizes.I >= 4 * lanes.count && gates * sizes.H * sizes.I >= kLarge;
    if (!few && !large) return apart ? 1 : 0;
    const long rows = tiled ? kProjectedTiles : large ? kProjectedLarge : kProjectedRows;
    const long ticks = ceil_div(lanes.ticks, ceil_div(lanes.ticks * lanes.count, rows));
    return sizes.every > 1 ? least(ticks, sizes.every) : ticks;
  }

  long widest() const { return sizes.I > R ? sizes.I : R; }

  // The recurrent bias is added to the input's, but where it stands apart.
  void prepare_bias(long j0, long j1) const {
    const long from = j0 * kWide * V, to = j1 * kWide * V;
    clear(bias + from, to - from);
    clear(bias_hh + from, to - from);
    if (!f.weights.b_ih) return;
    if (Cell::kByRow) {
      for (long n = from; n < least(to, layout.n); ++n) bias[n] = f.weights.b_ih[n] + f.weights.b_hh[n];
      return;
    }
    const typename Cell::Layout plain(layout.n);
    pack<float>(plain, f.weights.b_ih, 1, bias, j0, j1);
    pack<float>(plain, f.weights.b_hh, 1, bias_hh, j0, j1);
    for (long n = from; n < to; ++n)
      if (!Cell::kApart || n % (kWide * V) < 2 * V) bias[n] += bias_hh[n];
  }

  // Before the ticks from which backward works out the others again.
  void keep_belt(long tick, const Segment& segment, const Share& mine) const {
    if (!Cell::kBelt || sizes.every == 1 || segment.gates || tick % sizes.every != 0) return;
    if constexpr (Cell::kByRow) {
      for (long l = mine.own0; l < least(mine.own1, places.active(tick)); ++l) {
        copy(kept.belt(tick, l), c_before[turn(tick) + l], H);
        if (R > P) convert(kept.belt(tick, l) + H, by_row.fed + l * R + P, R - P);
      }
      return;
    }
    const long u = mine.j0 * V, count = least(mine.j1 * V, H) - u;
    for (long l = mine.l0; l < least(mine.l1, places.active(tick)); ++l)
      copy(kept.belt(tick, l) + u, c_before[turn(tick) + l] + u, count);
  }

  // Two ticks take turns in the tables: while one is computed the next is written down.
  long turn(long tick) const { return tick % 2 * L; }

  void place(long tick, const Segment& segment, const Share& mine) const {
    const long end = least(mine.own1, places.active(tick));
    for (long l = mine.own0; l < end; ++l) {
      const Place at = places.at(tick, l);
      const long n = turn(tick) + l, b = at.row;
      x[n] = f.x.at(at.t, b);
      h_before[n] = places.fresh(at) ? zeros : at.first ? f.h_0 + b * R : f.y.at(places.time_of(b, at.step - 1), b);
      c_before[n] = kept.c_before(at, tick, l, segment);
      y[n] = f.y.at(at.t, b);
      h[n] = f.weights.w_hr || segment.gates ? hidden + l * H : y[n];
      c[n] = kept.c(at, tick, l, segment);
      gates[n] = kept.gates(at, tick, l, segment);
      noise[n] = f.noise.data ? f.noise.at(at.t, at.row) : nullptr;
      if constexpr (Cell::kByRow) place_by_row(at, tick, l, segment);
    }
    if (starts_ahead(tick, segment)) place_ahead(tick, next_ahead(tick, segment), mine);
  }

  void place_by_row(const Place& at, long tick, long l, const Segment& segment) const {
    const long n = turn(tick) + l;
    if (!gates[n]) gates[n] = by_row.gates + l * kept.kept;
    by_row.y_before[n] = h_before[n];
    by_row.tail[n] = R > P && at.last && !segment.gates ? f.h_n + at.row * R + P : nullptr;
    if (!cell.feeds()) return;
    E* const fed = by_row.fed + l * R;
    if (places.fresh(at) || at.first)
      copy(fed + P, h_before[n] + P, R - P);
    else if (segment.gates && tick == segment.from)
      convert(fed + P, kept.belt(tick, l) + H, R - P);
    cell.feed(fed, h_before[n], noise[n], P);
    h_before[n] = fed;
  }

  bool starts_ahead(long tick, const Segment& segment) const { return ahead && (tick - segment.from) % ahead == 0; }

  // Two tables take turns here as well.
  const E** next_ahead(long tick, const Segment& segment) const {
    return x_ahead + (tick - segment.from) / ahead % 2 * ahead * L;
  }

  void place_ahead(long tick, const E** table, const Share& mine) const {
    for (long l = mine.own0; l < mine.own1; ++l)
      for (long p = 0; p < ahead; ++p) {
        const bool ended = tick + p >= sizes.lanes.end[l];
        const Place at = ended ? Place{} : places.ahead(tick + p, l);
        table[row_ahead(p, l, mine)] = ended ? zeros : f.x.at(at.t, at.row);
      }
  }

  // The row of what is projected together that is lane l's, p ticks on: the lanes of a tick lie side by side.
  long row_ahead(long p, long l, const Share& mine) const {
    return mine.l0 * ahead + p * (mine.l1 - mine.l0) + l - mine.l0;
  }
  float* waiting(long r, long j) const { return projected + (j * L * ahead + r) * kWide * V; }

  void project(const E* const* table, const Packed& weights, const Share& mine) const {
    const Term<E> term(Left<E>(table), sizes.I, weights.w_ih, weights.start);
    if constexpr (Cell::kByRow)
      return multiply_into(layout, mine.l0 * ahead, mine.l1 * ahead, mine.j0, mine.j1, term,
                           Right<float>{nullptr, projected, layout.n, 0, ahead * L}, false);
    else
      multiply(
          layout, mine.l0 * ahead, mine.l1 * ahead, mine.j0, mine.j1, Terms<E>{&term, 1},
          [&](long, long j, auto& sums) { load_all(sums, bias + j * kWide * V); },
          [&](long r, long j, auto& sums) { store_all(waiting(r, j), sums); });
  }

  // Each member's own panels, then of those that nobody owns: cores are not alike, and some are interrupted.
  void step_in_common(long tick, const Segment& segment, Share some, const Team& team) const {
    const long owned = layout.panels - common;
    some.j0 = team.begin(owned), some.j1 = team.end(owned);
    step_panels(tick, segment, some);
    while ((some.j0 = owned + team.take()) < layout.panels) {
      some.j1 = some.j0 + 1;
      step_panels(tick, segment, some);
    }
  }

  // All that a tick does with these panels, by one member: none waits for what another makes of them.
  void step_panels(long tick, const Segment& segment, const Share& some) const {
    const Packed weights{w_ih, w_hh, 0};
    if (starts_ahead(tick, segment)) project(next_ahead(tick, segment), weights, some);
    if (!Cell::kByRow) keep_belt(tick, segment, some);
    step(tick, segment, weights, some);
  }

  // sums = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, and the cell's own part.
  void step(long tick, const Segment& segment, const Packed& weights, const Share& mine) const {
    const long n = turn(tick), end = least(mine.l1, places.active(tick));
    const ForwardStep<E> at{h_before + n, c_before + n, c + n, h + n, f.gates || segment.gates ? gates + n : nullptr,
                            noise + n};
    const Term<E> terms[] = {{Left<E>(x + n), sizes.I, weights.w_ih, weights.start},
                             {Left<E>(h_before + n), R, weights.w_hh, weights.start}};
    if constexpr (Cell::kByRow)
      sum_rows(tick, segment, mine, end, terms);
    else
      fused_step(tick, segment, mine, end, terms, at);
  }

  // The sums of all rows, in one; of a norm those of the input stay apart.
  void sum_rows(long tick, const Segment& segment, const Share& mine, long end, const Term<E> (&terms)[2]) const {
    const long p = ahead ? (tick - segment.from) % ahead : 0;
    const bool goes_on = ahead && !apart(cell);
    multiply(
        layout, mine.l0, end, mine.j0, mine.j1, Terms<E>{terms + (ahead > 0), ahead ? 1 : 2},
        [&](long l, long j, auto& sums) {
          if (goes_on)
            load_columns(layout, projected + row_ahead(p, l, mine) * layout.n, j, sums);
          else
            for (Vec& sum : sums) sum = Vec{};
        },
        [&](long l, long j, auto& sums) { store_columns(layout, by_row.h_sums + l * layout.n, j, sums); });
  }

  void fused_step(long tick, const Segment& segment, const Share& mine, long end, const Term<E> (&terms)[2],
                  const ForwardStep<E>& at) const {
    const auto show = [&](long l, long j, auto& sums) { Cell::show(at, layout, l, j, sums); };
    if (!ahead)
      return multiply(
          layout, mine.l0, end, mine.j0, mine.j1, Terms<E>{terms, 2},
          [&](long, long j, auto& sums) { load_all(sums, bias + j * kWide * V); },
          InTwo{[&](long l, long j, auto& sums) { Cell::forward(at, layout, l, j, sums, nullptr); }, show});
    const long p = (tick - segment.from) % ahead;
    multiply(
        layout, mine.l0, end, mine.j0, mine.j1, Terms<E>{terms + 1, 1},
        [&](long l, long j, auto& sums) {
          load_all(sums, waiting(row_ahead(p, l, mine), j));
          if constexpr (Cell::kApart) sums[2] = load(bias_hh + j * kWide * V + 2 * V);
        },
        InTwo{[&](long l, long j, auto& sums) {
                Cell::forward(at, layout, l, j, sums, waiting(row_ahead(p, l, mine), j));
              },
              show});
  }

  void step_rows(long tick, const Segment& segment, const Share& mine) const {
    const long p = ahead ? (tick - segment.from) % ahead : 0;
    for (long l = mine.own0; l < least(mine.own1, places.active(tick)); ++l) {
      const long n = turn(tick) + l;
      float* const x_sums = apart(cell) ? projected + row_ahead(p, l, mine) * layout.n : nullptr;
      float* const h_sums = by_row.h_sums + l * layout.n;
      cell.forward(RowForward<E>{x_sums, h_sums, bias, by_row.y_before[n], c_before[n], noise[n], gates[n], c[n], h[n]},
                   f.weights.vectors);
      if (R == P) continue;
      cell.see(by_row.fed + l * R + P, gates[n]);
      if (by_row.tail[n]) copy(by_row.tail[n], by_row.fed + l * R + P, R - P);
    }
  }

  void bound_rows(long tick, const Share& mine) const {
    if (cell.proj_clip > 1e30f) return;
    for (long l = mine.own0; l < least(mine.own1, places.active(tick)); ++l) {
      E* const row = y[turn(tick) + l];
      for (long u = 0; u < P; u += V) store(row + u, Cell::bounded(load(row + u, P - u), cell.proj_clip), P - u);
    }
  }

  // y = W_hr h
  void project_output(long tick, bool lanes, const Share& mine, const Team& team) const {
    const Term<E> term(Left<E>(h + turn(tick)), H, w_hr);
    const long j0 = lanes ? 0 : team.begin(outputs.panels), j1 = lanes ? outputs.panels : team.end(outputs.panels);
    multiply_into(outputs, mine.l0, least(mine.l1, places.active(tick)), j0, j1, term, Right<E>{y + turn(tick)}, false);
  }

  // The final state of a row, and zeros where it has no step.
  void end_row(long b) const {
    const long length = sizes.lanes.length[b], last = length ? places.time_of(b, length - 1) : 0;
    const bool idle = length == 0 || places.dropped(b);
    copy(f.h_n + b * R, places.dropped(b) ? zeros : length ? f.y.at(last, b) : f.h_0 + b * R, idle ? R : P);
    if (Cell::kBelt) {
      const float* state = kept.running() ? f.c_n + b * H : f.cells + (last * sizes.B + b) * H;
      if (length == 0) state = f.c_0 + b * H;
      if (places.dropped(b)) state = c_zeros;
      if (state != f.c_n + b * H) copy(f.c_n + b * H, state, H);
    }
    for (long t = length; t < sizes.T; ++t) clear(f.y.at(t, b), P);
  }

  const Forward<E>& f;
  const Sizes& sizes;
  const long L, H, P;
  const Cell cell;
  const long R;
  const typename Cell::Layout layout;
  const Columns outputs;
  const Places places;
  const long common;  // panels that nobody owns, the last so many
  const long ahead;
  Workspace keeping;
  std::uint64_t* seen;  // null: the packed weights are not kept
  float *w_ih, *w_hh, *w_hr, *bias, *bias_hh;
  E* zeros;
  float *c_zeros, *projected;
  E* hidden;
  const E **x_ahead, **x, **h_before;
  const float** c_before;
  E **h, **y;
  float **c, **gates;
  const float** noise;
  const RowTables<Cell, E> by_row;
  const Kept<Cell> kept;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
