// Rows of floats against a matrix that was packed once, in one of three formats: the products of the runtime.
#pragma once

#include "packing.hpp"
#include "threads.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

typedef std::int32_t Ints __attribute__((vector_size(4 * V)));
typedef std::uint8_t Bytes __attribute__((vector_size(V)));

// What follows the panels of int8: 128 times the sum of each column's weights, and its scale.
inline long padded(long n) { return Columns(n).panels * kWide * V; }

inline std::size_t dense_floats(Format format, long N, long K) {
  const Columns columns(N);
  switch (format) {
    case Format::float32: return static_cast<std::size_t>(packed<float>(columns, K));
    case Format::bfloat16: return static_cast<std::size_t>(packed<bf16>(columns, K));
    default: return static_cast<std::size_t>(packed<i8>(columns, K) + 2 * padded(N));
  }
}

// Floats that a row takes in the format of the matrix, its scale among them.
inline std::size_t converted_floats(Format format, long K) {
  if (format == Format::float32) return 0;
  return static_cast<std::size_t>(format == Format::bfloat16 ? words<bf16>(K) + V : words<i8>(K) + 2 * V);
}

// Packs rows [n0, n0 + V) of weights [N, K], which `row` gives as floats or, of int8, as words of four.
template <class E, class Row>
void pack_dense(long N, long K, float* panels, const Row& row) {
  const Columns columns(N);
  for (long j = 0; j < columns.panels; ++j)
    for (int g = 0; g < columns.width(j); ++g) {
      const long n = columns.first(j) + g * V, depth = depth_of<E>(false, K), width = columns.width(j);
      row(n, least(V, N - n), panel_at(panels, j, depth) + g * V, width * V);
    }
}

inline void pack_float32(long N, long K, const float* w, float* panels) {
  pack_dense<float>(N, K, panels, [&](long n, long rows, float* to, long stride) {
    pack_tiles<float>(w + n * K, K, rows, to, stride);
  });
}

inline void pack_bfloat16(long N, long K, const bf16* w, float* panels, float* scratch) {
  pack_dense<bf16>(N, K, panels, [&](long n, long rows, float* to, long stride) {
    for (long k = 0; k < rows * K; k += V) store(scratch + k, load(w + n * K + k, rows * K - k), rows * K - k);
    pack_tiles<bf16>(scratch, K, rows, to, stride);
  });
}

inline void pack_int8(long N, long K, const std::int8_t* w, const float* scales, float* panels, float* scratch) {
  const long count = words<i8>(K);
  float* const sums = panels + packed<i8>(Columns(N), K);
  float* const own = sums + padded(N);
  for (long n = 0; n < padded(N); ++n) {
    std::int32_t sum = 0;
    for (long k = 0; n < N && k < K; ++k) sum += w[n * K + k];
    sums[n] = as<float>(128 * sum);
    own[n] = n < N ? scales[n] : 0.0f;
  }
  pack_dense<i8>(N, K, panels, [&](long n, long rows, float* to, long stride) {
    for (long r = 0; r < rows; ++r) {
      scratch[(r + 1) * count - 1] = 0.0f;  // the last word may be filled in part
      std::memcpy(scratch + r * count, w + (n + r) * K, static_cast<std::size_t>(K));
    }
    pack_tiles<float>(scratch, count, rows, to, stride);
  });
}

// scratch: V (K + 4) floats.
inline void pack_matrix(Format format, long N, long K, const void* w, const float* scales, float* to, float* scratch) {
  switch (format) {
    case Format::float32: return pack_float32(N, K, static_cast<const float*>(w), to);
    case Format::bfloat16: return pack_bfloat16(N, K, static_cast<const bf16*>(w), to, scratch);
    default: return pack_int8(N, K, static_cast<const std::int8_t*>(w), scales, to, scratch);
  }
}

// A row as x = scale q, q whole numbers of -127 to 127, which are stored with 128 added. NaN and infinities make all of
// it NaN.
inline float quantise(const float* x, long K, std::uint8_t* to) {
  Vec most = {}, finite = {};
  for (long k = 0; k < K; k += V) {
    const Vec v = load(x + k, K - k);
    most = at_least(most, v < 0.0f ? -v : v);
    finite += v * 0.0f;
  }
  float largest = 0, check = 0;
  for (int v = 0; v < V; ++v) {
    largest = most[v] > largest ? most[v] : largest;
    check += finite[v];
  }
  for (long k = 0, count = words<i8>(K) * kPack<i8>; k < count; ++k) to[k] = 128;
  if (check != 0.0f) return check;
  if (largest == 0.0f) return 0.0f;
  const float inverse = 127.0f / largest;
  for (long k = 0; k < K; k += V) {
    // the sum's lower bits are the whole number nearest to the product
    const Bits q = as<Bits>(load(x + k, K - k) * inverse + 12582912.0f) ^ 0x80u;
    const Bytes bytes = __builtin_convertvector(q & 0xffu, Bytes);
    std::memcpy(to + k, &bytes, static_cast<std::size_t>(least(V, K - k)));
  }
  return largest / 127.0f;
}

template <int G>
CONVEYOR_INLINE void begin(const Dense& p, const Columns& columns, long r, long j, Vec (&sums)[G]) {
  load_columns(columns, p.start ? p.start : p.y + r * p.y_stride, j, sums);
}

template <class E>
void multiply_plain(const Dense& p, const Columns& columns, long j0, long j1, const Left<E>& x) {
  const Term<E> term(x, p.K, p.packed);
  multiply(
      columns, 0, p.rows, j0, j1, Terms<E>{&term, 1},
      [&](long r, long j, auto& sums) { begin(p, columns, r, j, sums); },
      [&](long r, long j, auto& sums) { store_columns(columns, p.y + r * p.y_stride, j, sums); });
}

inline void multiply_halves(const Dense& p, const Columns& columns, long j0, long j1, float* scratch) {
  const long apart = words<bf16>(p.K) * 2;
  bf16* const x = reinterpret_cast<bf16*>(scratch);
  for (long r = 0; r < p.rows; ++r)
    for (long k = 0; k < p.K; k += V) store(x + r * apart + k, load(p.x[r] + k, p.K - k), p.K - k);
  multiply_plain(p, columns, j0, j1, Left<bf16>(x, apart));
}

inline void multiply_bytes(const Dense& p, const Columns& columns, long j0, long j1, float* scratch) {
  const long apart = words<i8>(p.K) * 4;
  float* const scale = scratch;
  std::uint8_t* const x = reinterpret_cast<std::uint8_t*>(scratch + ceil_div(p.rows, V) * V);
  for (long r = 0; r < p.rows; ++r) scale[r] = quantise(p.x[r], p.K, x + r * apart);
  const float* const sum_of = p.packed + packed<i8>(columns, p.K);
  const float* const scale_of = sum_of + padded(p.N);
  const Term<i8> term(Left<i8>(reinterpret_cast<const i8*>(x), apart), apart, p.packed);
  multiply(
      columns, 0, p.rows, j0, j1, Terms<i8>{&term, 1},
      [&](long, long, auto& sums) {
        for (Vec& sum : sums) sum = Vec{};
      },
      [&](long r, long j, auto& sums) {
        float* const to = p.y + r * p.y_stride;
        const float* const from = p.start ? p.start : to;
        long n = columns.first(j);
        for (Vec& sum : sums) {
          const Ints whole = as<Ints>(sum) - as<Ints>(load(sum_of + n));
          const Vec product = __builtin_convertvector(whole, Vec) * (load(scale_of + n) * scale[r]);
          store(to + n, load(from + n, p.N - n) + product, p.N - n);
          n += V;
        }
      });
}

inline void dense(const Dense& p, const Team& team) {
  const Columns columns(p.N);
  const long j0 = team.begin(columns.panels), j1 = team.end(columns.panels);
  float* const scratch = p.scratch + static_cast<std::size_t>(team.index * p.rows) * converted_floats(p.format, p.K);
  switch (p.format) {
    case Format::float32: return multiply_plain(p, columns, j0, j1, Left<float>(p.x));
    case Format::bfloat16: return multiply_halves(p, columns, j0, j1, scratch);
    default: return multiply_bytes(p, columns, j0, j1, scratch);
  }
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
