// The gradients of the weights and the input: those of the sums, of a block of ticks, multiplied while in the cache.
#pragma once

#include "cells.hpp"
#include "tables.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

template <class Cell, class E>
class BlockGradients {
 public:
  // Blocks of at most so many ticks, whose gradients of the sums lie at `sums`.
  BlockGradients(const Backward<E>& backward, const Cell& cell_, long ticks, const E* sums_, Workspace& space)
      : f(backward),
        sizes(f.sizes),
        H(sizes.H),
        P(sizes.P),
        most(ticks * sizes.lanes.count),
        cell(cell_),
        R(cell.fed(P)),
        S(cell.sums()),
        G(cell.gates * H),
        units(H, !sizes.alone && most >= kTileDepth),
        inputs(sizes.I, units.tiled),
        fed(R, units.tiled),
        projects(f.weights.w_hr != nullptr),
        depth(ceil_div(most, 2 * V) * 2 * V + 2 * V),  // off a power of two, whose rows would share cache lines
        rows(space, ticks, sizes.lanes.count),
        dh(space.take<E>(projects ? most * P : 0)),
        shown(space.take<E>(projects ? most * H : 0)),
        own(space.take(most * cell.own())),
        sums(sums_),
        w_ih(space.take(f.dx.data ? packed<E>(inputs, G) : 0)),
        db(space.take(f.db_ih ? S : 0)),
        down(space.take(f.dw_ih ? cell.own() : 0)),
        sums_turned(space.take<E>(f.dw_ih ? turned(S) : 0)),
        recurrent_turned(S == G || !units.tiled ? sums_turned + (S - G) * depth
                                                : space.take<E>(f.dw_ih ? turned(G) : 0)),
        x_panels(space.take(f.dw_ih ? packed<E>(inputs, most) : 0)),
        h_panels(space.take(f.dw_ih ? packed<E>(fed, most) : 0)),
        dh_turned(space.take<E>(projects && f.dw_ih ? turned(P) : 0)),
        shown_panels(space.take(projects && f.dw_ih ? packed<E>(units, most) : 0)) {}

  void prepare(const Team& team) const {
    const auto w_ih_row = [this](long k) { return f.weights.w_ih + Cell::weight_row(k, H) * sizes.I; };
    if (f.dx.data) pack_rows<E>(inputs, w_ih_row, G, w_ih, team.begin(inputs.panels), team.end(inputs.panels));
  }

  // The products over all rows of a block.
  void finish(long count, bool newest, const Team& team) const {
    keep_rows(count, team);
    if (f.dw_ih) turn_block(count, team);
    if (f.dx.data) input_gradient(count, team);
    team.meet();
    if (f.dw_ih) weight_gradients(count, newest, team);
  }

  // What the blocks came to, of `ticks` in all.
  void end(long ticks, const Team& team) const {
    if (f.dw_ih && ticks == 0) clear_weights(team);
    if (f.db_ih) give_biases(ticks, team);
    if (f.dvectors) give_vectors(ticks, team);
  }

 private:
  void keep_rows(long count, const Team& team) const {
    for (long k = team.begin(count); k < team.end(count); ++k) {
      if (rows.first[k]) copy(rows.first[k], row(k), S);
      if (rows.out[k])
        for (long m = 0; m < S; m += V) store(rows.out[k] + m, load(row(k) + m, S - m), S - m);
    }
  }

  // dsums as columns, what they are multiplied with as panels.
  void turn_block(long count, const Team& team) const {
    const long chunks = ceil_div(count, kTileDepth);
    for (long k = team.begin(chunks) * kTileDepth; k < team.end(chunks) * kTileDepth; k += kTileDepth) {
      turn(row(k), S, count, k, S, sums_turned);
      if (recurrent_turned != sums_turned + (S - G) * depth) turn(row(k) + S - G, S, count, k, G, recurrent_turned);
      if (projects) turn(dh + k * P, P, count, k, P, dh_turned);
    }
    const auto at = [](const E* const* table) { return [=](long k) { return table[k]; }; };
    const auto shown_row = [this](long k) { return shown + k * H; };
    pack_rows<E>(inputs, at(rows.x), count, x_panels, team.begin(inputs.panels), team.end(inputs.panels));
    pack_rows<E>(fed, at(rows.h_before), count, h_panels, team.begin(fed.panels), team.end(fed.panels));
    if (projects) pack_rows<E>(units, shown_row, count, shown_panels, team.begin(units.panels), team.end(units.panels));
  }

  // Rows [k, k + 32) of so many as there are, of which `width` values are wanted.
  void turn(const E* from, long stride, long count, long k, long width, E* to) const {
    const long some = least(kTileDepth, count - k);
    if (units.tiled) {
      constexpr long kChunk = kParts<E> * kTileFloats;
      float* const tiles = reinterpret_cast<float*>(to) + k / kTileDepth * kChunk;
      return transpose_tiles(from, stride, some, width, tiles, ceil_div(count, kTileDepth) * kChunk);
    }
    for (long n = 0; n < some; n += V)
      transpose_rows(from + n * stride, stride, least(V, some - n), width, to + k + n, depth);
  }

  // Values that so many rows take as columns.
  long turned(long width) const {
    if (!units.tiled) return width * depth;
    return ceil_div(width, kTileRows) * ceil_div(most, kTileDepth) * kParts<E> * kTileFloats * kPack<E>;
  }

  // dx = W_ih^T dsums
  void input_gradient(long count, const Team& team) const {
    const Term<E> term(Left<E>(sums, S), G, w_ih);
    multiply_into(inputs, team.begin(count), team.end(count), 0, inputs.panels, term, Right<E>{rows.dx}, f.adds_dx);
  }

  // dW_ih = sum of dsums x^T, dW_hh = sum of dsums h_{t-1}^T, dW_hr = sum of dh (o tanh(c))^T, db = sum of dsums
  void weight_gradients(long count, bool newest, const Team& team) const {
    const Right<float> dw_ih{nullptr, f.dw_ih, sizes.I, Cell::weight_row(0, H), G};
    const Right<float> dw_hh{nullptr, f.dw_hh, R, 0, G}, dw_hr{nullptr, f.dw_hr, H, 0, P};
    add_product(inputs, newest, count, sums_turned, x_panels, dw_ih, G, team);
    add_product(fed, newest, count, recurrent_turned, h_panels, dw_hh, G, team);
    if (projects) add_product(units, newest, count, dh_turned, shown_panels, dw_hr, P, team);
    if (f.db_ih) add_rows(sums, S, db, count, newest, team);
    if (cell.own()) add_rows(own, cell.own(), down, count, newest, team);
  }

  void add_product(const Columns& columns, bool newest, long count, const E* turned, const float* panels,
                   const Right<float>& dw, long all, const Team& team) const {
    Term<E> term(Left<E>(turned, depth), count, panels);
    term.tiles = columns.tiled ? reinterpret_cast<const float*>(turned) : nullptr;
    const long blocks = ceil_div(all, kTileRows);
    const long from = team.begin(blocks) * kTileRows, to = least(team.end(blocks) * kTileRows, all);
    multiply_into(columns, from, to, 0, columns.panels, term, dw, !newest);
  }

  template <class From>
  void add_rows(const From* from, long width, float* sums, long count, bool newest, const Team& team) const {
    const long begin = team.begin(width), end = team.end(width);
    if (newest) clear(sums + begin, end - begin);
    for (long k = 0; k < count; ++k) {
      const From* row = from + k * width;
      for (long m = begin; m < end; m += V) store(sums + m, load(sums + m, end - m) + load(row + m, end - m), end - m);
    }
  }

  void clear_weights(const Team& team) const {
    if (team.index != 0) return;
    clear(f.dw_ih, G * sizes.I);
    clear(f.dw_hh, G * R);
    if (projects) clear(f.dw_hr, P * H);
  }

  void give_biases(long ticks, const Team& team) const {
    if (cell.own() > cell.vectors()) {  // the sums are normalised before the bias is added
      for (long m = team.begin(G); m < team.end(G); ++m)
        f.db_ih[m] = f.db_hh[m] = ticks ? down[cell.vectors() + m] : 0.0f;
      return;
    }
    for (long m = team.begin(G); m < team.end(G); ++m) {
      f.db_ih[Cell::weight_row(m, H)] = ticks ? db[m] : 0.0f;
      f.db_hh[m] = ticks ? db[m + S - G] : 0.0f;
    }
  }

  void give_vectors(long ticks, const Team& team) const {
    for (long m = team.begin(cell.vectors()); m < team.end(cell.vectors()); ++m) f.dvectors[m] = ticks ? down[m] : 0.0f;
  }

  const E* row(long k) const { return sums + k * S; }

  const Backward<E>& f;
  const Sizes& sizes;
  const long H, P, most;
  const Cell& cell;
  const long R, S, G;
  const Columns units, inputs, fed;
  const bool projects;
  const long depth;

 public:
  const BlockRows<E> rows;
  E *dh, *shown;  // [rows, P] and [rows, H], of a projection
  float* own;     // [rows, own]

 private:
  const E* const sums;
  float *w_ih, *db, *down;
  E *sums_turned, *recurrent_turned;
  float *x_panels, *h_panels;
  E* dh_turned;
  float* shown_panels;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
