// Back-propagation through time. The ticks go in blocks of about kBlockRows rows: the gradients of their sums are first
// computed tick by tick, then multiplied into those of the weights and the input while still in the cache.
#pragma once

#include "block_gradients.hpp"
#include "forward.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

template <class Cell, class E>
class BackwardPass {
 public:
  BackwardPass(const Backward<E>& backward, Workspace& space)
      : f(backward),
        sizes(f.sizes),
        L(sizes.lanes.count),
        ticks(sizes.lanes.ticks),
        H(sizes.H),
        P(sizes.P),
        cell(f.options, H),
        R(cell.fed(P)),
        S(cell.sums()),
        G(cell.gates * H),
        units(H, by_tiles(sizes)),
        outputs(P, units.tiled),
        fed(R, units.tiled),
        projects(f.weights.w_hr != nullptr),
        anew(sizes.every > 1 && Cell::kKeeps),
        block(anew ? least(sizes.every, ticks) : ceil_div(ticks, blocks_of(sizes.lanes))),
        places(sizes, space),
        w_hh(space.take(packed<E>(fed, G))),
        w_hr(space.take(projects ? packed<E>(units, P) : 0)),
        zeros(space.take<E>(S > R ? S : R)),
        no_carry(space.take(H)),
        carry(space.take(Cell::kCarries ? L * H : 0)),
        dsums(space.take<E>((block + 1) * L * S)),
        dsums_first(space.take<E>(f.dh_0 ? sizes.B * S : 0)),
        dh_first(space.take(Cell::kByRow && f.dh_0 && cell.keeps_output() ? sizes.B * P : 0)),
        firsts(space.take<const E*>(f.dh_0 ? sizes.lanes.rows() : 0)),
        dh_0s(space.take<float*>(f.dh_0 ? sizes.lanes.rows() : 0)),
        of_block(backward, cell, block, dsums ? slot(0) : nullptr, space),
        rows(of_block.rows),
        at(space, L),
        by_row(space, cell, L, R, P, block),
        kept{sizes,   places, cell.kept() * H, H + R - P, const_cast<float*>(f.gates), const_cast<float*>(f.cells),
             nullptr, f.c_0,  no_carry},
        gates(space.take(anew ? block * L * kept.kept : 0)),
        cells(space.take(anew && Cell::kBelt ? block * L * H : 0)),
        first_time(arguments_of_forward()),
        again(first_time, anew ? space : unused) {}

  void run(const Team& team) const {
    const bool lanes = by_lanes(sizes, cell.gates, team.size);
    const Share mine(team, lanes, L, units.panels);
    prepare(team);
    for (long to = ticks, from, count = 0; to > 0; to = from) {
      team.meet();
      if (to < ticks) keep_last(count, team);
      from = (to - 1) / block * block;
      count = to - from;
      const Segment segment = anew ? Segment{from, gates, cells} : Segment{};
      team.meet();
      if (team.index == 0) count_rows(to, count);
      if (anew) again.advance(to, segment, team);
      team.meet();
      place(to, 0, segment, mine);
      if (!lanes) team.meet();
      for (long p = 0; p < count; ++p) {
        if constexpr (Cell::kByRow)
          step_by_row(p, lanes, mine, team);
        else
          step(p, lanes, mine, team);
        if (p + 1 < count) place(to, p + 1, segment, mine);
        if (!lanes) team.meet();
      }
      team.meet();
      of_block.finish(rows.base[count], to == ticks, team);
    }
    team.meet();
    end(team);
  }

 private:
  static constexpr long kBlockRows = 384;

  // As many as come nearest to that size, and all alike.
  static long blocks_of(const Lanes& lanes) {
    const long blocks = (lanes.ticks * lanes.count + kBlockRows / 2) / kBlockRows;
    return blocks < 1 ? 1 : least(blocks, lanes.ticks < 1 ? 1 : lanes.ticks);
  }

  // What the forward pass was called with; its results are not written again.
  Forward<E> arguments_of_forward() const {
    const Rows<E> y{const_cast<E*>(f.y.data), f.y.step, f.y.row};
    return {f.cell,
            f.options,
            sizes,
            f.weights,
            f.x,
            f.noise,
            f.h_0,
            f.c_0,
            y,
            nullptr,
            nullptr,
            nullptr,
            const_cast<float*>(f.cells),
            nullptr};
  }

  void prepare(const Team& team) const {
    const auto row = [](const float* w, long width) { return [=](long k) { return w + k * width; }; };
    pack_rows<E>(fed, row(f.weights.w_hh, R), G, w_hh, team.begin(fed.panels), team.end(fed.panels));
    if (projects)
      pack_rows<E>(units, row(f.weights.w_hr, H), P, w_hr, team.begin(units.panels), team.end(units.panels));
    of_block.prepare(team);
    places.start(team.begin(L), team.end(L));
    if (anew) again.prepare(team);
    if (team.index != 0) return;
    clear(zeros, S > R ? S : R);
    clear(no_carry, H);
  }

  // The gradients of the sums of the block's rows, after those of the tick before it.
  E* slot(long k) const { return dsums + (L + k) * S; }

  // The p-th tick of a block that ends before the tick `to`.
  static long tick_of(long to, long p) { return to - 1 - p; }

  void count_rows(long to, long count) const {
    rows.base[0] = 0;
    for (long p = 0; p < count; ++p) rows.base[p + 1] = rows.base[p] + places.active(tick_of(to, p));
  }

  // The last tick of a block of so many follows the next block's first.
  void keep_last(long count, const Team& team) const {
    const long start = rows.base[count - 1], values = (rows.base[count] - start) * S;
    const long from = team.begin(values), to = team.end(values);
    copy(dsums + from, slot(start) + from, to - from);
  }

  long turn(long p) const { return p % 2 * L; }

  void place(long to, long p, const Segment& segment, const Share& mine) const {
    const long tick = tick_of(to, p), end = least(mine.own1, rows.base[p + 1] - rows.base[p]);
    for (long l = mine.own0; l < end; ++l) {
      const Place step = places.at(tick, l);
      place_row(step, rows.base[p] + l);
      place_step(step, tick, p, l, segment);
      if constexpr (Cell::kByRow) place_by_row(step, tick, p, l, segment);
    }
  }

  void place_row(const Place& step, long k) const {
    const long b = step.row, t = step.t;
    rows.x[k] = f.x.at(t, b);
    rows.h_before[k] = places.fresh(step) ? zeros
                       : step.first       ? f.h_0 + b * R
                                          : f.y.at(places.time_of(b, step.step - 1), b);
    rows.dx[k] = f.dx.data ? f.dx.at(t, b) : nullptr;
    rows.first[k] = f.dh_0 && step.first ? dsums_first + b * S : nullptr;
    rows.out[k] = f.dsums ? f.dsums + (t * sizes.B + b) * S : nullptr;
  }

  void place_step(const Place& step, long tick, long p, long l, const Segment& segment) const {
    const long n = turn(p) + l, b = step.row, place = (step.t * sizes.B + b) * H;
    const bool cut = places.cut(step), given = step.last && !places.dropped(b);
    float* const carry_0 = Cell::kBelt ? f.dc_0 : f.dh_0;
    at.after[n] = cut ? zeros : p == 0 ? dsums + l * S : slot(rows.base[p - 1] + l);
    at.h[n] = f.y.at(step.t, b);
    at.dy[n] = f.dy.data ? f.dy.at(step.t, b) : nullptr;
    at.dh_n[n] = f.dh_n && given ? f.dh_n + b * R : nullptr;
    at.c_before[n] = kept.c_before(step, tick, l, segment);
    at.c[n] = kept.c(step, tick, l, segment);
    at.gates[n] = kept.gates(step, tick, l, segment);
    at.dgates[n] = f.dgates ? f.dgates + kept.kept * (step.t * sizes.B + b) : nullptr;
    at.dcells[n] = f.dcells ? f.dcells + place : nullptr;
    at.carry[n] = !cut ? carry + l * H : Cell::kBelt && given && f.dc_n ? f.dc_n + b * H : no_carry;
    at.carry_before[n] = step.first && carry_0 ? carry_0 + b * H : carry + l * H;
    at.noise[n] = f.noise.data ? f.noise.at(step.t, b) : nullptr;
    at.dnoise[n] = f.dnoise ? f.dnoise + place * cell.noise() : nullptr;
  }

  void place_by_row(const Place& step, long tick, long p, long l, const Segment& segment) const {
    const long n = turn(p) + l, b = step.row, k = rows.base[p] + l;
    const bool cut = places.cut(step);
    by_row.noise_after[n] = f.noise.data && !cut ? f.noise.at(places.time_of(b, step.step + 1), b) : at.noise[n];
    by_row.flags[n] = {cut, step.first && f.dh_0 ? dh_first + b * P : nullptr};
    if (!cell.feeds()) return;
    E* const row = by_row.fed + k * R;
    cell.feed(row, rows.h_before[k], at.noise[n], P);
    if (R > P) place_seen(step, tick, k, l, segment, row + P);
    rows.h_before[k] = row;
  }

  // The gates of the step before.
  void place_seen(const Place& step, long tick, long k, long l, const Segment& segment, E* to) const {
    if (places.fresh(step) || step.first) return copy(to, rows.h_before[k] + P, R - P);
    if (segment.gates && tick == segment.from) return convert(to, kept.belt(tick, l) + H, R - P);
    const long before = step.step - 1;
    cell.see(
        to, kept.gates({step.row, before, places.time_of(step.row, before), before == 0, false}, tick - 1, l, segment));
  }

  // The same by rows: the products into memory, then what the cell does between and after them.
  void step_by_row(long p, bool lanes, const Share& mine, const Team& team) const {
    const long n = turn(p), k = rows.base[p], end = least(mine.l1, rows.base[p + 1] - k);
    const long own1 = least(mine.own1, rows.base[p + 1] - k);
    const auto share = [&](const Columns& columns, bool last) {
      return lanes ? (last ? columns.panels : 0) : last ? team.end(columns.panels) : team.begin(columns.panels);
    };
    const Term<E> recurrent(Left<E>(at.after + n, S - G), G, w_hh);
    multiply_into(fed, mine.l0, end, share(fed, false), share(fed, true), recurrent,
                  Right<float>{nullptr, by_row.dfed, R, 0, L}, false);
    if (!lanes) team.meet();
    for (long l = mine.own0; l < own1; ++l) output_row(n + l, k + l, l);
    if (projects) {
      if (!lanes) team.meet();
      const Term<E> projection(Left<E>(of_block.dh + k * P, P), P, w_hr);
      multiply_into(units, mine.l0, end, share(units, false), share(units, true), projection,
                    Right<float>{nullptr, by_row.dh, H, 0, L}, false);
      if (!lanes) team.meet();
    }
    for (long l = mine.own0; l < own1; ++l) cell_row(n + l, k + l, l);
  }

  // The gradient of a row's output: of what reads it, past the projection if there is one.
  void output_row(long n, long k, long l) const {
    const auto& ends = by_row.flags[n];
    for (long u = 0; u < P; u += V) {
      const long some = P - u;
      Vec d = incoming(n, u,
                       load(by_row.dfed + l * R + u, some) * cell.factor(by_row.noise_after[n], kDropsHidden, u, some));
      if (cell.keeps_output()) {
        if (!ends.cut) d += load(by_row.carry_h + l * P + u, some);
        const Vec m = cell.stays(at.noise[n], kKeepsOutput, u, some);
        store((ends.first ? ends.first : by_row.carry_h + l * P) + u, m * d, some);
        d *= 1.0f - m;
      }
      if (projects)
        store(of_block.dh + k * P + u, cell.through_bound(d, at.h[n], u, some), some);
      else
        store(by_row.dh + l * H + u, d, some);
    }
  }

  void cell_row(long n, long k, long l) const {
    const float* const dseen_n = at.dh_n[n] ? at.dh_n[n] + P : nullptr;
    cell.backward(RowBackward<E>{at.gates[n], at.c_before[n], at.noise[n], by_row.dh + l * H, by_row.dfed + l * R + P,
                                 dseen_n, at.dgates[n], at.dcells[n], at.carry[n], at.carry_before[n], slot(k),
                                 projects ? of_block.shown + k * H : nullptr, of_block.own + k * cell.own(),
                                 by_row.scratch + l * cell.scratch()},
                  f.weights.vectors);
  }

  // dh_t = dy_t + W_hh^T dsums_{t+1}, through the projection W_hr if there is one, and the cell's own part.
  void step(long p, bool lanes, const Share& mine, const Team& team) const {
    const long n = turn(p), k = rows.base[p], end = least(mine.l1, rows.base[p + 1] - k);
    const Term<E> recurrent(Left<E>(at.after + n, S - G), G, w_hh);
    const BackwardStep<E> step{rows.h_before + k,
                               at.h + n,
                               at.c_before + n,
                               at.c + n,
                               at.gates + n,
                               at.dgates + n,
                               at.dcells + n,
                               at.carry + n,
                               at.carry_before + n,
                               at.noise + n,
                               at.dnoise + n,
                               slot(k),
                               projects ? of_block.shown + k * H : nullptr};
    if constexpr (Cell::kBelt)
      if (projects) {
        output_gradient(n, k, end, recurrent, lanes, mine, team);
        const Term<E> projection(Left<E>(of_block.dh + k * P, P), P, w_hr);
        return multiply(units, mine.l0, end, mine.j0, mine.j1, Terms<E>{&projection, 1}, zero,
                        [&](long l, long j, auto& sums) {
                          long u = units.first(j);
                          for (Vec& sum : sums) Cell::backward(step, H, l, u, sum), u += V;
                        });
      }
    multiply(units, mine.l0, end, mine.j0, mine.j1, Terms<E>{&recurrent, 1}, zero, [&](long l, long j, auto& sums) {
      long u = units.first(j);
      for (Vec& sum : sums) Cell::backward(step, H, l, u, incoming(n + l, u, sum)), u += V;
    });
  }

  // Before the projection.
  void output_gradient(long n, long k, long end, const Term<E>& recurrent, bool lanes, const Share& mine,
                       const Team& team) const {
    const long j0 = lanes ? 0 : team.begin(outputs.panels), j1 = lanes ? outputs.panels : team.end(outputs.panels);
    multiply(outputs, mine.l0, end, j0, j1, Terms<E>{&recurrent, 1}, zero, [&](long l, long j, auto& sums) {
      long u = outputs.first(j);
      for (Vec& sum : sums) store(of_block.dh + (k + l) * P + u, incoming(n + l, u, sum), P - u), u += V;
    });
    if (!lanes) team.meet();
  }

  static constexpr auto zero = [](long, long, auto& sums) {
    for (Vec& sum : sums) sum = Vec{};
  };

  CONVEYOR_INLINE Vec incoming(long n, long u, Vec sum) const {
    if (at.dy[n]) sum += load(at.dy[n] + u, P - u);
    if (at.dh_n[n]) sum += load(at.dh_n[n] + u, P - u);
    return sum;
  }

  // The gradients of the initial states and the biases; zeros where there is no step.
  void end(const Team& team) const {
    of_block.end(ticks, team);
    const Lanes& lanes = sizes.lanes;
    const long n0 = team.begin(lanes.rows()), n1 = team.end(lanes.rows());
    for (long n = n0; n < n1; ++n) end_row(lanes.row[lanes.first[0] + n]);
    if (f.dh_0) first_states(n0, n1);
    if (lanes.first[0] > 0) return;
    for (long b = team.begin(sizes.B); b < team.end(sizes.B); ++b)
      if (lanes.length[b] == 0) end_without_step(b);
  }

  // dh_0 = W_hh^T dsums_1, and what the cell hands on beside.
  void first_states(long n0, long n1) const {
    const long* const row = sizes.lanes.row + sizes.lanes.first[0];
    for (long n = n0; n < n1; ++n) {
      firsts[n] = dsums_first + row[n] * S;
      dh_0s[n] = f.dh_0 + row[n] * R;
    }
    const Term<E> term(Left<E>(firsts, S - G), G, w_hh);
    multiply_into(fed, n0, n1, 0, fed.panels, term, Right<float>{dh_0s}, Cell::kCarries && !Cell::kBelt);
    if constexpr (Cell::kByRow)
      for (long n = n0; n < n1; ++n) finish_first(row[n]);
  }

  // Of the first step's h, what is dropped, and what stayed as it was.
  void finish_first(long b) const {
    const Place first = first_step(b);
    const float* const noise = f.noise.data ? f.noise.at(first.t, b) : nullptr;
    for (long u = 0; u < P; u += V) {
      Vec d = load(f.dh_0 + b * R + u, P - u) * cell.factor(noise, kDropsHidden, u, P - u);
      if (cell.keeps_output() && !places.fresh(first)) d += load(dh_first + b * P + u, P - u);
      store(f.dh_0 + b * R + u, d, P - u);
    }
  }

  Place first_step(long b) const { return {b, 0, places.time_of(b, 0), true, sizes.lanes.length[b] == 1}; }

  void end_row(long b) const {
    if (places.fresh(first_step(b))) {
      if (f.dh_0) {
        clear(dsums_first + b * S, S);
        clear(f.dh_0 + b * R, R);
      }
      if (f.dc_0) clear(f.dc_0 + b * H, H);
    }
    clear_past(b);
  }

  // The gradients of states that no step has used.
  void end_without_step(long b) const {
    const auto pass_on = [](float* to, const float* from, long count) {
      if (from)
        copy(to, from, count);
      else
        clear(to, count);
    };
    if (f.dh_0) pass_on(f.dh_0 + b * R, f.dh_n ? f.dh_n + b * R : nullptr, R);
    if (f.dc_0) pass_on(f.dc_0 + b * H, f.dc_n ? f.dc_n + b * H : nullptr, H);
    clear_past(b);
  }

  // Past the row's end.
  void clear_past(long b) const {
    for (long t = sizes.lanes.length[b]; t < sizes.T; ++t) {
      if (f.dx.data && !f.adds_dx) clear(f.dx.at(t, b), sizes.I);
      if (f.dsums) clear(f.dsums + (t * sizes.B + b) * S, S);
      if (f.dnoise) clear(f.dnoise + (t * sizes.B + b) * cell.noise() * H, cell.noise() * H);
    }
  }

  const Backward<E>& f;
  const Sizes& sizes;
  const long L, ticks, H, P;
  const Cell cell;
  const long R, S, G;
  const Columns units, outputs, fed;
  const bool projects, anew;
  const long block;
  const Places places;
  float *w_hh, *w_hr;
  E* zeros;
  float *no_carry, *carry;
  E *dsums, *dsums_first;
  float* dh_first;
  const E** firsts;
  float** dh_0s;
  const BlockGradients<Cell, E> of_block;
  const BlockRows<E>& rows;
  const TickRows<E> at;
  const RowGradients<Cell, E> by_row;
  const Kept<Cell> kept;
  float *gates, *cells;  // of a block, worked out anew
  Workspace unused{nullptr};
  const Forward<E> first_time;
  const ForwardPass<Cell, E> again;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
