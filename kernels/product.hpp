// The one inner product behind everything: rows of A against a packed matrix. What differs between its uses is where
// the sums start, and what is done with them while they are still in registers.
//
// Every sum runs over k in ascending order, whatever the number of rows, columns or threads: a row's result does not
// depend on the company it is in.
#pragma once

#include "vec.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

CONVEYOR_INLINE constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }
CONVEYOR_INLINE constexpr long least(long a, long b) { return a < b ? a : b; }

constexpr int kWide = 4;                      // vectors in a full panel
constexpr long kLine = 16;                    // floats in a cache line
constexpr int kRows = kAccumulators / kWide;  // rows of a full block: 6 or 2
// Steps of k multiplied before the next rows are taken: a panel of them (256 KiB) stays in L2.
constexpr long kDepth = 1024;
// Rows that are multiplied by all panels before the next rows are taken.
constexpr long kGroup = 72;

// How the N columns of a matrix are packed: in panels of four vectors or, where N does not divide, some of them one
// narrower; [panel][K][width][V], zero beyond N. Each panel takes K * 4 V floats.
struct Columns {
  long n, vectors, panels;

  explicit Columns(long n_) : n(n_), vectors(ceil_div(n_, V)), panels(ceil_div(vectors, kWide)) {}
  long narrow() const { return vectors / panels; }
  long wider() const { return vectors % panels; }  // the first so many panels are one wider than narrow()
  int width(long j) const { return static_cast<int>(narrow() + (j < wider())); }
  long first(long j) const { return (j * narrow() + least(j, wider())) * V; }  // column at which panel j starts
  std::size_t floats(long k) const { return static_cast<std::size_t>(panels * k * kWide * V); }
};

// Panel j holds the four gates of the units from j V on: they meet in the registers of one block.
struct Units {
  long n, panels;

  explicit Units(long n_) : n(n_), panels(ceil_div(n_, V)) {}
  std::size_t floats(long k) const { return static_cast<std::size_t>(panels * k * kWide * V); }
};

// Rows of A. Row r stands for row r % B of time step r / B.
struct Left {
  const float* data;
  std::ptrdiff_t step, row;
  long B;

  const float* at(long r) const { return r < B ? data + r * row : data + (r / B) * step + (r % B) * row; }
};

// One product of a sum: rows of k values against panels [j][depth][width][V], of which k values in depth are used.
struct Term {
  Left rows;
  long k;
  const float* panels;
  long depth;

  Term(Left rows_, long k_, const float* panels_) : rows(rows_), k(k_), panels(panels_), depth(k_) {}
  const float* panel(long j) const { return panels + j * depth * (kWide * V); }
  Term slice(long from, long count, int width) const {
    Term part = *this;
    part.rows.data += from;
    part.k = count;
    part.panels += from * width * V;
    return part;
  }
};

struct Terms {
  const Term* term;
  int count;
};

// sums[r][p][g] += sum over the terms and k of a[r][k] panel[p][k][g]. R P G accumulators: few rows take several panels
// at once, since a multiply-add takes four cycles or more and eight at least have to be under way.
// What follows the panels is multiplied next, and comes from further away: this block, the `part`th that visits the
// panels, brings a part of it into L2, a cache line a k.
// A function of its own, so that nothing around it takes registers from the sums.
template <int R, int P, int G>
__attribute__((noinline)) void product(Vec (&sums)[R][P][G], const Terms& terms, long r0, long j0, long part) {
  Vec own[R][P][G];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) own[r][p][g] = sums[r][p][g];
  for (const Term* term = terms.term; term != terms.term + terms.count; ++term) {
    const float* a[R];
    const float* w[P];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) a[r] = term->rows.at(r0 + r);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) w[p] = term->panel(j0 + p);
    const long count = term->k;
    const float* ahead = w[P - 1] + count * (G * V) + part * count * kLine;
    for (long k = 0; k < count; ++k) {
      __builtin_prefetch(ahead + k * kLine, 0, 2);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        Vec column[G];
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) column[g] = load(w[p] + k * (G * V) + g * V);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (int g = 0; g < G; ++g) own[r][p][g] += a[r][k] * column[g];
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) sums[r][p][g] = own[r][p][g];
}

// R rows, P panels: start(r, j, sums) fills the sums of a row and panel, finish(r, j, sums) takes them.
template <int R, int P, int G, class Start, class Finish>
CONVEYOR_INLINE void block(long r0, long j0, long part, const Terms& terms, const Start& start, const Finish& finish) {
  Vec sums[R][P][G];
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) start(r0 + r, j0 + p, sums[r][p]);
  product(sums, terms, r0, j0, part);
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) finish(r0 + r, j0 + p, sums[r][p]);
}

template <int R, int P, int G, class Start, class Finish>
CONVEYOR_INLINE void block_of(int rows, long r0, long j0, long part, const Terms& terms, const Start& start,
                              const Finish& finish) {
  if constexpr (R == 1)
    block<1, P, G>(r0, j0, part, terms, start, finish);
  else if (rows == R)
    block<R, P, G>(r0, j0, part, terms, start, finish);
  else
    block_of<R - 1, P, G>(rows, r0, j0, part, terms, start, finish);
}

// Rows of the next block where `left` are left: blocks of six or four rows keep both multiply-add units of a core
// busy, those of five or three do not quite.
template <int R>
CONVEYOR_INLINE int rows_of_next(long left) {
  if (R == 6 && (left == 7 || left == 8)) return 4;
  return static_cast<int>(least(left, R));
}

// Rows [r0, r1) on their way into L2.
CONVEYOR_INLINE void fetch(const Terms& terms, long r0, long r1) {
  for (int t = 0; t < terms.count; ++t)
    for (long r = r0; r < r1; ++r) {
      const float* row = terms.term[t].rows.at(r);
      for (long k = 0; k < terms.term[t].k; k += kLine) __builtin_prefetch(row + k, 0, 2);
    }
}

// All rows against P panels. The first panels fetch each block's rows while the block before is multiplied.
template <int R, int P, int G, class Start, class Finish>
CONVEYOR_INLINE void sweep(long r0, long r1, long j0, bool first, const Terms& terms, const Start& start,
                           const Finish& finish) {
  for (long part = 0; r0 < r1; ++part) {
    const int rows = rows_of_next<R>(r1 - r0);
    if (first) fetch(terms, r0 + rows, least(r0 + 2 * rows, r1));
    block_of<R, P, G>(rows, r0, j0, part, terms, start, finish);
    r0 += rows;
  }
}

// A panel too deep for the cache, a slice at a time.
template <int G, class Start, class Finish>
void deep(long r0, long r1, long j, bool first, const Terms& terms, const Start& start, const Finish& finish) {
  Vec waiting[kGroup][G];
  const auto put = [&](long r, long, const Vec(&sums)[G]) {
    for (int g = 0; g < G; ++g) waiting[r - r0][g] = sums[g];
  };
  const auto take = [&](long r, long, Vec(&sums)[G]) {
    for (int g = 0; g < G; ++g) sums[g] = waiting[r - r0][g];
  };
  for (long r = r0; r < r1; ++r) start(r, j, waiting[r - r0]);
  for (int t = 0; t < terms.count; ++t)
    for (long k = 0; k < terms.term[t].k; k += kDepth) {
      const Term slice = terms.term[t].slice(k, least(kDepth, terms.term[t].k - k), G);
      sweep<kRows, 1, G>(r0, r1, j, first, Terms{&slice, 1}, take, put);
    }
  for (long r = r0; r < r1; ++r) finish(r, j, waiting[r - r0]);
}

// At most kGroup rows against panels [j0, j1), all of them G vectors wide.
template <int G, class Start, class Finish>
void multiply_group(long r0, long r1, long j0, long j1, const Terms& terms, const Start& start, const Finish& finish) {
  constexpr int kMany = kRows >= 4 ? 4 : kRows;  // panels for a single row
  const long rows = r1 - r0;
  long depth = 0;
  for (int t = 0; t < terms.count; ++t) depth += terms.term[t].k;
  const long first = j0;
  if (rows > kRows && depth > kDepth) {
    for (; j0 < j1; ++j0) deep<G>(r0, r1, j0, j0 == first, terms, start, finish);
    return;
  }
  if (rows == 1)
    for (; j0 + kMany <= j1; j0 += kMany) sweep<1, kMany, G>(r0, r1, j0, false, terms, start, finish);
  if constexpr (kRows >= 6)
    if (rows <= 3)
      for (; j0 + 2 <= j1; j0 += 2) sweep<3, 2, G>(r0, r1, j0, false, terms, start, finish);
  for (; j0 < j1; ++j0) sweep<kRows, 1, G>(r0, r1, j0, j0 == first, terms, start, finish);
}

// Rows [r0, r1) against panels [j0, j1): a group of rows stays in L2 while the panels pass by.
template <int G, class Start, class Finish>
void multiply_panels(long r0, long r1, long j0, long j1, const Terms& terms, const Start& start, const Finish& finish) {
  for (; r0 < r1; r0 += kGroup) multiply_group<G>(r0, least(r0 + kGroup, r1), j0, j1, terms, start, finish);
}

template <class Start, class Finish>
void multiply(const Units&, long r0, long r1, long j0, long j1, const Terms& terms, const Start& start,
              const Finish& finish) {
  multiply_panels<kWide>(r0, r1, j0, j1, terms, start, finish);
}

template <class Start, class Finish>
void multiply(const Columns& columns, long r0, long r1, long j0, long j1, const Terms& terms, const Start& start,
              const Finish& finish) {
  while (j0 < j1) {
    const int width = columns.width(j0);
    const long same = j0 < columns.wider() ? least(columns.wider(), j1) : j1;
    if (width == 4) multiply_panels<4>(r0, r1, j0, same, terms, start, finish);
    if (width == 3) multiply_panels<3>(r0, r1, j0, same, terms, start, finish);
    if (width == 2) multiply_panels<2>(r0, r1, j0, same, terms, start, finish);
    if (width == 1) multiply_panels<1>(r0, r1, j0, same, terms, start, finish);
    j0 = same;
  }
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
