// The product of float32 on matrix tiles (AMX), which multiply bfloat16 alone: x = x_0 + x_1 + x_2, each the bfloat16
// nearest to what is left, holds all bits of a float, and
//
//   x w = x_0 w_0 + (x_0 w_1 + x_1 w_0) + (x_0 w_2 + x_1 w_1 + x_2 w_0)   but for 2^-26 of it.
//
// Each product is exact and added up in float32, as a multiply-add would: six of them take less than half its time.
#pragma once

#include "panels.hpp"
#include "threads.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Two times V values, of which take() takes a part: the bfloat16 nearest to each, those of `low` in the lower halves. Of
// infinity and NaN the first part is all there is.
struct Parts {
  Vec low, high;

  CONVEYOR_INLINE Bits take_first() {
    const Bits lower = nearest(low) & kUpper, upper = nearest(high) & kUpper;
    low = zero_unless_finite(low, low - as<Vec>(lower));
    high = zero_unless_finite(high, high - as<Vec>(upper));
    return lower >> 16 | upper;
  }
  // Of what is finite.
  CONVEYOR_INLINE Bits take() {
    const Bits lower = (as<Bits>(low) + kHalf) & kUpper, upper = (as<Bits>(high) + kHalf) & kUpper;
    low -= as<Vec>(lower);
    high -= as<Vec>(upper);
    return lower >> 16 | upper;
  }

 private:
  static constexpr std::uint32_t kHalf = 0x8000u, kUpper = 0xffff0000u;

#if defined(__AVX512DQ__)
  static CONVEYOR_INLINE __mmask16 finite(Vec v) { return _knot_mask16(_mm512_fpclass_ps_mask(as<__m512>(v), 0x99)); }
  static CONVEYOR_INLINE Vec zero_unless_finite(Vec of, Vec v) {
    return as<Vec>(_mm512_maskz_mov_ps(finite(of), as<__m512>(v)));
  }
  static CONVEYOR_INLINE Bits nearest(Vec v) {
    const __m512i bits = as<__m512i>(v);
    return as<Bits>(_mm512_mask_add_epi32(bits, finite(v), bits, _mm512_set1_epi32(kHalf)));
  }
#else
  static CONVEYOR_INLINE auto finite(Vec v) { return (as<Bits>(v) & 0x7f800000u) != 0x7f800000u; }
  static CONVEYOR_INLINE Vec zero_unless_finite(Vec of, Vec v) { return finite(of) ? v : Vec{}; }
  static CONVEYOR_INLINE Bits nearest(Vec v) { return finite(v) ? as<Bits>(v) + kHalf : as<Bits>(v); }
#endif
};

template <class E>
CONVEYOR_INLINE void store_parts(float* to, Vec low, Vec high) {
  if constexpr (kParts<E> == 1) {
    const Bits lower = __builtin_convertvector(halves(low), Bits), upper = __builtin_convertvector(halves(high), Bits);
    return store(to, as<Vec>(lower | upper << 16));
  }
  Parts parts{low, high};
  store(to, as<Vec>(parts.take_first()));
  store(to + kTileFloats, as<Vec>(parts.take()));
  store(to + 2 * kTileFloats, as<Vec>(parts.take()));
}

// The parts of k values of a row, [chunks of 32][part] a tile of rows each, zero beyond k.
template <class E>
CONVEYOR_INLINE void split_row(const E* row, long k, float* to) {
  for (long from = 0; from < k; from += kTileDepth, to += kParts<E> * kTileFloats)
    store_parts<E>(to, load(row + from, k - from), k - from > V ? load(row + from + V, k - from - V) : Vec{});
}

// Where a panel of `width` vectors has the values k and k + 16 of vector g, k % 32 < 16.
template <class E, class Float>
CONVEYOR_INLINE Float* pair_at(Float* panel, long k, long g, long width) {
  return panel + (k / kTileDepth * width + g) * (kParts<E> * kTileFloats) + k % kTileDepth * V;
}

// The values k of vector g as they were.
template <class E>
CONVEYOR_INLINE Vec value_at(const float* panel, long k, long g, long width) {
  const bool high = k % kTileDepth >= V;
  const float* const pair = pair_at<E>(panel, high ? k - V : k, g, width);
  Vec all = {};
  for (long part = 0; part < kParts<E>; ++part) {
    const Bits halves = as<Bits>(load(pair + part * kTileFloats));
    all += as<Vec>(high ? halves & 0xffff0000u : halves << 16);
  }
  return all;
}

CONVEYOR_INLINE const float* tile_at(const float* tiles, long tile) { return tiles + tile * kTileFloats; }

#if defined(__AMX_BF16__)

// Two tiles of rows by two of columns are summed at once: 0 and 1 are the registers of the first rows' sums, 2 and 3
// those of the second's, 4 and 5 hold a part of the rows, 6 and 7 of the columns. The instructions name them by number,
// and a compiler does not know what they read.
#define CONVEYOR_TILES_READ asm volatile("" ::: "memory")
#define CONVEYOR_LOAD_ROWS(part)           \
  _tile_loadd(4, tile_at(rows, part), 64); \
  _tile_loadd(5, tile_at(more, part), 64)
#define CONVEYOR_LOAD_COLUMNS(part)           \
  _tile_loadd(6, tile_at(columns, part), 64); \
  if constexpr (Both) _tile_loadd(7, tile_at(columns, kParts<E> + part), 64)
#define CONVEYOR_MULTIPLY                      \
  _tile_dpbf16ps(0, 4, 6);                     \
  if constexpr (Both) _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6);                     \
  if constexpr (Both) _tile_dpbf16ps(3, 5, 7)

// sums += two tiles of rows [16, k], `next` floats apart, times one or both vectors of columns from `columns` on, in a
// panel of G. Tiles are multiplied beside what the vector registers do: meanwhile() is called for each chunk.
template <class E, bool Both, int G, class Meanwhile>
CONVEYOR_INLINE void add_tiles(long chunks, const float* rows, long next, const float* columns, float* sums,
                               const Meanwhile& meanwhile) {
  CONVEYOR_TILES_READ;
  for (; chunks > 0; --chunks, rows = tile_at(rows, kParts<E>), columns = tile_at(columns, G * kParts<E>)) {
    const float* const more = rows + next;
    CONVEYOR_LOAD_COLUMNS(0);
    if constexpr (kParts<E> > 1) {
      CONVEYOR_LOAD_ROWS(2);
      CONVEYOR_MULTIPLY;
      CONVEYOR_LOAD_ROWS(1);
      CONVEYOR_MULTIPLY;
    }
    CONVEYOR_LOAD_ROWS(0);
    CONVEYOR_MULTIPLY;
    if constexpr (kParts<E> > 1) {
      CONVEYOR_LOAD_COLUMNS(1);
      CONVEYOR_MULTIPLY;
      CONVEYOR_LOAD_ROWS(1);
      CONVEYOR_MULTIPLY;
      CONVEYOR_LOAD_COLUMNS(2);
      CONVEYOR_LOAD_ROWS(0);
      CONVEYOR_MULTIPLY;
    }
    if (chunks % 4 == 0) _tile_stored(0, sums, 64 * G);
    meanwhile();
  }
}

#define CONVEYOR_ADD_COLUMNS(part)                                                 \
  _tile_loadd(5, tile_at(columns, part), 64);                                      \
  _tile_dpbf16ps(0, 4, 5);                                                         \
  if constexpr (G > 1) _tile_loadd(6, tile_at(columns, kParts<E> + part), 64);     \
  if constexpr (G > 1) _tile_dpbf16ps(1, 4, 6);                                    \
  if constexpr (G > 2) _tile_loadd(7, tile_at(columns, 2 * kParts<E> + part), 64); \
  if constexpr (G > 2) _tile_dpbf16ps(2, 4, 7);                                    \
  if constexpr (G > 3) _tile_loadd(5, tile_at(columns, 3 * kParts<E> + part), 64); \
  if constexpr (G > 3) _tile_dpbf16ps(3, 4, 5)

// The same of one tile of rows and all vectors of columns, since a sum takes a product every 52 cycles and a product takes
// 16: four sums keep the tiles busy. In the same order, so that it does not matter which of the two it was.
template <class E, int G, class Meanwhile>
CONVEYOR_INLINE void add_row_tile(long chunks, const float* rows, const float* columns, float* sums,
                                  const Meanwhile& meanwhile) {
  CONVEYOR_TILES_READ;
  for (; chunks > 0; --chunks, rows = tile_at(rows, kParts<E>), columns = tile_at(columns, G * kParts<E>)) {
    if constexpr (kParts<E> > 1) {
      _tile_loadd(4, tile_at(rows, 2), 64);
      CONVEYOR_ADD_COLUMNS(0);
      _tile_loadd(4, tile_at(rows, 1), 64);
      CONVEYOR_ADD_COLUMNS(0);
    }
    _tile_loadd(4, tile_at(rows, 0), 64);
    CONVEYOR_ADD_COLUMNS(0);
    if constexpr (kParts<E> > 1) {
      CONVEYOR_ADD_COLUMNS(1);
      _tile_loadd(4, tile_at(rows, 1), 64);
      CONVEYOR_ADD_COLUMNS(1);
      _tile_loadd(4, tile_at(rows, 0), 64);
      CONVEYOR_ADD_COLUMNS(2);
    }
    if (chunks % 4 == 0) _tile_stored(0, sums, 64 * G);
    meanwhile();
  }
}

CONVEYOR_INLINE void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// sums: [32][G] vectors, from the first of the columns on.
template <bool Both, int G>
CONVEYOR_INLINE void store_sums(float* sums) {
  _tile_stored(0, sums, 64 * G);
  if constexpr (Both) _tile_stored(1, sums + V, 64 * G);
  _tile_stored(2, sums + kTileRows * G * V, 64 * G);
  if constexpr (Both) _tile_stored(3, sums + kTileRows * G * V + V, 64 * G);
  CONVEYOR_TILES_READ;
}

// sums: [16][G] vectors.
template <int G>
CONVEYOR_INLINE void store_row_tile(float* sums) {
  _tile_stored(0, sums, 64 * G);
  if constexpr (G > 1) _tile_stored(1, sums + V, 64 * G);
  if constexpr (G > 2) _tile_stored(2, sums + 2 * V, 64 * G);
  if constexpr (G > 3) _tile_stored(3, sums + 3 * V, 64 * G);
  CONVEYOR_TILES_READ;
}

// While one stands, this thread's tile registers are set up: eight of [16, 64 bytes].
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// Rows of two tiles against a panel.
template <int G>
struct TileSums {
  long first = 0, r0 = 0, r1 = 0, j = 0;  // rows [r0, r1) are not finished yet
  Vec sums[2 * kTileRows][G];
};

// The same on tiles. While some are multiplied, vector registers finish the rows before, and split those that follow.
template <int G, class E, class Start, class Finish>
class TileProduct {
 public:
  TileProduct(long r0_, long r1_, const Terms<E>& terms_, const Start& start_, const Finish& finish_)
      : start(start_),
        finish(finish_),
        terms(terms_),
        given(terms.term[0].tiles),
        r0(r0_),
        r1(r1_),
        split(given ? r1 : r0) {
    for (int t = 0; t < terms.count; ++t) chunks += ceil_div(terms.term[t].k, kTileDepth);
    each = ceil_div(kPair, chunks * ceil_div(G, 2));
  }

  // A group of rows, which stays in L2, is multiplied by a panel before the next panel.
  void run(long j0, long j1) {
    const long pairs = ceil_div(r1 - r0, kPair), group = least(pairs, 1 + kGroupFloats / (2 * tile()));
    slots = group + 1;
    if (!given) tiles = scratch(static_cast<std::size_t>(2 * slots * tile()));
    for (long from = r0; from < r1; from += group * kPair) {
      const long end = least(from + group * kPair, r1);
      wanted = least(end + kPair, r1);
      for (long j = j0; j < j1; ++j)
        for (long r = from; r < end; r += kPair) multiply(r, least(r + kPair, end), j);
    }
    finish_rows(kPair);
  }

 private:
  static constexpr long kPair = 2 * kTileRows, kGroupFloats = 1 << 15;

  long tile() const { return chunks * kParts<E> * kTileFloats; }

  void multiply(long from, long to, long j) {
    while (split < to) split_row();
    TileSums<G>& now = two[turn];
    if (to - from > kTileRows)
      multiply_columns<0>(now, from, j);
    else
      multiply_row_tile(now, from, j);
    finish_rows(kPair);
    now.first = now.r0 = from, now.r1 = to, now.j = j;
    turn = 1 - turn;
  }

  template <int First>
  CONVEYOR_INLINE void multiply_columns(TileSums<G>& now, long from, long j) {
    constexpr bool kBoth = First + 1 < G;
    float* const sums = reinterpret_cast<float*>(now.sums) + First * V;
    const float* rows = rows_from(from);
    clear_sums();
    for (int t = 0; t < terms.count; ++t) {
      const Term<E>& term = terms.term[t];
      const long some = ceil_div(term.k, kTileDepth);
      const float* const panel = panel_at(term.panels, j, depth_of<E>(true, term.k), term.first);
      add_tiles<E, kBoth, G>(some, rows, tile(), tile_at(panel, First * kParts<E>), sums, [&] { meanwhile(each); });
      rows = tile_at(rows, some * kParts<E>);
    }
    store_sums<kBoth, G>(sums);
    if constexpr (First + 2 < G) multiply_columns<First + 2>(now, from, j);
  }

  CONVEYOR_INLINE void multiply_row_tile(TileSums<G>& now, long from, long j) {
    float* const sums = reinterpret_cast<float*>(now.sums);
    const float* rows = rows_from(from);
    clear_sums();
    for (int t = 0; t < terms.count; ++t) {
      const Term<E>& term = terms.term[t];
      const long some = ceil_div(term.k, kTileDepth);
      const float* const panel = panel_at(term.panels, j, depth_of<E>(true, term.k), term.first);
      add_row_tile<E, G>(some, rows, panel, sums, [&] { meanwhile(ceil_div(G, 2) * each); });
      rows = tile_at(rows, some * kParts<E>);
    }
    store_row_tile<G>(sums);
  }

  // The tiles of rows from there on.
  const float* rows_from(long r) const {
    return given ? given + r / kTileRows * tile() : tiles + (r - r0) / kPair % slots * 2 * tile();
  }

  CONVEYOR_INLINE void meanwhile(long some) {
    finish_rows(some);
    for (long n = 0; n < some && split < wanted; ++n) split_row();
  }

  // Of the rows before.
  CONVEYOR_INLINE void finish_rows(long most) {
    TileSums<G>& before = two[1 - turn];
    for (; most > 0 && before.r0 < before.r1; --most, ++before.r0) {
      Vec sums[G];
      start(before.r0, before.j, sums);
      Vec(&products)[G] = before.sums[before.r0 - before.first];
      if (kParts<E> > 1 && any_nan(products)) multiply_row(before.r0, before.j, products);
      for (int g = 0; g < G; ++g) sums[g] += products[g];
      finish(before.r0, before.j, sums);
    }
  }

  static CONVEYOR_INLINE bool any_nan(const Vec (&products)[G]) {
    Vec sum = products[0];
    for (int g = 1; g < G; ++g) sum += products[g];
    return _mm512_fpclass_ps_mask(as<__m512>(sum), 0x81) != 0;
  }

  // By float32: infinity times the parts of a float may be NaN where infinity times the float is not.
  __attribute__((noinline)) void multiply_row(long r, long j, Vec (&sums)[G]) const {
    for (Vec& sum : sums) sum = Vec{};
    for (int t = 0; t < terms.count; ++t) {
      const Term<E>& term = terms.term[t];
      const float* const panel = panel_at(term.panels, j, depth_of<E>(true, term.k), term.first);
      for (long k = 0; k < term.k; ++k)
        for (int g = 0; g < G; ++g) sums[g] += row_value(term, r, k) * value_at<E>(panel, k, g, G);
    }
  }

  float row_value(const Term<E>& term, long r, long k) const {
    if (!given) return load(term.rows.at(r) + k, 1)[0];
    return value_at<E>(given + r / kTileRows * tile(), k / V * V + r % kTileRows, 0, 1)[k % V];
  }

  CONVEYOR_INLINE void split_row() {
    const long n = split - r0;
    float* to = tiles + (n / kPair % slots * 2 + n / kTileRows % 2) * tile() + n % kTileRows * V;
    for (int t = 0; t < terms.count; ++t) {
      conveyor::CONVEYOR_ISA::split_row(terms.term[t].rows.at(split), terms.term[t].k, to);
      to += ceil_div(terms.term[t].k, kTileDepth) * kParts<E> * kTileFloats;
    }
    ++split;
  }

  const Start& start;
  const Finish& finish;
  const Terms<E>& terms;
  const float* const given;  // tiles of the only term's rows
  const long r0, r1;
  long chunks = 0, each, split, wanted = 0;  // rows up to `split` are split, up to `wanted` they may be
  long slots = 0;
  float* tiles = nullptr;
  int turn = 0;
  TileSums<G> two[2];
};

#else

struct TileRegisters {
  TileRegisters() {}  // so that it is used
};

#endif

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
