// Matrices into the order in which product.hpp reads them.
#pragma once

#include "product.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Up to V rows of `count` values become columns: to[k * to_stride + v] = from[v * from_stride + k]. Lanes beyond
// `rows` are zero.
CONVEYOR_INLINE void turn(const float* from, std::ptrdiff_t from_stride, long rows, long count, float* to,
                          std::ptrdiff_t to_stride) {
  long k = 0;
  for (; k + V <= count; k += V) {
    Vec tile[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) tile[v] = v < rows ? load(from + v * from_stride + k) : Vec{};
    transpose(tile);
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(to + (k + v) * to_stride, tile[v]);
  }
  for (; k < count; ++k)
    for (long v = 0; v < V; ++v) to[k * to_stride + v] = v < rows ? from[v * from_stride + k] : 0.0f;
}

// Weights [4H, K], panels [j0, j1): the four gates of a unit side by side.
inline void pack(const Units& units, const float* w, long K, float* panels, long j0, long j1) {
  for (long j = j0; j < j1; ++j)
    for (int g = 0; g < kWide; ++g)
      turn(w + (g * units.n + j * V) * K, K, least(V, units.n - j * V), K, panels + (j * K * kWide + g) * V, kWide * V);
}

// Weights [N, K], panels [j0, j1): the product with their transpose.
inline void pack(const Columns& columns, const float* w, long K, float* panels, long j0, long j1) {
  for (long j = j0; j < j1; ++j)
    for (int g = 0; g < columns.width(j); ++g) {
      const long n = columns.first(j) + g * V;
      turn(w + n * K, K, least(V, columns.n - n), K, panels + (j * K * kWide) * V + g * V, columns.width(j) * V);
    }
}

// A matrix given as K rows of N values, panels [j0, j1): row(k) points to the values.
template <class Row>
void pack_rows(const Columns& columns, const Row& row, long K, float* panels, long j0, long j1) {
  for (long j = j0; j < j1; ++j) {
    const long first = columns.first(j);
    const int width = columns.width(j);
    float* to = panels + j * K * kWide * V;
    for (long k = 0; k < K; ++k) {
      const float* from = row(k) + first;
      for (int g = 0; g < width; ++g, to += V) store(to, load(from + g * V, columns.n - first - g * V));
    }
  }
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
