// How matrices are laid out for a product: packed into panels of columns, which rows of values are multiplied with.
#pragma once

#include "vec.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

CONVEYOR_INLINE constexpr long ceil_div(long a, long b) { return (a + b - 1) / b; }
CONVEYOR_INLINE constexpr long least(long a, long b) { return a < b ? a : b; }

constexpr int kWide = 4;                       // vectors in a full panel
constexpr long kLine = 16;                     // floats in a cache line
constexpr int kRows = kAccumulators / kWide;   // rows of a full block: 6, 3 or 2
constexpr int kMany = kRows >= 4 ? 4 : kRows;  // panels for a single row
// Steps of k multiplied before the next rows are taken: a panel of them, at most 256 KiB, stays in L2; where a block
// has few rows, for each of which it is read again, at most 16 KiB in L1.
constexpr long kDepth = kRows >= 4 ? 1024 : 128;
// Rows that are multiplied by all panels before the next rows are taken.
constexpr long kGroup = 72;

#if defined(__AMX_BF16__)
constexpr bool kTiles = true;
#else
constexpr bool kTiles = false;
#endif

// Bfloat16 that hold a value: see tiles.hpp.
template <class E>
constexpr long kParts = kPack<E> == 1 ? 3 : 1;
// A tile is [16, 16] pairs of bfloat16, the values k and k + 16 of a depth of 32: of a row, or of a column.
constexpr long kTileRows = 16, kTileDepth = 32, kTileFloats = kTileRows * kTileDepth / 2;
// A tile is as busy with one row as with all: so many are worth it.
constexpr long kRowsForTiles = 8;

// Words of k values.
template <class E>
CONVEYOR_INLINE constexpr long words(long k) {
  return ceil_div(k, kPack<E>);
}

// Floats that k values of a vector's lane take in a panel.
template <class E>
CONVEYOR_INLINE constexpr long depth_of(bool tiled, long k) {
  return tiled ? ceil_div(k, kTileDepth) * (kTileDepth * kParts<E> / 2) : words<E>(k);
}

// How the N columns of a matrix are packed: in panels of four vectors or, where N does not divide, some of them one
// narrower; [panel][words of K][width][V], for tiles [panel][tiles of K][width][part][tile]; zero beyond N. Each panel
// takes 4 V floats a word of its depth.
struct Columns {
  bool tiled;
  long n, vectors, panels;

  explicit Columns(long n_, bool tiled_ = false)
      : tiled(kTiles && tiled_), n(n_), vectors(ceil_div(n_, V)), panels(ceil_div(vectors, kWide)) {}
  long narrow() const { return vectors / panels; }
  long wider() const { return vectors % panels; }  // the first so many panels are one wider than narrow()
  int width(long j) const { return static_cast<int>(narrow() + (j < wider())); }
  long first(long j) const { return (j * narrow() + least(j, wider())) * V; }  // column at which panel j starts
  long floats(long words) const { return panels * words * kWide * V; }
};

// Panel j holds the G gates of the units from j V on: they meet in the registers of one block.
template <int G>
struct Units {
  bool tiled;
  long n, panels;

  explicit Units(long n_, bool tiled_ = false) : tiled(kTiles && tiled_), n(n_), panels(ceil_div(n_, V)) {}
  long floats(long words) const { return panels * words * kWide * V; }
};

// Floats that the panels of a matrix of k rows take.
template <class E, class Layout>
CONVEYOR_INLINE long packed(const Layout& layout, long k) {
  return layout.floats(depth_of<E>(layout.tiled, k));
}

// Rows of A: each a pointer of its own or, where there is no table of them, `stride` values apart.
template <class E>
struct Left {
  const E* const* table;
  const E* data;
  std::ptrdiff_t stride;
  std::ptrdiff_t column = 0;

  explicit Left(const E* const* rows, std::ptrdiff_t column_ = 0)
      : table(rows), data(nullptr), stride(0), column(column_) {}
  Left(const E* first, std::ptrdiff_t apart) : table(nullptr), data(first), stride(apart) {}
  const E* at(long r) const { return (table ? table[r] : data + r * stride) + column; }
};

// Where panel j of a matrix lies that is packed from panel `first` on.
template <class Float>
CONVEYOR_INLINE Float* panel_at(Float* panels, long j, long depth, long first = 0) {
  return panels + (j - first) * depth * (kWide * V);
}

// One product of a sum: rows of k values against panels [j][depth][width][V], of which the words of k values are used.
template <class E>
struct Term {
  Left<E> rows;
  long k;
  const float* panels;
  long first, depth;
  const float* tiles = nullptr;  // the rows as tiles already, [rows of 16][chunks of k][part]; null: not

  Term(Left<E> rows_, long k_, const float* panels_, long first_ = 0)
      : rows(rows_), k(k_), panels(panels_), first(first_), depth(words<E>(k_)) {}
  const float* panel(long j) const { return panel_at(panels, j, depth, first); }
  Term slice(long from, long count, int width) const {
    Term part = *this;
    part.rows.column += from;
    part.k = count;
    part.panels += from / kPack<E> * width * V;
    return part;
  }
};

template <class E>
struct Terms {
  const Term<E>* term;
  int count;
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
