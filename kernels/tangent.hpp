// The tangent of a cell: how its step changes as its sums and its state do. Second derivatives are its gradients; the
// equations stand in src/conveyor/ops/tangent.py.
#pragma once

#include "cells.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// Of the LSTM: linear, its slopes those of the step as it ran, which is given: i, f, g, o, c_{t-1} and c. Its own c is the
// change of c, and what it keeps are the changes of the sums.
struct LstmTangent : LstmCell {
  using LstmCell::LstmCell;
  long noise() const { return 6; }

  struct Slopes {
    Vec i, f, g, o, c_before, shown;

    Slopes(const float* ran, long H, long n)
        : i(load(ran, n)),
          f(load(ran + H, n)),
          g(load(ran + 2 * H, n)),
          o(load(ran + 3 * H, n)),
          c_before(load(ran + 4 * H, n)),
          shown(tanh(load(ran + 5 * H, n))) {}

    Vec of_i() const { return g * i * (1.0f - i); }
    Vec of_f() const { return c_before * f * (1.0f - f); }
    Vec of_g() const { return i * (1.0f - g * g); }
    Vec of_o() const { return shown * o * (1.0f - o); }
    Vec of_c() const { return o * (1.0f - shown * shown); }
  };

  template <class E>
  static CONVEYOR_INLINE void forward(const ForwardStep<E>& at, const Units<4>& units, long r, long j, Vec (&sums)[4],
                                      const float*) {
    const long H = units.n, u = j * V, n = H - u;
    const Slopes s(at.noise[r] + u, H, n);
    const Vec c = s.f * load(at.c_before[r] + u, n) + s.of_i() * sums[0] + s.of_f() * sums[1] + s.of_g() * sums[2];
    store(at.c[r] + u, c, n);
    if (at.gates)
      for (int m = 0; m < 4; ++m) store(at.gates[r] + m * H + u, sums[m], n);
    sums[0] = c;
  }

  template <class E>
  static CONVEYOR_INLINE void show(const ForwardStep<E>& at, const Units<4>& units, long r, long j,
                                   const Vec (&sums)[4]) {
    const long H = units.n, u = j * V, n = H - u;
    const Slopes s(at.noise[r] + u, H, n);
    store(at.h[r] + u, s.of_o() * sums[3] + s.of_c() * sums[0], n);
  }

  template <class E>
  static CONVEYOR_INLINE void backward(const BackwardStep<E>& at, long H, long r, long u, Vec dh) {
    const long n = H - u;
    const Slopes s(at.noise[r] + u, H, n);
    Vec dc = load(at.carry[r] + u, n) + dh * s.of_c();
    if (at.dcells && at.dcells[r]) dc += load(at.dcells[r] + u, n);
    store(at.carry_before[r] + u, dc * s.f, n);
    const Vec d[] = {dc * s.of_i(), dc * s.of_f(), dc * s.of_g(), dh * s.of_o()};
    const float* const given = at.dgates ? at.dgates[r] : nullptr;
    for (int m = 0; m < 4; ++m)
      store(at.dsums + (r * 4 + m) * H + u, given ? d[m] + load(given + m * H + u, n) : d[m], n);
    if (at.shown)
      store(at.shown + r * H + u, s.of_o() * load(at.gates[r] + 3 * H + u, n) + s.of_c() * load(at.c[r] + u, n), n);
    if (at.dnoise[r]) of_the_step(at, s, at.dnoise[r] + u, H, r, u, dh, dc);
  }

 private:
  // The gradients of the step it is of.
  template <class E>
  static CONVEYOR_INLINE void of_the_step(const BackwardStep<E>& at, const Slopes& s, float* to, long H, long r, long u,
                                          Vec dh, Vec dc) {
    const long n = H - u;
    const float* sums = at.gates[r] + u;
    const Vec z_i = load(sums, n), z_f = load(sums + H, n), z_g = load(sums + 2 * H, n), z_o = load(sums + 3 * H, n);
    const Vec c = load(at.c[r] + u, n), open = 1.0f - s.shown * s.shown;
    store(to, dc * (s.g * (1.0f - 2.0f * s.i) * z_i + (1.0f - s.g * s.g) * z_g), n);
    store(to + H, dc * (load(at.c_before[r] + u, n) + s.c_before * (1.0f - 2.0f * s.f) * z_f), n);
    store(to + 2 * H, dc * s.i * ((1.0f - s.i) * z_i - 2.0f * s.g * z_g), n);
    store(to + 3 * H, dh * (s.shown * (1.0f - 2.0f * s.o) * z_o + open * c), n);
    store(to + 4 * H, dc * s.f * (1.0f - s.f) * z_f, n);
    store(to + 5 * H, dh * s.o * open * ((1.0f - s.o) * z_o - 2.0f * s.shown * c), n);
  }
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
