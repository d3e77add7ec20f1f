// What a cell does at one step with the sums of its products, V units at a time: the only part of the sequence loop
// that differs between recurrent networks.
#pragma once

#include "activations.hpp"
#include "kernels.hpp"
#include "packing.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// The arrays of one step, each row of H contiguous values: row r at data + r * stride.
struct ForwardStep {
  const float* c_before;  // [B, H]
  float* c;               // [B, H]
  Rows<float> h;          // step 0 of it is this one
  float* gates;           // [B, 4, H] or null
};

struct BackwardStep {
  const float *c_before, *c, *gates;
  Rows<const float> h;
  Rows<const float> dy;  // data null: zero
  const float* dh_n;     // null but at the last step
  float* dc;             // [B, H]: on entry of this step's cell state, on exit of the one before
  float* dgates;         // [B, G, H]
};

CONVEYOR_INLINE Vec incoming(const BackwardStep& at, long H, long r, long u, Vec dh) {
  if (at.dy.data) dh += load(at.dy.at(0, r) + u, H - u);
  if (at.dh_n) dh += load(at.dh_n + r * H + u, H - u);
  return dh;
}

// Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
struct LstmCell {
  static constexpr int kGates = 4;
  using Layout = Units;

  static CONVEYOR_INLINE void forward(const ForwardStep& at, const Units& units, long r, long j, Vec (&sums)[4]) {
    const long H = units.n, u = j * V, n = H - u;
    const Vec i = sigmoid(sums[0]), f = sigmoid(sums[1]), g = tanh(sums[2]), o = sigmoid(sums[3]);
    const Vec c = f * load(at.c_before + r * H + u, n) + i * g;
    store(at.c + r * H + u, c, n);
    store(at.h.at(0, r) + u, o * tanh(c), n);
    if (at.gates) {
      float* gates = at.gates + r * 4 * H + u;
      store(gates, i, n);
      store(gates + H, f, n);
      store(gates + 2 * H, g, n);
      store(gates + 3 * H, o, n);
    }
  }

  static CONVEYOR_INLINE void backward(const BackwardStep& at, long H, long r, long u, Vec dh) {
    const long n = H - u;
    const float* gates = at.gates + r * 4 * H + u;
    const Vec i = load(gates, n), f = load(gates + H, n), g = load(gates + 2 * H, n), o = load(gates + 3 * H, n);
    const Vec shown = tanh(load(at.c + r * H + u, n));
    dh = incoming(at, H, r, u, dh);
    const Vec dc = load(at.dc + r * H + u, n) + dh * o * (1.0f - shown * shown);
    store(at.dc + r * H + u, dc * f, n);
    float* to = at.dgates + r * 4 * H + u;
    store(to, dc * g * i * (1.0f - i), n);
    store(to + H, dc * load(at.c_before + r * H + u, n) * f * (1.0f - f), n);
    store(to + 2 * H, dc * i * (1.0f - g * g), n);
    store(to + 3 * H, dh * shown * o * (1.0f - o), n);
  }
};

// Elman 1990.
template <bool Relu>
struct RnnCell {
  static constexpr int kGates = 1;
  using Layout = Columns;

  template <int G>
  static CONVEYOR_INLINE void forward(const ForwardStep& at, const Columns& units, long r, long j, Vec (&sums)[G]) {
    for (int g = 0; g < G; ++g) {
      const long u = units.first(j) + g * V;
      const Vec h = Relu ? (sums[g] < 0.0f ? Vec{} : sums[g]) : tanh(sums[g]);
      store(at.h.at(0, r) + u, h, units.n - u);
    }
  }

  static CONVEYOR_INLINE void backward(const BackwardStep& at, long H, long r, long u, Vec dh) {
    const Vec h = load(at.h.at(0, r) + u, H - u);
    dh = incoming(at, H, r, u, dh);
    store(at.dgates + r * H + u, Relu ? (h > 0.0f ? dh : Vec{}) : dh * (1.0f - h * h), H - u);
  }
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
