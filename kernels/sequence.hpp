// A cell carried over a sequence, forward and backward in time.
//
// Threads share the work in one of two ways. With enough rows for full blocks each thread takes rows of its own and
// never waits. With fewer, each takes hidden units, and so its slice of the weights, and they meet once a step.
#pragma once

#include "cells.hpp"
#include "threads.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Hands out the workspace in order; counts floats where there is none yet.
struct Workspace {
  float* base;
  std::size_t used = 0;

  float* take(std::size_t floats) {
    float* part = base ? base + used : nullptr;
    used += (floats + 15) / 16 * 16;
    return part;
  }
};

inline long time_of(const Sizes& sizes, long s) { return sizes.reverse ? sizes.T - 1 - s : s; }

// Recurrent weights beyond this many floats stream from L3 or memory: then threads share them even if there are rows
// for each.
constexpr long kPrivateWeights = 1 << 20;

inline bool by_rows(const Sizes& sizes, int gates, const Team& team) {
  return team.size == 1 || (sizes.B >= kRows * team.size && gates * sizes.H * sizes.H <= kPrivateWeights);
}

// This member's rows and panels of a step.
struct Share {
  long r0, r1, j0, j1;

  Share(const Team& team, bool rows, long B, long panels)
      : r0(rows ? team.begin(B) : 0),
        r1(rows ? team.end(B) : B),
        j0(rows ? 0 : team.begin(panels)),
        j1(rows ? panels : team.end(panels)) {}
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

template <class Cell>
class ForwardPass {
 public:
  ForwardPass(const Forward& forward, Workspace& space)
      : f(forward),
        sizes(f.sizes),
        layout(sizes.H),
        // Few rows: their input is projected for many steps at once, so that its weights are not read at each.
        ahead(sizes.B < kRows ? least(sizes.T, ceil_div(kProjectedRows, sizes.B)) : 0),
        w_ih(space.take(layout.floats(sizes.I))),
        w_hh(space.take(layout.floats(sizes.H))),
        bias(space.take(layout.floats(1))),
        bias_hh(space.take(layout.floats(1))),
        projected(space.take(layout.floats(ahead * sizes.B))) {}

  void run(const Team& team) const {
    prepare(team);
    team.meet();
    const bool rows = by_rows(sizes, Cell::kGates, team);
    const Share mine(team, rows, sizes.B, layout.panels);
    for (long s = 0; s < sizes.T; ++s) {
      if (ahead && s % ahead == 0) project(s, mine);
      step(s, mine);
      if (!rows) team.meet();
    }
    copy_last(mine, team, rows);
  }

 private:
  static constexpr long kProjectedRows = 96;

  void prepare(const Team& team) const {
    const long j0 = team.begin(layout.panels), j1 = team.end(layout.panels);
    pack(layout, f.weights.w_ih, sizes.I, w_ih, j0, j1);
    pack(layout, f.weights.w_hh, sizes.H, w_hh, j0, j1);
    const long from = j0 * kWide * V, to = j1 * kWide * V;
    if (!f.weights.b_ih) {
      for (long n = from; n < to; ++n) bias[n] = 0.0f;
      return;
    }
    pack(layout, f.weights.b_ih, 1, bias, j0, j1);
    pack(layout, f.weights.b_hh, 1, bias_hh, j0, j1);
    for (long n = from; n < to; ++n) bias[n] += bias_hh[n];
  }

  Left input(long s) const {
    const std::ptrdiff_t step = sizes.reverse ? -f.x.step : f.x.step;
    return {f.x.at(time_of(sizes, s), 0), step, f.x.row, sizes.B};
  }

  float* waiting(long s, long r, long j) const {
    return projected + (j * ahead * sizes.B + s % ahead * sizes.B + r) * kWide * V;
  }

  void project(long s, const Share& mine) const {
    const Term term(input(s), sizes.I, w_ih);
    const long rows = least(ahead, sizes.T - s) * sizes.B;
    multiply(
        layout, 0, rows, mine.j0, mine.j1, {&term, 1},
        [&](long, long j, auto& sums) { load_all(sums, bias + j * kWide * V); },
        [&](long r, long j, auto& sums) { store_all(waiting(s, r, j), sums); });
  }

  // c of step s; in inference c_n holds the only one.
  float* cell_state(long s) const { return f.cells ? f.cells + time_of(sizes, s) * sizes.B * sizes.H : f.c_n; }

  // gates = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, and the cell's own part.
  void step(long s, const Share& mine) const {
    const long t = time_of(sizes, s), H = sizes.H;
    const Left h_before =
        s == 0 ? Left{f.h_0, 0, H, sizes.B} : Left{f.y.at(time_of(sizes, s - 1), 0), 0, f.y.row, sizes.B};
    const ForwardStep at{s == 0 ? f.c_0 : cell_state(s - 1),
                         cell_state(s),
                         {f.y.at(t, 0), 0, f.y.row},
                         f.gates ? f.gates + t * sizes.B * 4 * H : nullptr};
    const Term terms[] = {{input(s), sizes.I, w_ih}, {h_before, H, w_hh}};
    const auto finish = [&](long r, long j, auto& sums) { Cell::forward(at, layout, r, j, sums); };
    if (ahead)
      multiply(
          layout, mine.r0, mine.r1, mine.j0, mine.j1, {terms + 1, 1},
          [&](long r, long j, auto& sums) { load_all(sums, waiting(s, r, j)); }, finish);
    else
      multiply(
          layout, mine.r0, mine.r1, mine.j0, mine.j1, {terms, 2},
          [&](long, long j, auto& sums) { load_all(sums, bias + j * kWide * V); }, finish);
  }

  void copy_last(const Share& mine, const Team& team, bool rows) const {
    const long r0 = rows ? mine.r0 : team.begin(sizes.B), r1 = rows ? mine.r1 : team.end(sizes.B), H = sizes.H;
    const long s = sizes.T - 1;
    for (long r = r0; r < r1; ++r) {
      std::memcpy(f.h_n + r * H, f.y.at(time_of(sizes, s), r), static_cast<size_t>(H) * sizeof(float));
      if (f.cells) std::memcpy(f.c_n + r * H, cell_state(s) + r * H, static_cast<size_t>(H) * sizeof(float));
    }
  }

  const Forward& f;
  const Sizes& sizes;
  const typename Cell::Layout layout;
  const long ahead;
  float *w_ih, *w_hh, *bias, *bias_hh, *projected;
};

// Back-propagation through time. The steps go in blocks of about kBlockRows rows: their gates' gradients are first
// computed step by step, then multiplied into those of the weights and the input while still in the cache.
template <class Cell>
class BackwardPass {
 public:
  BackwardPass(const Backward& backward, Workspace& space)
      : f(backward),
        sizes(f.sizes),
        G(Cell::kGates * sizes.H),
        units(sizes.H),
        inputs(sizes.I),
        block(ceil_div(sizes.T, blocks_of(sizes))),
        depth(ceil_div(block * sizes.B, V) * V + V),  // off a power of two, whose rows would share cache lines
        w_hh(space.take(units.floats(G))),
        w_ih(space.take(f.dx.data ? inputs.floats(G) : 0)),
        dgates(space.take((block + 1) * sizes.B * G)),
        turned(space.take(f.dw_ih ? G * depth : 0)),
        x(space.take(f.dw_ih ? inputs.floats(block * sizes.B) : 0)),
        h(space.take(f.dw_ih ? units.floats(block * sizes.B) : 0)) {}

  void run(const Team& team) const {
    prepare(team);
    team.meet();
    const bool rows = by_rows(sizes, Cell::kGates, team);
    const Share mine(team, rows, sizes.B, units.panels);
    for (long q = 0; q < sizes.T; q += block) {
      const long steps = least(block, sizes.T - q);
      if (q > 0) keep_last(team);
      for (long p = 0; p < steps; ++p) {
        if (p == 0) team.meet();
        step(q + p, p, mine);
        if (!rows) team.meet();
      }
      team.meet();
      if (f.dw_ih) turn_block(q, steps, team);
      if (f.dx.data) input_gradient(q, steps, team);
      team.meet();
      if (f.dw_ih) weight_gradients(q, steps * sizes.B, team);
    }
    first_state(mine, (sizes.T - 1) % block);
  }

 private:
  static constexpr long kBlockRows = 384;

  // As many as come nearest to that size, and all alike.
  static long blocks_of(const Sizes& sizes) {
    const long blocks = (sizes.T * sizes.B + kBlockRows / 2) / kBlockRows;
    return blocks < 1 ? 1 : least(blocks, sizes.T);
  }

  void prepare(const Team& team) const {
    const auto row = [this](const float* w, long width) { return [=](long k) { return w + k * width; }; };
    pack_rows(units, row(f.weights.w_hh, sizes.H), G, w_hh, team.begin(units.panels), team.end(units.panels));
    if (f.dx.data)
      pack_rows(inputs, row(f.weights.w_ih, sizes.I), G, w_ih, team.begin(inputs.panels), team.end(inputs.panels));
    const long from = team.begin(sizes.B * sizes.H), to = team.end(sizes.B * sizes.H);
    if (f.dc_0)
      for (long n = from; n < to; ++n) f.dc_0[n] = f.dc_n ? f.dc_n[n] : 0.0f;
  }

  // The q-th step backward is step s of the forward pass.
  long forward_step(long q) const { return sizes.T - 1 - q; }
  float* slot(long p) const { return dgates + p * sizes.B * G; }
  const float* h_before(long q, long r) const {
    const long s = forward_step(q);
    return s == 0 ? f.h_0 + r * sizes.H : f.y.at(time_of(sizes, s - 1), r);
  }

  void keep_last(const Team& team) const {
    const long from = team.begin(sizes.B * G), to = team.end(sizes.B * G);
    std::memcpy(slot(0) + from, slot(block) + from, static_cast<size_t>(to - from) * sizeof(float));
  }

  // dh_t = dy_t + dgates_{t+1} W_hh, and the cell's own part.
  void step(long q, long p, const Share& mine) const {
    const long s = forward_step(q), t = time_of(sizes, s), H = sizes.H, B = sizes.B;
    const auto cells = [&](long step) { return f.cells ? f.cells + time_of(sizes, step) * B * H : nullptr; };
    const BackwardStep at{s == 0 ? f.c_0 : cells(s - 1),
                          cells(s),
                          f.gates ? f.gates + t * B * 4 * H : nullptr,
                          {f.y.at(t, 0), 0, f.y.row},
                          {f.dy.data ? f.dy.at(t, 0) : nullptr, 0, f.dy.row},
                          q == 0 ? f.dh_n : nullptr,
                          f.dc_0,
                          slot(p + 1)};
    const Term term({slot(p), 0, G, B}, G, w_hh);
    multiply(units, mine.r0, mine.r1, mine.j0, mine.j1, {&term, q > 0}, zeros, [&](long r, long j, auto& dh) {
      int g = 0;
      for (Vec& part : dh) Cell::backward(at, H, r, units.first(j) + g++ * V, part);
    });
  }

  // dgates of the block as columns, x and h as panels.
  void turn_block(long q, long steps, const Team& team) const {
    const long rows = steps * sizes.B, tiles = ceil_div(rows, V);
    for (long k = team.begin(tiles) * V; k < team.end(tiles) * V; k += V)
      turn(slot(1) + k * G, G, least(V, rows - k), G, turned + k, depth);
    const auto x_row = [&](long k) { return f.x.at(time_of(sizes, forward_step(q + k / sizes.B)), k % sizes.B); };
    const auto h_row = [&](long k) { return h_before(q + k / sizes.B, k % sizes.B); };
    pack_rows(inputs, x_row, rows, x, team.begin(inputs.panels), team.end(inputs.panels));
    pack_rows(units, h_row, rows, h, team.begin(units.panels), team.end(units.panels));
  }

  // dx = dgates W_ih
  void input_gradient(long q, long steps, const Team& team) const {
    const long rows = steps * sizes.B;
    const Term term({slot(1), 0, G, rows}, G, w_ih);
    const auto dx = [&](long r) { return f.dx.at(time_of(sizes, forward_step(q + r / sizes.B)), r % sizes.B); };
    multiply(
        inputs, team.begin(rows), team.end(rows), 0, inputs.panels, {&term, 1},
        [&](long r, long j, auto& sums) {
          if (!f.adds_dx) return zeros(r, j, sums);
          get(inputs, dx(r), j, sums);
        },
        [&](long r, long j, auto& sums) { put(inputs, dx(r), j, sums); });
  }

  // dW_ih = sum of dgates^T x, dW_hh = sum of dgates^T h_{t-1}, db = sum of dgates
  void weight_gradients(long q, long rows, const Team& team) const {
    const long from = team.begin(G), to = team.end(G);
    add_product(inputs, q, rows, x, f.dw_ih, from, to);
    add_product(units, q, rows, h, f.dw_hh, from, to);
    if (!f.db) return;
    if (q == 0)
      for (long m = from; m < to; ++m) f.db[m] = 0.0f;
    for (long k = 0; k < rows; ++k)
      for (long m = from; m < to; ++m) f.db[m] += slot(1)[k * G + m];
  }

  void add_product(const Columns& columns, long q, long rows, const float* panels, float* dw, long from,
                   long to) const {
    const Term term({turned, 0, depth, G}, rows, panels);
    multiply(
        columns, from, to, 0, columns.panels, {&term, 1},
        [&](long m, long j, auto& sums) {
          if (q == 0) return zeros(m, j, sums);
          get(columns, dw + m * columns.n, j, sums);
        },
        [&](long m, long j, auto& sums) { put(columns, dw + m * columns.n, j, sums); });
  }

  // dh_0 = dgates_1 W_hh
  void first_state(const Share& mine, long p) const {
    const Term term({slot(p + 1), 0, G, sizes.B}, G, w_hh);
    multiply(units, mine.r0, mine.r1, mine.j0, mine.j1, {&term, 1}, zeros,
             [&](long r, long j, auto& sums) { put(units, f.dh_0 + r * sizes.H, j, sums); });
  }

  static constexpr auto zeros = [](long, long, auto& sums) {
    for (Vec& sum : sums) sum = Vec{};
  };

  template <int W>
  static CONVEYOR_INLINE void put(const Columns& columns, float* row, long j, Vec (&sums)[W]) {
    for (int g = 0; g < W; ++g) {
      const long n = columns.first(j) + g * V;
      store(row + n, sums[g], columns.n - n);
    }
  }

  template <int W>
  static CONVEYOR_INLINE void get(const Columns& columns, const float* row, long j, Vec (&sums)[W]) {
    for (int g = 0; g < W; ++g) {
      const long n = columns.first(j) + g * V;
      sums[g] = load(row + n, columns.n - n);
    }
  }

  const Backward& f;
  const Sizes& sizes;
  const long G;
  const Columns units, inputs;
  const long block, depth;
  float *w_hh, *w_ih, *dgates, *turned, *x, *h;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
