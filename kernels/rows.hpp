// A step of a cell whose sums lie in memory, of several rows, whose states it changes where they are.
#pragma once

#include "dense.hpp"
#include "variant.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Of the cells that take their sums from registers, the vectors [j0, j1) of the units.
template <class Cell, int G>
void advance_units(const CellRows& p, long j0, long j1) {
  const Units<G> units(p.H);
  for (long r = 0; r < p.rows; ++r) {
    float* const h = p.shown ? p.shown + r * p.H : p.h[r];
    const float* const h_before = p.h[r];
    const float* const c_before = p.c ? p.c[r] : nullptr;
    float* const c = p.c ? p.c[r] : nullptr;
    const ForwardStep<float> at{&h_before, &c_before, &c, &h, nullptr, nullptr};
    const float* const own = p.h_sums + r * G * p.H;
    for (long j = j0; j < j1; ++j) {
      Vec sums[G];
      float input[G * V];
      for (int g = 0; g < G; ++g) sums[g] = load(own + g * p.H + j * V, p.H - j * V);
      if constexpr (Cell::kApart) store(input + 2 * V, load(p.x_sums + (r * G + 2) * p.H + j * V, p.H - j * V));
      Cell::forward(at, units, 0, j, sums, input);
      Cell::show(at, units, 0, j, sums);
    }
  }
}

template <bool Relu>
void advance_rnn(const CellRows& p, long j0, long j1) {
  for (long r = 0; r < p.rows; ++r)
    for (long u = j0 * V; u < least(j1 * V, p.H); u += V) {
      const Vec sum = load(p.h_sums + r * p.H + u, p.H - u);
      store(p.h[r] + u, Relu ? (sum < 0.0f ? Vec{} : sum) : tanh(sum), p.H - u);
    }
}

inline void advance_variant(const CellRows& p) {
  const VariantCell cell(p.options, p.H);
  const long width = cell.gates * p.H;
  for (long r = 0; r < p.rows; ++r) {
    float* const x_sums = cell.norms ? p.x_sums + r * width : nullptr;
    float* const h = p.shown ? p.shown + r * p.H : p.h[r];
    cell.forward(RowForward<float>{x_sums, p.h_sums + r * width, p.bias, p.h[r], p.c[r], p.noise, p.gates, p.c[r], h},
                 p.vectors);
    if (cell.sees_gates) cell.see(p.h[r] + p.P, p.gates);
  }
}

// Of the variants all units are taken by the first member of the team: they look along the row.
inline void advance(const CellRows& p, const Team& team) {
  const long panels = ceil_div(p.H, V), j0 = team.begin(panels), j1 = team.end(panels);
  switch (p.cell) {
    case Cell::gru: return advance_units<GruCell, 3>(p, j0, j1);
    case Cell::rnn_tanh: return advance_rnn<false>(p, j0, j1);
    case Cell::rnn_relu: return advance_rnn<true>(p, j0, j1);
    case Cell::lstm_variant: return team.index == 0 ? advance_variant(p) : void();
    default: return advance_units<LstmCell, 4>(p, j0, j1);
  }
}

// What the output's projection is bounded by.
inline void bound(const CellRows& p) {
  if (p.cell != Cell::lstm_variant) return;
  const VariantCell cell(p.options, p.H);
  if (cell.proj_clip > 1e30f) return;
  for (long r = 0; r < p.rows; ++r)
    for (long u = 0; u < p.P; u += V)
      store(p.h[r] + u, VariantCell::bounded(load(p.h[r] + u, p.P - u), cell.proj_clip), p.P - u);
}

// What the cell does with its sums: whether those of the input stay apart, wholly or for the last gate, and whether it
// adds the bias itself.
inline Sums sums_of(Cell cell, const float* options, long H) {
  if (cell == Cell::gru) return {false, true, false};
  if (cell != Cell::lstm_variant) return {false, false, false};
  return {VariantCell(options, H).norms, false, true};
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
