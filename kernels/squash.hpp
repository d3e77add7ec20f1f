// The activations an LSTM can be given, by name and numbers.
#pragma once

#include "activations.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

enum Squashing : int {
  kSigmoid,
  kTanh,
  kIdentity,
  kRelu,
  kSoftsign,
  kSoftplus,
  kLeakyRelu,
  kThresholdedRelu,
  kElu,
  kAffine,
  kScaledTanh,
  kHardSigmoid
};

template <float (*function)(float)>
CONVEYOR_INLINE Vec each(Vec x) {
  for (int v = 0; v < V; ++v) x[v] = function(x[v]);
  return x;
}

// An activation with its numbers, and its slope as a function of its value: all of them are monotone.
struct Squash {
  Squashing kind;
  float alpha, beta;

  Vec operator()(Vec x) const {
    switch (kind) {
      case kSigmoid: return sigmoid(x);
      case kTanh: return tanh(x);
      case kIdentity: return x;
      case kRelu: return x < 0.0f ? Vec{} : x;
      case kSoftsign: return x / (1.0f + magnitude(x));
      case kSoftplus: return each<softplus>(x);
      case kLeakyRelu: return x > 0.0f ? x : alpha * x;
      case kThresholdedRelu: return x > alpha || x != x ? x : Vec{};
      case kElu: return x > 0.0f ? x : alpha * each<expm1>(x);
      case kAffine: return alpha * x + beta;
      case kScaledTanh: return alpha * tanh(beta * x);
      default: return at_most(splat(1.0f), at_least(Vec{}, alpha * x + beta));
    }
  }

  Vec slope(Vec y) const {
    const Vec one = splat(1.0f);
    switch (kind) {
      case kSigmoid: return y * (1.0f - y);
      case kTanh: return 1.0f - y * y;
      case kIdentity: return one;
      case kRelu: return y > 0.0f ? one : Vec{};
      case kSoftsign: return (1.0f - magnitude(y)) * (1.0f - magnitude(y));
      case kSoftplus: return -each<expm1>(-y);
      case kLeakyRelu: return y > 0.0f ? one : splat(alpha);
      case kThresholdedRelu: return y != 0.0f ? one : Vec{};
      case kElu: return y > 0.0f ? one : y + alpha;
      case kAffine: return splat(alpha);
      case kScaledTanh: return beta * (alpha - y * y / alpha);
      default: return y > 0.0f && y < 1.0f ? splat(alpha) : Vec{};
    }
  }

 private:
  static CONVEYOR_INLINE Vec magnitude(Vec x) { return x < 0.0f ? -x : x; }
  static float expm1(float x) { return __builtin_expm1f(x); }
  static float softplus(float x) { return (x > 0 ? x : 0) + __builtin_log1pf(__builtin_expf(x > 0 ? -x : x)); }
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
