// A row normalised, and the gradient of that.
#pragma once

#include "vec.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

CONVEYOR_INLINE float total(Vec v) {
  float sum = 0;
  for (int n = 0; n < V; ++n) sum += v[n];
  return sum;
}

// Of a row: sum over n of value(n, rest).
template <class Value>
CONVEYOR_INLINE float sum_over(long count, const Value& value) {
  Vec sum = {};
  for (long n = 0; n < count; n += V) sum += value(n, count - n);
  return total(sum);
}

// Lanes beyond the rest are zero.
CONVEYOR_INLINE Vec only(Vec v, long rest) {
  for (int n = 0; n < V; ++n)
    if (n >= rest) v[n] = 0;
  return v;
}

// The row, now of mean 0 and variance 1; returns what it was multiplied by.
inline float normalise(float* row, long count) {
  const float mean =
      sum_over(count, [&](long n, long rest) { return load(row + n, rest); }) / static_cast<float>(count);
  const auto centred = [&](long n, long rest) {
    const Vec d = load(row + n, rest) - mean;
    return rest < V ? only(d, rest) : d;
  };
  const float variance = sum_over(count, [&](long n, long rest) { return centred(n, rest) * centred(n, rest); }) /
                         static_cast<float>(count);
  const float scale = 1.0f / __builtin_sqrtf(variance + 1e-5f);
  for (long n = 0; n < count; n += V) store(row + n, centred(n, count - n) * scale, count - n);
  return scale;
}

// The gradients d of a normalised row, now those of the row before.
inline void normalise_backward(float* d, const float* hat, float scale, long count) {
  const float size = static_cast<float>(count);
  const float mean = sum_over(count, [&](long n, long rest) { return load(d + n, rest); }) / size;
  const float along =
      sum_over(count, [&](long n, long rest) { return load(d + n, rest) * load(hat + n, rest); }) / size;
  for (long n = 0; n < count; n += V)
    store(d + n, scale * (load(d + n, count - n) - mean - load(hat + n, count - n) * along), count - n);
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
