// A layer as Python passes it: its sizes, and its arrays checked against them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "kernels.hpp"
#include "lanes.hpp"

namespace conveyor {

namespace nb = nanobind;

using Input = Array<const float>;
using Output = Array<float>;
template <class T>
using Maybe = std::optional<T>;

inline std::string text(const std::vector<long>& shape) {
  std::string s = "[";
  for (size_t n = 0; n < shape.size(); ++n) s += (n ? ", " : "") + std::to_string(shape[n]);
  return s + "]";
}

[[noreturn]] inline void refuse(const char* name, const std::string& why) {
  throw nb::value_error((std::string("[kernels] ") + name + ": " + why).c_str());
}

// The array's data, once its shape is as expected and its innermost `dense` dimensions lie together.
template <class Float>
Float* data(const char* name, const Array<Float>& array, const std::vector<long>& shape, size_t dense) {
  std::vector<long> got;
  for (size_t n = 0; n < array.ndim(); ++n) got.push_back(static_cast<long>(array.shape(n)));
  if (got != shape) refuse(name, "expected " + text(shape) + ", got " + text(got));
  long stride = 1;
  for (size_t n = shape.size(); n-- > shape.size() - dense; stride *= shape[n])
    if (shape[n] > 1 && array.stride(n) != stride) refuse(name, "expected contiguous values, got strides; copy it");
  if (!array.data() && array.size()) refuse(name, "expected values in memory, got none; copy it");
  return array.data();
}

template <class Float>
Float* whole(const char* name, const Array<Float>& array, const std::vector<long>& shape) {
  return data(name, array, shape, shape.size());
}

template <class Float>
Float* whole(const char* name, const Maybe<Array<Float>>& array, const std::vector<long>& shape) {
  return array ? whole(name, *array, shape) : nullptr;
}

template <class Float>
Rows<Float> rows(const char* name, const Array<Float>& array, const std::vector<long>& shape) {
  return {data(name, array, shape, 1), array.stride(0), array.stride(1)};
}

template <class Float>
Rows<Float> rows(const char* name, const Maybe<Array<Float>>& array, const std::vector<long>& shape) {
  return array ? rows(name, *array, shape) : Rows<Float>{nullptr, 0, 0};
}

inline Cell cell_named(const std::string& name) {
  if (name == "lstm") return Cell::lstm;
  if (name == "lstm variant") return Cell::lstm_variant;
  if (name == "lstm tangent") return Cell::lstm_tangent;
  if (name == "gru") return Cell::gru;
  if (name == "rnn_tanh") return Cell::rnn_tanh;
  if (name == "rnn_relu") return Cell::rnn_relu;
  throw nb::value_error(
      ("[kernels] cell: expected lstm, lstm variant, lstm tangent, gru, rnn_tanh or rnn_relu, got " + name).c_str());
}

inline bool has_belt(Cell cell) {
  return cell == Cell::lstm || cell == Cell::lstm_variant || cell == Cell::lstm_tangent;
}

// Which steps there are: lengths [B] or null, resets [T, B] or null; every so many ticks the belt is kept; whether a
// row's results must be those it has alone.
struct Steps {
  Maybe<Array<const std::int64_t>> lengths;
  Maybe<Array<const bool>> resets;
  long every;
  bool alone;
};

// Which cell: its name and, of a variant, what `Variant.options` in conveyor/variant.py says.
struct Which {
  Cell cell;
  std::vector<float> options;

  Which(const std::string& name, std::vector<float> options_) : cell(cell_named(name)), options(std::move(options_)) {
    const std::size_t wanted = cell == Cell::lstm_variant ? static_cast<std::size_t>(kernels().variant_options) : 0;
    if (options.size() != wanted)
      refuse("options", "expected " + std::to_string(wanted) + " numbers, got " + std::to_string(options.size()));
  }
  Widths widths(long H, long P) const { return kernels().widths(cell, options.data(), H, P); }
};

// The sizes of a layer, and its arrays' shapes.
template <class E>
struct Layer {
  Cell cell;
  const float* options;
  long T, B, I, D;
  bool has_vectors, biased, projected;
  long H, P;
  Widths widths;
  bool belt;
  LanePlan plan;
  const bool* resets;
  long every, belts;
  bool alone;

  Layer(const std::string& name, const Which& which, const Array<const E>& x, const Array<const E>& h_0,
        const std::vector<Input>& weights, const Steps& steps)
      : cell(which.cell),
        options(which.options.data()),
        T(dimension("x", x, 0)),
        B(dimension("x", x, 1)),
        I(dimension("x", x, 2)),
        D(dimension("h_0", h_0, 0)),
        has_vectors(which.widths(1, 1).vectors > 0),
        biased(arrays_of(weights) >= 4),
        projected(arrays_of(weights) % 2 == 1),
        H(units(which, weights)),
        P(projected ? dimension("w_hr", weights[static_cast<size_t>(2 + 2 * biased)], 0, 2) : H),
        widths(which.widths(H, P)),
        belt(has_belt(cell)),
        plan(lengths_of(name, steps.lengths), T, B, kernels().lanes),
        resets(whole("resets", steps.resets, {T, B})),
        every(steps.every),
        belts(LanePlan::belts(T, every, !steps.lengths)),
        alone(steps.alone) {
    if (projected && !belt) refuse("w_hr", "expected a projection of the lstm alone, got one of " + name);
    if (cell == Cell::lstm_tangent && sizeof(E) != sizeof(float)) refuse("x", "expected float32 of " + name);
    if (every < 1) refuse("every", "expected 1 or more, got " + std::to_string(every));
  }

  std::vector<long> outputs() const { return {D, B, widths.fed}; }
  std::vector<long> states() const { return {D, B, H}; }
  std::vector<long> cells() const { return {D, T, B, H}; }
  std::vector<long> kept_cells() const {
    return every > 1 ? std::vector<long>{D, belts, B, H + widths.fed - P} : cells();
  }
  std::vector<long> kept_gates() const { return {D, T, B, widths.kept, H}; }
  std::vector<long> noises() const { return {D, T, B, widths.noise, H}; }
  std::vector<long> sums() const { return {D, T, B, widths.sums}; }
  Sizes sizes(long d) const { return {T, B, I, H, P, d == 1, plan.lanes(), resets, every, alone}; }

  void require_belt(bool given) const {
    if (belt && !given) throw nb::value_error("[kernels] lstm: expected c_0 and all that goes with it");
  }

  // Of noise [D, T, B, noise, H] that of a direction.
  Rows<const float> noise(const Maybe<Input>& given, long d) const {
    if (!widths.noise || !given) {
      if (widths.noise || given) refuse("noise", "expected it of a variant that draws and of a tangent, of no other");
      return {nullptr, 0, 0};
    }
    const float* values = data("noise", *given, noises(), 2);
    return {values + d * given->stride(0), given->stride(1), given->stride(2)};
  }

  // w_ih, w_hh, b_ih, b_hh, w_hr and vectors of each direction in a row; null where there is none.
  template <class Float>
  std::vector<Float*> weights(const char* name, const std::vector<Array<Float>>& all) const {
    std::vector<Float*> pointers;
    const Array<Float>* w = all.data();
    if (arrays_of(all) != 2 + 2 * biased + projected) refuse(name, "expected as many arrays as weights");
    const long gates = widths.gates;
    for (long d = 0; d < D; ++d) {
      pointers.push_back(whole(name, *w++, {gates * H, I}));
      pointers.push_back(whole(name, *w++, {gates * H, widths.fed}));
      for (int bias = 0; bias < 2; ++bias) pointers.push_back(biased ? whole(name, *w++, {gates * H}) : nullptr);
      pointers.push_back(projected ? whole(name, *w++, {P, H}) : nullptr);
      pointers.push_back(has_vectors ? whole(name, *w++, {widths.vectors}) : nullptr);
    }
    return pointers;
  }

 private:
  template <class Any>
  static long dimension(const char* name, const Any& array, size_t n, size_t of = 3) {
    if (array.ndim() != of) refuse(name, "expected " + std::to_string(of) + " dimensions");
    return static_cast<long>(array.shape(n));
  }

  // How many arrays a direction has, besides its vectors.
  template <class Any>
  long arrays_of(const std::vector<Any>& all) const {
    const long count = static_cast<long>(all.size());
    if (D < 1 || D > 2) refuse("h_0", "expected 1 or 2 directions, got " + std::to_string(D));
    const long each = count / D - has_vectors;
    if (count % D || each < 2 || each > 5)
      refuse("weights", "expected 2 to 5 arrays a direction, and vectors, got " + std::to_string(count) + " in all");
    return each;
  }

  static long units(const Which& which, const std::vector<Input>& weights) {
    const long rows = dimension("w_ih", weights[0], 0, 2), gates = which.widths(1, 1).gates;
    if (rows % gates || rows == 0) refuse("w_ih", "expected rows for each gate, got " + std::to_string(rows));
    return rows / gates;
  }

  const std::int64_t* lengths_of(const std::string& name, const Maybe<Array<const std::int64_t>>& lengths) const {
    const std::int64_t* values = whole("lengths", lengths, {B});
    for (long b = 0; values && b < B; ++b)
      if (values[b] < 0 || values[b] > T)
        throw std::runtime_error("[" + name + "] lengths: expected 0 to T = " + std::to_string(T) +
                                 " steps in every row, got " + std::to_string(values[b]) + " in row " +
                                 std::to_string(b));
    return values;
  }
};

template <class Float>
Weights weights_at(const std::vector<Float*>& all, long d) {
  const auto* w = all.data() + d * 6;
  return {w[0], w[1], w[2], w[3], w[4], w[5]};
}

}  // namespace conveyor
