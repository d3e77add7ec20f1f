// What a cell does at one step with the sums of its products, V units at a time: the only part of the sequence loop
// that differs between recurrent networks.
#pragma once

#include "activations.hpp"
#include "kernels.hpp"
#include "packing.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Of every cell: gates, how many sums of its products a unit has; sums(), how many gradients of theirs a step; kept(),
// how many values a unit and step backward needs; kBelt, whether it carries a state beside its output; kCarries, whether
// a gradient is handed from step to step past the products; kApart, whether the last gate's input term and recurrent
// term stay apart; kByRow, whether it takes its sums from memory, a row at a time. One that does not takes a step in two
// parts: forward() leaves in the place of the sums what show() needs, which puts down the output if that is still to come.
template <int Gates, int Sums, int Kept>
struct PlainCell {
  static constexpr int gates = Gates;
  static constexpr bool kByRow = false, kKeeps = Kept > 0;

  PlainCell(const float*, long H_) : H(H_) {}
  long sums() const { return Sums * H; }
  long kept() const { return Kept; }
  long fed(long P) const { return P; }
  long vectors() const { return 0; }
  long noise() const { return 0; }
  long own() const { return 0; }
  long scratch() const { return 0; }
  bool feeds() const { return false; }
  bool keeps_output() const { return false; }

  const long H;
};

// One step of a row in every lane: a pointer each to its H values.
template <class E>
struct ForwardStep {
  const E* const* h_before;
  const float* const* c_before;
  float* const* c;
  E* const* h;
  float* const* gates;  // [4, H] each; null: not kept
  const float* const* noise;
};

template <class E>
struct BackwardStep {
  const E *const *h_before, *const *h;
  const float *const *c_before, *const *c;
  const float *const *gates, *const *dgates, *const *dcells;  // dgates and dcells: each null, or both given
  const float* const* carry;                                  // past the products, what the step after hands down:
  float* const* carry_before;                                 // the gradient of the belt, or the GRU's share of dh
  const float* const* noise;  // [noise, H] each: of a variant drawn factors, of a tangent the step that ran
  float* const* dnoise;       // each null, or wanted
  E* dsums;                   // [lanes, S, H]
  E* shown;                   // [lanes, H], o tanh(c) once more; null: not wanted
};

// Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
struct LstmCell : PlainCell<4, 4, 4> {
  using PlainCell::PlainCell;
  static constexpr bool kBelt = true, kCarries = true, kApart = false;
  using Layout = Units<4>;
  static long weight_row(long m, long) { return m; }

  // i and g are divided at once. f is not: one that is wide open is exactly 1, and what is on the belt stays as it is.
  template <class E>
  static CONVEYOR_INLINE void forward(const ForwardStep<E>& at, const Units<4>& units, long r, long j, Vec (&sums)[4],
                                      const float*) {
    const long H = units.n, u = j * V, n = H - u;
    const Fraction i = sigmoid_of(sums[0]), f = sigmoid_of(sums[1]), g = tanh_of(sums[2]), o = sigmoid_of(sums[3]);
    const Vec kept = f.value();
    const Vec c = kept * load(at.c_before[r] + u, n) + (i * g).value();
    store(at.c[r] + u, c, n);
    if (at.gates) {
      float* gates = at.gates[r] + u;
      store(gates, i.value(), n);
      store(gates + H, kept, n);
      store(gates + 2 * H, g.value(), n);
      store(gates + 3 * H, o.value(), n);
    }
    sums[0] = c, sums[1] = o.over, sums[2] = o.under;
  }

  template <class E>
  static CONVEYOR_INLINE void show(const ForwardStep<E>& at, const Units<4>& units, long r, long j,
                                   const Vec (&sums)[4]) {
    const Fraction o{sums[1], sums[2]};
    store(at.h[r] + j * V, (o * tanh_of(sums[0])).value(), units.n - j * V);
  }

  template <class E>
  static CONVEYOR_INLINE void backward(const BackwardStep<E>& at, long H, long r, long u, Vec dh) {
    const long n = H - u;
    const float* gates = at.gates[r] + u;
    const Vec i = load(gates, n), f = load(gates + H, n), g = load(gates + 2 * H, n), o = load(gates + 3 * H, n);
    const Vec shown = tanh(load(at.c[r] + u, n));
    Vec dc = load(at.carry[r] + u, n) + dh * o * (1.0f - shown * shown);
    if (at.dcells && at.dcells[r]) dc += load(at.dcells[r] + u, n);
    Vec di = dc * g, df = dc * load(at.c_before[r] + u, n), dg = dc * i, d_o = dh * shown;
    if (at.dgates && at.dgates[r]) {
      const float* given = at.dgates[r] + u;
      di += load(given, n), df += load(given + H, n), dg += load(given + 2 * H, n), d_o += load(given + 3 * H, n);
    }
    store(at.carry_before[r] + u, dc * f, n);
    E* to = at.dsums + r * 4 * H + u;
    store(to, di * i * (1.0f - i), n);
    store(to + H, df * f * (1.0f - f), n);
    store(to + 2 * H, dg * (1.0f - g * g), n);
    store(to + 3 * H, d_o * o * (1.0f - o), n);
    if (at.shown) store(at.shown + r * H + u, o * shown, n);
  }
};

// Cho et al. 2014, with the reset gate after the recurrent product: sums r, z and the candidate's recurrent term, whose
// input term comes apart. The gradients of the sums are in the order n, r, z, recurrent term of n: the first three are
// those of the input's product, the last three those of the recurrent one.
struct GruCell : PlainCell<3, 4, 4> {
  using PlainCell::PlainCell;
  static constexpr bool kBelt = false, kCarries = true, kApart = true;
  using Layout = Units<3>;
  static long weight_row(long m, long H) { return m < H ? m + 2 * H : m - H; }

  template <class E>
  static CONVEYOR_INLINE void forward(const ForwardStep<E>& at, const Units<3>& units, long lane, long j,
                                      Vec (&sums)[3], const float* input) {
    const long H = units.n, u = j * V, rest = H - u;
    const Vec r = sigmoid(sums[0]), z = sigmoid(sums[1]), recurrent = sums[2];
    if (at.gates) {
      float* gates = at.gates[lane] + u;
      store(gates, r, rest);
      store(gates + H, z, rest);
      store(gates + 3 * H, recurrent, rest);
    }
    sums[1] = z, sums[2] = load(input + 2 * V) + r * recurrent;
  }

  template <class E>
  static CONVEYOR_INLINE void show(const ForwardStep<E>& at, const Units<3>& units, long lane, long j,
                                   const Vec (&sums)[3]) {
    const long H = units.n, u = j * V, rest = H - u;
    const Vec z = sums[1], n = tanh(sums[2]);
    store(at.h[lane] + u, n + z * (load(at.h_before[lane] + u, rest) - n), rest);
    if (at.gates) store(at.gates[lane] + u + 2 * H, n, rest);
  }

  template <class E>
  static CONVEYOR_INLINE void backward(const BackwardStep<E>& at, long H, long lane, long u, Vec dh) {
    const long rest = H - u;
    const float* gates = at.gates[lane] + u;
    const Vec r = load(gates, rest), z = load(gates + H, rest), n = load(gates + 2 * H, rest);
    const Vec recurrent = load(gates + 3 * H, rest), h = load(at.h_before[lane] + u, rest);
    dh += load(at.carry[lane] + u, rest);
    const Vec dn = dh * (1.0f - z) * (1.0f - n * n);
    store(at.carry_before[lane] + u, dh * z, rest);
    E* to = at.dsums + lane * 4 * H + u;
    store(to, dn, rest);
    store(to + H, dn * recurrent * r * (1.0f - r), rest);
    store(to + 2 * H, dh * (h - n) * z * (1.0f - z), rest);
    store(to + 3 * H, dn * r, rest);
  }
};

// Elman 1990.
template <bool Relu>
struct RnnCell : PlainCell<1, 1, 0> {
  using PlainCell<1, 1, 0>::PlainCell;
  static constexpr bool kBelt = false, kCarries = false, kApart = false;
  using Layout = Columns;
  static long weight_row(long m, long) { return m; }

  template <class E, int G>
  static CONVEYOR_INLINE void forward(const ForwardStep<E>& at, const Columns& units, long r, long j, Vec (&sums)[G],
                                      const float*) {
    for (int g = 0; g < G; ++g) {
      const long u = units.first(j) + g * V;
      const Vec h = Relu ? (sums[g] < 0.0f ? Vec{} : sums[g]) : tanh(sums[g]);
      store(at.h[r] + u, h, units.n - u);
    }
  }

  template <class E, int G>
  static void show(const ForwardStep<E>&, const Columns&, long, long, const Vec (&)[G]) {}

  template <class E>
  static CONVEYOR_INLINE void backward(const BackwardStep<E>& at, long H, long r, long u, Vec dh) {
    const Vec h = load(at.h[r] + u, H - u);
    store(at.dsums + r * H + u, Relu ? (h > 0.0f ? dh : Vec{}) : dh * (1.0f - h * h), H - u);
  }
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
