// sigmoid and tanh: within 4 units in the last place of the correctly rounded value over the whole range (a test
// measures it), but for sigmoid below -87.3, whose subnormal value is flushed to zero. tanh(0) = 0, both saturate at
// +-inf, NaN stays NaN.
#pragma once

#include "vec.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// exp(x) = scale * (1 + r + r^2 p): scale = 2^n, x = n ln 2 + r, |r| <= ln(2) / 2. For -89 <= x <= 89.
struct Exponential {
  Vec scale, r, p;
};

CONVEYOR_INLINE Exponential exponential(Vec x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
  const Vec magic = splat(12582912.0f);
  const Vec shifted = x * 1.44269504f + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts: the first has few enough bits that n times it is exact.
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.394047127e-3f);
  p = p * r + 8.368914737e-3f;
  p = p * r + 4.166640425e-2f;
  p = p * r + 1.666651891e-1f;
  p = p * r + 0.5f;
  const Vec scale = as<Vec>((as<Bits>(shifted) << 23) + 0x3f800000u);
  return {scale, r, p};
}

CONVEYOR_INLINE Vec clamp(Vec x, float low, float high) { return at_most(splat(high), at_least(splat(low), x)); }

// 1 / (1 + exp(-x)). At -x = 89 the scale is 2^128 = inf, so that the result is exactly zero.
CONVEYOR_INLINE Vec sigmoid(Vec x) {
  const Exponential e = exponential(-clamp(x, -89.0f, 87.0f));
  return 1.0f / (e.scale * ((e.p * e.r + 1.0f) * e.r + 1.0f) + 1.0f);
}

// (exp(2x) - 1) / (exp(2x) + 1), its numerator computed without cancellation: exact scale - 1, plus scale * (r + r^2 p).
CONVEYOR_INLINE Vec tanh(Vec x) {
  const Vec y = clamp(x, -20.0f, 20.0f);
  const Exponential e = exponential(y + y);
  const Vec numerator = e.scale * (e.p * e.r * e.r + e.r) + (e.scale - 1.0f);
  return numerator / (numerator + 2.0f);
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
