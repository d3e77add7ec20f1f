// sigmoid and tanh: within 4 units in the last place of the correctly rounded value over the whole range (a test
// measures it), but for sigmoid below -87.3, whose subnormal value is flushed to zero. tanh(0) = 0, both saturate at
// +-inf, NaN stays NaN.
#pragma once

#include "vec.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// exp(2 x / K) = s (1 + t) / (1 - t): s = 2^n, 2 x / K = n ln 2 + 2 r / K, t = tanh(r / K), |r / K| <= ln(2) / 4.
struct Exponential {
  Vec s, t;
};

template <int K>
CONVEYOR_INLINE Exponential exponential(Vec x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits, here with the bias of exponents.
  const Vec magic = splat(12582912.0f + 127.0f);
  const Vec shifted = x * (2.0f / K * 1.44269504f) + magic, n = shifted - magic;
  // ln 2 in two parts, of which the first has few enough bits that n times it is exact; tanh has saturated where n is so
  // large that one would not do.
  const Vec r = K == 1 ? x - n * 0.346573591f : (x - n * 0.693359375f) + n * 2.12194440e-4f, squared = r * r;
  const Vec t = r * ((0.131104535f / (K * K * K * K * K) * squared - 0.333312689f / (K * K * K)) * squared + 1.0f / K);
  return {as<Vec>(as<Bits>(shifted) << 23), t};
}

// Not yet divided, so that a product takes one division: neither part exceeds 2^30, and the lower one is above 1/2. The
// upper one is never the larger, so that a value that saturates is exactly 1.
struct Fraction {
  Vec over, under;

  Vec value() const { return over / under; }
  Fraction operator*(const Fraction& other) const { return {over * other.over, under * other.under}; }
};

// exp(x) / (exp(x) + 1). At x = -88 the bits of s are zero, so that the result is exactly zero.
CONVEYOR_INLINE Fraction sigmoid_of(Vec x) {
  const Exponential e = exponential<2>(at_most(splat(20.0f), at_least(splat(-88.0f), x)));
  const Vec over = e.s * (1.0f + e.t);
  return {over, over + (1.0f - e.t)};
}

// (exp(2x) - 1) / (exp(2x) + 1), of the magnitude of x: near 1 the lower part's error alone counts.
CONVEYOR_INLINE Fraction tanh_of(Vec x) {
  const Bits sign = as<Bits>(x) & 0x80000000u;
  const Exponential e = exponential<1>(at_most(splat(10.0f), as<Vec>(as<Bits>(x) ^ sign)));
  const Vec over = (e.s + 1.0f) * e.t + (e.s - 1.0f);
  return {as<Vec>(as<Bits>(over) ^ sign), over + 2.0f * (1.0f - e.t)};
}

CONVEYOR_INLINE Vec sigmoid(Vec x) { return sigmoid_of(x).value(); }
CONVEYOR_INLINE Vec tanh(Vec x) { return tanh_of(x).value(); }

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
