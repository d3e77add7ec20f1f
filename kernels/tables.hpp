// Where the rows of a tick and of a block lie, written down before they are computed.
#pragma once

#include "sequence.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Where a cell by rows finds what the others have in registers or at hand.
template <class Cell, class E>
struct RowTables {
  RowTables(Workspace& space, const Cell& cell, long lanes, long R)
      : width(Cell::kByRow ? cell.gates * cell.H : 0),
        h_sums(space.take(lanes * width)),
        fed(space.take<E>(cell.feeds() ? lanes * R : 0)),
        gates(space.take(Cell::kByRow ? lanes * cell.kept() * cell.H : 0)),
        y_before(space.take<const E*>(Cell::kByRow ? 2 * lanes : 0)),
        tail(space.take<E*>(Cell::kByRow ? 2 * lanes : 0)) {}

  const long width;
  float* h_sums;  // [lanes, G H]
  E* fed;         // [lanes, R], where the recurrent product does not read h as it is
  float* gates;   // [lanes, K, H], where they are not kept
  const E** y_before;
  E** tail;  // where the gates of a row's last step go, or null
};

// Where the rows of a block lie; those of tick p of the block start at base[p].
template <class E>
struct BlockRows {
  BlockRows(Workspace& space, long ticks, long lanes)
      : base(space.take<long>(ticks + 1)),
        x(space.take<const E*>(ticks * lanes)),
        h_before(space.take<const E*>(ticks * lanes)),
        dx(space.take<E*>(ticks * lanes)),
        first(space.take<E*>(ticks * lanes)),
        out(space.take<float*>(ticks * lanes)) {}

  long* base;
  const E **x, **h_before;
  E **dx, **first;  // first: where the gradients of a row's first step are kept; null: nowhere
  float** out;      // where the caller wants those of every step; null: nowhere
};

// Where the lanes' rows of one tick lie. Two ticks take turns: while one is computed the next is written down.
template <class E>
struct TickRows {
  TickRows(Workspace& space, long lanes)
      : after(space.take<const E*>(2 * lanes)),
        h(space.take<const E*>(2 * lanes)),
        dy(space.take<const E*>(2 * lanes)),
        c_before(space.take<const float*>(2 * lanes)),
        c(space.take<const float*>(2 * lanes)),
        gates(space.take<const float*>(2 * lanes)),
        dgates(space.take<const float*>(2 * lanes)),
        dcells(space.take<const float*>(2 * lanes)),
        dh_n(space.take<const float*>(2 * lanes)),
        carry(space.take<const float*>(2 * lanes)),
        noise(space.take<const float*>(2 * lanes)),
        carry_before(space.take<float*>(2 * lanes)),
        dnoise(space.take<float*>(2 * lanes)) {}

  const E **after, **h, **dy;  // after: the gradients of the sums of the step that follows
  const float **c_before, **c, **gates, **dgates, **dcells, **dh_n, **carry, **noise;
  float **carry_before, **dnoise;
};

// What a cell by rows has of a tick and a block besides.
template <class Cell, class E>
struct RowGradients {
  RowGradients(Workspace& space, const Cell& cell, long lanes, long R, long P, long block)
      : dfed(space.take(Cell::kByRow ? lanes * R : 0)),
        dh(space.take(Cell::kByRow ? lanes * cell.H : 0)),
        scratch(space.take(lanes * cell.scratch())),
        carry_h(space.take(Cell::kByRow && cell.keeps_output() ? lanes * P : 0)),
        fed(space.take<E>(cell.feeds() ? block * lanes * R : 0)),
        noise_after(space.take<const float*>(Cell::kByRow ? 2 * lanes : 0)),
        flags(space.take<Ends>(Cell::kByRow ? 2 * lanes : 0)) {}

  struct Ends {
    bool cut;
    float* first;  // where the gradient of the h before a row's first step goes past the product, or null
  };
  float *dfed, *dh, *scratch, *carry_h;
  E* fed;  // [block, R] what the recurrent products read
  const float** noise_after;
  Ends* flags;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
