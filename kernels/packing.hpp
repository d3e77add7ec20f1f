// Matrices into the order in which product.hpp reads them.
#pragma once

#include "product.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Up to V rows of `count` lanes become columns, a tile of V x V at a time: get(v, k, n) gives n lanes or, where n is a
// constant, V from k on of row v; put(k, lanes) takes column k. Rows beyond `rows` are zero.
template <class Get, class Put, class Count>
CONVEYOR_INLINE void turn_tile(long rows, long k, Count n, const Get& get, const Put& put) {
  Vec tile[V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) tile[v] = v < rows ? get(v, k, n) : Vec{};
  transpose(tile);
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v)
    if (v < n) put(k + v, tile[v]);
}

template <class Get, class Put>
CONVEYOR_INLINE void turn_tiles(long rows, long count, const Get& get, const Put& put) {
  long k = 0;
  for (; k + V <= count; k += V) turn_tile(rows, k, Whole{}, get, put);
  if (k < count) turn_tile(rows, k, count - k, get, put);
}

// V words from word k on of a row of n values; of so many there are `count`.
template <class E, class Count>
CONVEYOR_INLINE Vec row_words(const float* row, long k, long n, Count count) {
  if constexpr (kPack<E> == 1) return load(row + k, count);
  const long first = k * kPack<E>;
  bf16 pairs[2 * V];
  store(pairs, n > first ? load(row + first, n - first) : Vec{});
  store(pairs + V, n > first + V ? load(row + first + V, n - first - V) : Vec{});
  return as<Vec>(pairs);
}

// V rows [rows, K] of weights as the words of columns: to[k * stride + v].
template <class E>
CONVEYOR_INLINE void pack_tiles(const float* from, long K, long rows, float* to, std::ptrdiff_t stride) {
  turn_tiles(
      rows, words<E>(K), [&](long v, long k, auto count) { return row_words<E>(from + v * K, k, K, count); },
      [&](long k, Vec column) { store(to + k * stride, column); });
}

// The parts of two squares of values, given by rows, as a tile each: a row of it holds a column of both.
template <class E, class Low, class High>
CONVEYOR_INLINE void store_turned(float* to, const Low& low, const High& high) {
  Vec lower[V], upper[V];
  for (long v = 0; v < V; ++v) {
    lower[v] = low(v);
    upper[v] = high(v);
  }
  transpose(lower);
  transpose(upper);
  for (long v = 0; v < V; ++v) store_parts<E>(to + v * V, lower[v], upper[v]);
}

// The same V rows for a panel that is `width` vectors wide, in whose place g they come.
template <class E>
CONVEYOR_INLINE void pack_place(bool tiled, const float* from, long K, long rows, float* panel, long g, long width) {
  if (!tiled) return pack_tiles<E>(from, K, rows, panel + g * V, width * V);
  for (long k = 0; k < K; k += kTileDepth) {
    const auto values = [&](long v, long k) { return v < rows && k < K ? load(from + v * K + k, K - k) : Vec{}; };
    store_turned<E>(
        pair_at<E>(panel, k, g, width), [&](long v) { return values(v, k); }, [&](long v) { return values(v, k + V); });
  }
}

// Weights [G H, K], panels [j0, j1) of those that start with `start`: the gates of a unit side by side.
template <class E, int G>
void pack(const Units<G>& units, const float* w, long K, float* panels, long j0, long j1, long start = 0) {
  for (long j = j0; j < j1; ++j)
    for (int g = 0; g < G; ++g)
      pack_place<E>(units.tiled, w + (g * units.n + j * V) * K, K, least(V, units.n - j * V),
                    panel_at(panels, j, depth_of<E>(units.tiled, K), start), g, G);
}

// Weights [N, K], panels [j0, j1) likewise: the product with their transpose.
template <class E>
void pack(const Columns& columns, const float* w, long K, float* panels, long j0, long j1, long start = 0) {
  for (long j = j0; j < j1; ++j)
    for (int g = 0; g < columns.width(j); ++g) {
      const long n = columns.first(j) + g * V;
      pack_place<E>(columns.tiled, w + n * K, K, least(V, columns.n - n),
                    panel_at(panels, j, depth_of<E>(columns.tiled, K), start), g, columns.width(j));
    }
}

// A number that changes with the values, but for one chance in 2^64; never 0.
class Fingerprint {
 public:
  void add(const float* from, long count) {
    long n = 0;
    for (; n + kLanes * V <= count; n += kLanes * V) {
      // Processors fetch ahead by themselves no further than to the end of a page.
      for (long line = 0; line < kLanes * V; line += kLine) __builtin_prefetch(from + n + kAhead + line, 0, 2);
#pragma GCC unroll 4
      for (int lane = 0; lane < kLanes; ++lane) mix(lane, as<Bits>(load(from + n + lane * V)));
    }
    for (int lane = 0; n < count; ++lane, n += V) mix(lane, as<Bits>(load(from + n, count - n)));
  }

  std::uint64_t value() const {
    std::uint64_t all = 0;
    for (const Bits& lane : lanes_)
      for (int v = 0; v < V; ++v) {
        all = (all ^ lane[v]) * 0x9e3779b97f4a7c15u;
        all ^= all >> 32;
      }
    return all | 1;
  }

 private:
  static constexpr int kLanes = 4;
  static constexpr long kAhead = 512;  // floats

  CONVEYOR_INLINE void mix(int lane, Bits values) {
    Bits& sum = lanes_[lane];
    sum = ((sum << 13 | sum >> 19) + values) * 0x9e3779b1u;
  }

  Bits lanes_[kLanes] = {};
};

// The weights [G H, K] of panel j.
template <int G>
void add_panel(Fingerprint& print, const Units<G>& units, const float* w, long K, long j) {
  for (int g = 0; g < G; ++g) print.add(w + (g * units.n + j * V) * K, least(V, units.n - j * V) * K);
}

inline void add_panel(Fingerprint& print, const Columns& columns, const float* w, long K, long j) {
  const long n = columns.first(j);
  print.add(w + n * K, least(columns.width(j) * V, columns.n - n) * K);
}

// V columns of the word that rows k and, where two make a word, k + 1 of K fill.
template <class E, class Row>
CONVEYOR_INLINE Vec column_words(const Row& row, long k, long K, long first, long n) {
  if constexpr (kPack<E> == 1) return load(row(k) + first, n);
  const Bits upper = k + 1 < K ? bits_of(row(k + 1) + first, n) << 16 : Bits{};
  return as<Vec>(bits_of(row(k) + first, n) | upper);
}

// Of a matrix given as K rows, the columns of a panel as tiles.
template <class E, class Row>
void pack_pairs(const Columns& columns, const Row& row, long K, float* panel, long first, int width) {
  const auto values = [&](long k, long n) { return k < K ? load(row(k) + n, columns.n - n) : Vec{}; };
  for (long k = 0; k < K; k += kTileDepth)
    for (long v = 0; v < V; ++v)
      for (int g = 0; g < width; ++g)
        store_parts<E>(pair_at<E>(panel, k + v, g, width), values(k + v, first + g * V),
                       values(k + v + V, first + g * V));
}

// A matrix given as K rows of N values, panels [j0, j1): row(k) points to the values.
template <class E, class Row>
void pack_rows(const Columns& columns, const Row& row, long K, float* panels, long j0, long j1) {
  for (long j = j0; j < j1; ++j) {
    const long first = columns.first(j);
    const int width = columns.width(j);
    float* to = panel_at(panels, j, depth_of<E>(columns.tiled, K));
    if (columns.tiled) {
      pack_pairs<E>(columns, row, K, to, first, width);
      continue;
    }
    for (long k = 0; k < K; k += kPack<E>)
      for (int g = 0; g < width; ++g, to += V)
        store(to, column_words<E>(row, k, K, first + g * V, columns.n - first - g * V));
  }
}

// Up to V rows of `count` values become columns: to[k * to_stride + v] = from[v * from_stride + k].
template <class E>
void transpose_rows(const E* from, std::ptrdiff_t from_stride, long rows, long count, E* to, std::ptrdiff_t to_stride) {
  turn_tiles(
      rows, count, [&](long v, long k, auto n) { return load(from + v * from_stride + k, n); },
      [&](long k, Vec column) { store(to + k * to_stride, column); });
}

// Up to kTileDepth rows of `count` values become the k of as many rows: of 16 of those a tile each, `apart` floats apart.
template <class E>
void transpose_tiles(const E* from, std::ptrdiff_t stride, long rows, long count, float* to, long apart) {
  for (long n = 0; n < count; n += kTileRows, to += apart) {
    const auto values = [&](long k) { return k < rows ? load(from + k * stride + n, count - n) : Vec{}; };
    store_turned<E>(to, values, [&](long v) { return values(v + V); });
  }
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
