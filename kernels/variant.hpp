// Any variant of the LSTM, a row at a time: `variant_step` of conveyor/equations.py, and its derivative. The products
// are those of every cell; what is done with their sums lies in memory here, so that norms can look along the row.
#pragma once

#include "cells.hpp"
#include "norm.hpp"
#include "squash.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// One step of one row: what the cell reads and writes.
template <class E>
struct RowForward {
  float *x_sums, *h_sums;  // [G H] each, used up; x_sums null: they are in h_sums
  const float* bias;       // [G H]
  const E* h_before;       // [P]
  const float *c_before, *noise;
  float *gates, *c;  // gates: [4, H] and, of a normalised row, its sums, [2 G, H], and their two scales
  E* h;              // [H]
};

template <class E>
struct RowBackward {
  const float *gates, *c_before, *noise;
  const float* dh;               // [H]: of what is shown, before the projection
  const float *dseen, *dseen_n;  // [n, H]: of the gates as the next step saw them; dseen_n: or null
  const float *dgates, *dcells;  // null, or both
  const float* carry;            // [H]: of the belt
  float* carry_before;
  E* dsums;              // [S]
  E* shown;              // [H], or null
  float *own, *scratch;  // [own()]: this row's part of the gradients of the vectors; [scratch()]
};

// What is drawn for each unit, row and step, as `NOISE` of conveyor/variant.py has it.
enum Noise { kDropsCandidate, kDropsHidden, kKeepsCell, kKeepsOutput, kNoises };

class VariantCell {
 public:
  static constexpr bool kBelt = true, kCarries = true, kApart = false, kKeeps = true, kByRow = true;
  static constexpr int kOptions = 23;  // as many as its constructor reads
  using Layout = Columns;
  static long weight_row(long m, long) { return m; }

  VariantCell(const float* options, long H_) : H(H_) {
    const auto flag = [&] { return *options++ != 0.0f; };
    const auto squash = [&] {
      const Squash s{static_cast<Squashing>(static_cast<int>(options[0])), options[1], options[2]};
      options += 3;
      return s;
    };
    const bool has_i = flag(), has_f = flag(), has_o = flag();
    slot_i = has_i ? gates++ : -1, slot_f = has_f ? gates++ : -1, slot_g = gates++, slot_o = has_o ? gates++ : -1;
    doors = gates - 1;
    coupled = flag(), peepholes = flag(), sees_gates = flag(), norms = flag();
    of_gate = squash(), of_candidate = squash(), of_belt = squash();
    clip = *options++, cell_clip = *options++, proj_clip = *options++;
    for (int& slot : noise_slot) slot = flag() ? noises++ : -1;
    const auto bounds = [&](const Squash& squash, float& from, float& to) {
      const bool none = clip > 1e30f;
      from = none ? -clip : squash(splat(-clip))[0], to = none ? clip : squash(splat(clip))[0];
      if (from > to) std::swap(from, to);
    };
    const bool plain = of_gate.kind == kSigmoid && of_candidate.kind == kTanh && of_belt.kind == kTanh;
    usual = plain && !norms && noises == 0 && clip > 1e30f && cell_clip > 1e30f;
    bounds(of_gate, low, high), bounds(of_candidate, g_low, g_high);
  }

  long sums() const { return (norms ? 2 : 1) * gates * H; }
  long kept() const { return norms ? 4 + 2 * gates + 2 : 4; }  // times H
  long fed(long P) const { return P + (sees_gates ? doors * H : 0); }
  long vectors() const { return (peepholes ? doors * H : 0) + (norms ? 2 * gates * H + 2 * H : 0); }
  long noise() const { return noises; }
  // Gradients a row gives apart from those of its sums: of the vectors, and of the bias where sums are normalised.
  long own() const { return vectors() + (norms ? gates * H : 0); }
  long scratch() const { return 4 * H + 2 * gates * H; }
  bool keeps_output() const { return noise_slot[kKeepsOutput] >= 0; }
  bool feeds() const { return sees_gates || noise_slot[kDropsHidden] >= 0; }

  // What the recurrent product reads: h, of which some is dropped, and behind it the gates of the step before.
  template <class E>
  void feed(E* to, const E* h, const float* noise, long P) const {
    for (long n = 0; n < P; n += V) store(to + n, load(h + n, P - n) * factor(noise, kDropsHidden, n, P - n), P - n);
  }
  template <class E>
  void see(E* to, const float* gates_before) const {
    for (int door = 0; door < doors; ++door)
      for (long u = 0; u < H; u += V)
        store(to + door * H + u, load(gates_before + place_of(door) * H + u, H - u), H - u);
  }

  // Where the n-th of the gates proper lies in i, f, g, o.
  int place_of(int door) const {
    const int places[] = {0, 1, 3};
    int n = -1, place = 0;
    for (const int slot : {slot_i, slot_f, slot_o}) {
      if (slot >= 0 && ++n == door) return places[place];
      ++place;
    }
    return 0;
  }

  Vec factor(const float* noise, Noise kind, long u, long n) const {
    return noise_slot[kind] < 0 ? splat(1.0f) : load(noise + noise_slot[kind] * H + u, n);
  }
  Vec stays(const float* noise, Noise kind, long u, long n) const {
    return noise_slot[kind] < 0 ? Vec{} : load(noise + noise_slot[kind] * H + u, n);
  }

  template <class E>
  void forward(const RowForward<E>& at, const float* vectors) const {
    usual ? run<true>(at, vectors) : run<false>(at, vectors);
  }

  template <class E>
  void backward(const RowBackward<E>& at, const float* vectors) const {
    usual ? run_backward<true>(at, vectors) : run_backward<false>(at, vectors);
  }

  // What a bound on the projected output lets through of its gradient.
  template <class E>
  Vec through_bound(Vec dh, const E* h, long u, long n) const {
    E bound[V];
    store(bound, splat(proj_clip));
    const Vec most = load(bound), y = load(h + u, n);
    return y < most && -y < most ? dh : y != y ? dh : Vec{};
  }

  const long H;
  int gates = 0, doors = 0, noises = 0;
  int slot_i, slot_f, slot_g, slot_o, noise_slot[kNoises];
  bool coupled, peepholes, sees_gates, norms;
  bool usual;  // the usual activations, nothing drawn, bounded or normalised: known as the program is compiled
  Squash of_gate, of_candidate, of_belt;
  float clip, cell_clip, proj_clip, low, high, g_low, g_high;

  static CONVEYOR_INLINE Vec bounded(Vec x, float bound) { return at_most(splat(bound), at_least(splat(-bound), x)); }

 private:
  template <bool Usual, class E>
  void run(const RowForward<E>& at, const float* vectors) const {
    if (norms) normalise_sums(at);
    for (long u = 0; u < H; u += V) {
      const long n = H - u;
      const Vec c_before = load(at.c_before + u, n);
      const Vec i = door<Usual>(at, vectors, slot_i, 0, u, c_before);
      const Vec f = coupled ? 1.0f - i : door<Usual>(at, vectors, slot_f, slot_i >= 0, u, c_before);
      const Vec g = Usual ? tanh(sum<Usual>(at, vectors, slot_g, u))
                          : of_candidate(bounded(sum<Usual>(at, vectors, slot_g, u), clip));
      const Vec belt = Usual ? f * c_before + i * g : fresh(i, f, g, c_before, at.noise, u);
      const Vec o = door<Usual>(at, vectors, slot_o, doors - 1, u, belt);
      const Vec m = Usual ? Vec{} : stays(at.noise, kKeepsCell, u, n);
      store(at.c + u, Usual ? belt : m * c_before + (1.0f - m) * belt, n);
      store(at.gates + u, i, n);
      store(at.gates + H + u, f, n);
      store(at.gates + 2 * H + u, g, n);
      store(at.gates + 3 * H + u, o, n);
      if (Usual)
        store(at.h + u, o * tanh(belt), n);
      else if (norms)
        store(at.x_sums + u, belt, n);  // the sums there have been read
      else
        show(at, u, o, belt);
    }
    if (Usual || !norms) return;
    normalise(at.x_sums, H);
    for (long u = 0; u < H; u += V) {
      const Vec belt = load(norm_c(vectors) + u, H - u) * load(at.x_sums + u, H - u) + load(norm_b(vectors) + u, H - u);
      show(at, u, load(at.gates + 3 * H + u, H - u), belt);
    }
  }

  template <bool Usual, class E>
  void run_backward(const RowBackward<E>& at, const float* vectors) const {
    float *belt = at.scratch, *hat = belt + H, *dbelt = hat + H, *shown = dbelt + H, *dx = shown + H,
          *dh = dx + gates * H;
    for (long u = 0; u < H; u += V) store(belt + u, fresh<Usual>(at, u), H - u);
    float scale = 1;
    if (norms) {
      std::memcpy(hat, belt, static_cast<std::size_t>(H) * sizeof(float));
      scale = normalise(hat, H);
    }
    for (long u = 0; u < H; u += V) show_backward<Usual>(at, vectors, belt, hat, dbelt, shown, u);
    if (norms) normalise_backward(dbelt, hat, scale, H);
    for (long u = 0; u < H; u += V) cell_backward<Usual>(at, vectors, belt, dbelt, shown, dx, u);
    if (!norms) {
      for (long m = 0; m < gates * H; m += V) store(at.dsums + m, load(dx + m, gates * H - m), gates * H - m);
      return;
    }
    const long GH = gates * H;
    const float *x_hat = at.gates + 4 * H, *h_hat = x_hat + GH, *scales = h_hat + GH;
    float* own = at.own + (peepholes ? doors * H : 0);
    for (long m = 0; m < GH; m += V) {
      const long n = GH - m;
      const Vec dz = load(dx + m, n);
      store(own + m, dz * load(x_hat + m, n), n);
      store(own + GH + m, dz * load(h_hat + m, n), n);
      store(own + 2 * GH + 2 * H + m, dz, n);
      store(dx + m, dz * load(norm_ih(vectors) + m, n), n);
      store(dh + m, dz * load(norm_hh(vectors) + m, n), n);
    }
    normalise_backward(dx, x_hat, scales[0], GH);
    normalise_backward(dh, h_hat, scales[H], GH);
    for (long m = 0; m < 2 * GH; m += V) store(at.dsums + m, load(dx + m, 2 * GH - m), 2 * GH - m);
  }

  const float* norm_ih(const float* vectors) const { return vectors + (peepholes ? doors * H : 0); }
  const float* norm_hh(const float* vectors) const { return norm_ih(vectors) + gates * H; }
  const float* norm_c(const float* vectors) const { return norm_hh(vectors) + gates * H; }
  const float* norm_b(const float* vectors) const { return norm_c(vectors) + H; }

  template <class E>
  void normalise_sums(const RowForward<E>& at) const {
    const long GH = gates * H;
    float* kept = at.gates + 4 * H;
    kept[2 * GH] = normalise(at.x_sums, GH);
    kept[2 * GH + H] = normalise(at.h_sums, GH);
    std::memcpy(kept, at.x_sums, static_cast<std::size_t>(GH) * sizeof(float));
    std::memcpy(kept + GH, at.h_sums, static_cast<std::size_t>(GH) * sizeof(float));
  }

  template <bool Usual, class E>
  CONVEYOR_INLINE Vec sum(const RowForward<E>& at, const float* vectors, int slot, long u) const {
    const long m = slot * H + u, n = H - u;
    Vec x = at.x_sums ? load(at.x_sums + m, n) : Vec{}, h = load(at.h_sums + m, n);
    if (!Usual && norms) x *= load(norm_ih(vectors) + m, n), h *= load(norm_hh(vectors) + m, n);
    return x + h + load(at.bias + m, n);
  }

  // The gate of that slot, the n-th of the gates proper; 1 where there is none.
  template <bool Usual, class E>
  CONVEYOR_INLINE Vec door(const RowForward<E>& at, const float* vectors, int slot, int nth, long u, Vec belt) const {
    if (slot < 0) return splat(1.0f);
    Vec z = sum<Usual>(at, vectors, slot, u);
    if (peepholes) z += load(vectors + nth * H + u, H - u) * belt;
    return Usual ? sigmoid(z) : of_gate(bounded(z, clip));
  }

  // The belt after the step, before a unit stays as it was.
  CONVEYOR_INLINE Vec fresh(Vec i, Vec f, Vec g, Vec c_before, const float* noise, long u) const {
    return bounded(f * c_before + i * (g * factor(noise, kDropsCandidate, u, H - u)), cell_clip);
  }
  template <bool Usual, class E>
  CONVEYOR_INLINE Vec fresh(const RowBackward<E>& at, long u) const {
    const long n = H - u;
    const Vec i = load(at.gates + u, n), f = load(at.gates + H + u, n), g = load(at.gates + 2 * H + u, n);
    const Vec c_before = load(at.c_before + u, n);
    return Usual ? f * c_before + i * g : fresh(i, f, g, c_before, at.noise, u);
  }

  template <class E>
  CONVEYOR_INLINE void show(const RowForward<E>& at, long u, Vec o, Vec belt) const {
    const long n = H - u;
    Vec h = o * of_belt(belt);
    if (noise_slot[kKeepsOutput] >= 0) {
      const Vec m = stays(at.noise, kKeepsOutput, u, n);
      h = m * load(at.h_before + u, n) + (1.0f - m) * h;
    }
    store(at.h + u, h, n);
  }

  template <bool Usual, class E>
  CONVEYOR_INLINE void show_backward(const RowBackward<E>& at, const float* vectors, const float* belt,
                                     const float* hat, float* dbelt, float* to_shown, long u) const {
    const long n = H - u;
    const Vec o = load(at.gates + 3 * H + u, n), dh = load(at.dh + u, n);
    Vec seen = load(belt + u, n);
    if (!Usual && norms) seen = load(norm_c(vectors) + u, n) * load(hat + u, n) + load(norm_b(vectors) + u, n);
    const Vec shown = Usual ? tanh(seen) : of_belt(seen);
    Vec d = dh * o * (Usual ? 1.0f - shown * shown : of_belt.slope(shown));
    store(to_shown + u, shown, n);
    if (at.shown) store(at.shown + u, o * shown, n);
    if (norms) {
      float* own = at.own + (peepholes ? doors * H : 0) + 2 * gates * H + u;
      store(own, d * load(hat + u, n), n);
      store(own + H, d, n);
      d *= load(norm_c(vectors) + u, n);
    }
    store(dbelt + u, d, n);
  }

  // dz = d slope, of a gate that is there: put with the others.
  template <bool Usual, class E>
  CONVEYOR_INLINE Vec close(const RowBackward<E>& at, float* dz, int slot, int nth, long u, Vec d, Vec value,
                            Vec belt) const {
    if (slot < 0) return Vec{};
    const Vec z = Usual                         ? d * value * (1.0f - value)
                  : value > low && value < high ? d * of_gate.slope(value)
                                                : (value != value ? value : Vec{});
    store(dz + slot * H + u, z, H - u);
    if (peepholes) store(at.own + nth * H + u, z * belt, H - u);
    return z;
  }

  template <class E>
  CONVEYOR_INLINE Vec given(const RowBackward<E>& at, int place, int slot, int nth, long u) const {
    const long n = H - u;
    Vec d = at.dgates ? load(at.dgates + place * H + u, n) : Vec{};
    if (sees_gates && slot >= 0) {
      d += load(at.dseen + nth * H + u, n);
      if (at.dseen_n) d += load(at.dseen_n + nth * H + u, n);
    }
    return d;
  }

  template <bool Usual, class E>
  CONVEYOR_INLINE void cell_backward(const RowBackward<E>& at, const float* vectors, const float* belts,
                                     const float* dbelt, const float* shown, float* dz, long u) const {
    const long n = H - u;
    const float* gate = at.gates + u;
    const Vec i = load(gate, n), f = load(gate + H, n), g = load(gate + 2 * H, n), o = load(gate + 3 * H, n);
    const Vec c_before = load(at.c_before + u, n), belt = load(belts + u, n);
    const Vec m = Usual ? Vec{} : stays(at.noise, kKeepsCell, u, n),
              drop = Usual ? splat(1.0f) : factor(at.noise, kDropsCandidate, u, n);
    const auto peephole = [&](int nth) { return peepholes ? load(vectors + nth * H + u, n) : Vec{}; };
    Vec dc = load(at.carry + u, n);
    if (at.dcells) dc += load(at.dcells + u, n);
    const int nth_f = slot_i >= 0, nth_o = doors - 1;
    const Vec dz_o = close<Usual>(at, dz, slot_o, nth_o, u,
                                  load(at.dh + u, n) * load(shown + u, n) + given(at, 3, slot_o, nth_o, u), o, belt);
    Vec d = load(dbelt + u, n) + (1.0f - m) * dc;
    if (slot_o >= 0) d += peephole(nth_o) * dz_o;
    if (!Usual) d = belt < cell_clip && -belt < cell_clip ? d : belt != belt ? d : Vec{};
    Vec di = d * g * drop + given(at, 0, slot_i, 0, u);
    const Vec df = d * c_before + given(at, 1, slot_f, nth_f, u);
    const Vec dg = d * i * drop + given(at, 2, -1, 0, u);
    if (coupled) di -= df;
    const Vec dz_i = close<Usual>(at, dz, slot_i, 0, u, di, i, c_before);
    const Vec dz_f = close<Usual>(at, dz, slot_f, nth_f, u, df, f, c_before);
    const Vec dz_g = Usual                     ? dg * (1.0f - g * g)
                     : g > g_low && g < g_high ? dg * of_candidate.slope(g)
                                               : (g != g ? g : Vec{});
    store(dz + slot_g * H + u, dz_g, n);
    Vec before = m * dc + d * f;
    if (slot_i >= 0) before += peephole(0) * dz_i;
    if (slot_f >= 0) before += peephole(nth_f) * dz_f;
    store(at.carry_before + u, before, n);
  }
};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
