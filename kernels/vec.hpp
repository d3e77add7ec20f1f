// The vector type of the instruction set this file is compiled for. Compiler vector types (GCC 12, Clang) serve all from
// one source; intrinsics stand only here, where compilers miss an instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef CONVEYOR_ISA
#error "CONVEYOR_ISA names the instruction set: scalar, avx2, avx512, avx512_bf16, amx or neon"
#endif

namespace conveyor {
namespace CONVEYOR_ISA {

// V: floats in a register. kAccumulators: registers that hold sums while the others hold operands (32 in AVX-512 and
// NEON, 16 elsewhere).
#if defined(__AVX512F__)
constexpr int V = 16, kAccumulators = 24;
#elif defined(__AVX2__)
constexpr int V = 8, kAccumulators = 12;
#elif defined(CONVEYOR_NEON)
constexpr int V = 4, kAccumulators = 24;
#else
constexpr int V = 1, kAccumulators = 8;
#endif

typedef float Vec __attribute__((vector_size(4 * V)));
typedef uint32_t Bits __attribute__((vector_size(4 * V)));
typedef uint16_t Halves __attribute__((vector_size(2 * V)));

#define CONVEYOR_INLINE inline __attribute__((always_inline))

CONVEYOR_INLINE Vec splat(float x) { return Vec{} + x; }

CONVEYOR_INLINE Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

CONVEYOR_INLINE void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }

// x, or the bound where x is beyond it; NaN passes through. One instruction on x86, which GCC does not find by itself.
CONVEYOR_INLINE Vec at_least(Vec bound, Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(bound), reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_max_ps(reinterpret_cast<__m256>(bound), reinterpret_cast<__m256>(x)));
#else
  return bound > x ? bound : x;
#endif
}

CONVEYOR_INLINE Vec at_most(Vec bound, Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(bound), reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_min_ps(reinterpret_cast<__m256>(bound), reinterpret_cast<__m256>(x)));
#else
  return bound < x ? bound : x;
#endif
}

#if defined(__AVX512F__)
CONVEYOR_INLINE __mmask16 lanes(long n) { return static_cast<__mmask16>((1u << n) - 1); }
#endif

// All lanes, where the number of them is known as the program is compiled.
using Whole = std::integral_constant<long, V>;

CONVEYOR_INLINE Vec load(const float* from, Whole) { return load(from); }

// The first n lanes; the others are zero.
CONVEYOR_INLINE Vec load(const float* from, long n) {
  if (n >= V) return load(from);
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(lanes(n), from));
#else
  Vec v = {};
  std::memcpy(&v, from, static_cast<size_t>(n) * sizeof(float));
  return v;
#endif
}

CONVEYOR_INLINE void store(float* to, Vec v, long n) {
  if (n >= V) return store(to, v);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, lanes(n), reinterpret_cast<__m512>(v));
#else
  std::memcpy(to, &v, static_cast<size_t>(n) * sizeof(float));
#endif
}

template <class To, class From>
CONVEYOR_INLINE To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// Rounded to nearest, ties to even, to the upper halves of floats.
CONVEYOR_INLINE Halves halves(Vec v) {
#if defined(__AVX512BF16__)
  return as<Halves>(_mm512_maskz_cvtneps_pbh(0xffff, as<__m512>(v)));
#else
  const Bits bits = as<Bits>(v);
  const Bits nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector(v == v ? nearest : nan, Halves);
#endif
}

CONVEYOR_INLINE Bits bits_of(const bf16* from, long n) {
  Halves upper = {};
  if (n >= V)
    std::memcpy(&upper, from, sizeof upper);
  else
    std::memcpy(&upper, from, static_cast<size_t>(n) * sizeof(bf16));
  return __builtin_convertvector(upper, Bits);
}

CONVEYOR_INLINE Bits bits_of(const float* from, long n) { return __builtin_convertvector(halves(load(from, n)), Bits); }

CONVEYOR_INLINE Vec load(const bf16* from, long n) { return as<Vec>(bits_of(from, n) << 16); }
CONVEYOR_INLINE Vec load(const bf16* from) { return load(from, V); }
CONVEYOR_INLINE Vec load(const bf16* from, Whole) { return load(from, V); }

CONVEYOR_INLINE void store(bf16* to, Vec v, long n) {
  const Halves upper = halves(v);
  if (n >= V)
    std::memcpy(to, &upper, sizeof upper);
  else
    std::memcpy(to, &upper, static_cast<size_t>(n) * sizeof(bf16));
}
CONVEYOR_INLINE void store(bf16* to, Vec v) { store(to, v, V); }

// What one multiply-add takes of a row, 32 bits: one float, or two bf16, of which the upper is added first, as the
// processors do that have an instruction for it. Packed matrices consist of such words too.
template <class E>
constexpr int kPack = static_cast<int>(sizeof(float) / sizeof(E));

CONVEYOR_INLINE float word(const float* row, long step) { return row[step]; }
CONVEYOR_INLINE uint32_t word(const bf16* row, long step) {
  uint32_t pair;
  std::memcpy(&pair, row + 2 * step, sizeof pair);
  return pair;
}
// Four whole numbers.
struct Quad {
  uint32_t bits;
};
CONVEYOR_INLINE Quad word(const i8* row, long step) {
  Quad four;
  std::memcpy(&four, row + 4 * step, sizeof four);
  return four;
}
CONVEYOR_INLINE Quad half_word(const i8* row, long step) { return word(row, step); }  // rows are filled up
// The last of an odd number.
CONVEYOR_INLINE uint32_t half_word(const bf16* row, long step) { return row[2 * step].bits; }
CONVEYOR_INLINE float half_word(const float* row, long step) { return row[step]; }

CONVEYOR_INLINE Vec multiply_add(Vec sum, float a, Vec w) { return sum + a * w; }
CONVEYOR_INLINE Vec multiply_add(Vec sum, uint32_t a, Vec w) {
#if defined(__AVX512BF16__)
  return as<Vec>(
      _mm512_dpbf16_ps(as<__m512>(sum), as<__m512bh>(_mm512_set1_epi32(static_cast<int>(a))), as<__m512bh>(w)));
#else
  const Bits pairs = as<Bits>(w);
  sum += as<float>(a & 0xffff0000u) * as<Vec>(pairs & 0xffff0000u);
  return sum + as<float>(a << 16) * as<Vec>(pairs << 16);
#endif
}

// Whole numbers in the lanes of a Vec: a sum of products of those of 0 to 255 in `a` by those of -127 to 127 in `w`.
CONVEYOR_INLINE Vec multiply_add(Vec sum, Quad a, Vec w) {
#if defined(__AVX512VNNI__)
  return as<Vec>(_mm512_dpbusd_epi32(as<__m512i>(sum), _mm512_set1_epi32(static_cast<int>(a.bits)), as<__m512i>(w)));
#else
  typedef int32_t Whole __attribute__((vector_size(4 * V)));
  Whole whole = as<Whole>(sum);
  const Bits bytes = as<Bits>(w);
  for (int n = 0; n < 4; ++n)
    whole += static_cast<int32_t>(a.bits >> 8 * n & 255) * (as<Whole>(bytes << (24 - 8 * n)) >> 24);
  return as<Vec>(whole);
#endif
}

template <int Stage, std::size_t... I>
CONVEYOR_INLINE void exchange(Vec& a, Vec& b, std::index_sequence<I...>) {
  const Vec low = __builtin_shufflevector(a, b, ((I / Stage) % 2 == 0 ? I : I - Stage + V)...);
  b = __builtin_shufflevector(a, b, ((I / Stage) % 2 == 0 ? I + Stage : I + V)...);
  a = low;
}

// Transposes V x V values in registers, in log2(V) rounds of exchanged halves.
template <int Stage = 1>
CONVEYOR_INLINE void transpose(Vec (&tile)[V]) {
  if constexpr (Stage < V) {
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i)
      if ((i / Stage) % 2 == 0) exchange<Stage>(tile[i], tile[i + Stage], std::make_index_sequence<V>{});
    transpose<2 * Stage>(tile);
  }
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
