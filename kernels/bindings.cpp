// The kernels as the Python module conveyor._kernels. Arrays come by DLPack from torch or numpy alike; everything is
// checked here, and nothing below checks again.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace conveyor {
namespace {

template <class Float>
using Array = nb::ndarray<Float, nb::device::cpu>;
using Input = Array<const float>;
using Output = Array<float>;
template <class T>
using Maybe = std::optional<T>;

std::string text(const std::vector<long>& shape) {
  std::string s = "[";
  for (size_t n = 0; n < shape.size(); ++n) s += (n ? ", " : "") + std::to_string(shape[n]);
  return s + "]";
}

[[noreturn]] void refuse(const char* name, const std::string& why) {
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

Cell cell_named(const std::string& name) {
  if (name == "lstm") return Cell::lstm;
  if (name == "rnn_tanh") return Cell::rnn_tanh;
  if (name == "rnn_relu") return Cell::rnn_relu;
  throw nb::value_error(("[kernels] cell: expected lstm, rnn_tanh or rnn_relu, got " + name).c_str());
}

// One direction of a layer's arrays: those of the states [D, ...] are cut by `part`, those of the output by `units`.
struct Direction {
  long d, B, H;

  template <class Float>
  Float* part(Float* all, long size) const {
    return all ? all + d * size : nullptr;
  }
  template <class Float>
  Float* state(Float* all) const {
    return part(all, B * H);
  }
  template <class Float>
  Rows<Float> units(Rows<Float> all) const {
    return {all.data ? all.data + d * H : nullptr, all.step, all.row};
  }
};

// The sizes of a layer, and its arrays' shapes.
struct Layer {
  Cell cell;
  long T, B, I, H, D, G;

  Layer(const std::string& name, const Input& x, const Input& h_0) : cell(cell_named(name)) {
    if (x.ndim() != 3 || h_0.ndim() != 3) throw nb::value_error("[kernels] expected x [T, B, I] and h_0 [D, B, H]");
    T = static_cast<long>(x.shape(0)), B = static_cast<long>(x.shape(1)), I = static_cast<long>(x.shape(2));
    D = static_cast<long>(h_0.shape(0)), H = static_cast<long>(h_0.shape(2)), G = gates_of(cell) * H;
    if (D != 1 && D != 2) refuse("h_0", "expected 1 or 2 directions, got " + std::to_string(D));
  }

  std::vector<long> states() const { return {D, B, H}; }
  std::vector<long> output() const { return {T, B, D * H}; }
  std::vector<long> cells() const { return {D, T, B, H}; }
  std::vector<long> gates() const { return {D, T, B, 4, H}; }
  Direction direction(long d) const { return {d, B, H}; }
  Sizes sizes(long d) const { return {T, B, I, H, d == 1}; }

  void require(bool belt) const {
    if (cell == Cell::lstm && !belt) throw nb::value_error("[kernels] lstm: expected c_0 and all that goes with it");
  }

  // w_ih, w_hh and perhaps b_ih, b_hh of each direction, in a row.
  template <class Float>
  std::vector<Float*> weights(const char* name, const std::vector<Array<Float>>& all) const {
    const size_t directions = static_cast<size_t>(D), each = all.size() / directions;
    if (all.size() != each * directions || (each != 2 && each != 4))
      refuse(name, "expected 2 or 4 arrays a direction, got " + std::to_string(all.size()) + " in all");
    std::vector<Float*> pointers;
    for (size_t d = 0; d < directions; ++d) {
      const Array<Float>* w = all.data() + d * each;
      pointers.push_back(whole(name, w[0], {G, I}));
      pointers.push_back(whole(name, w[1], {G, H}));
      pointers.push_back(each == 4 ? whole(name, w[2], {G}) : nullptr);
      pointers.push_back(each == 4 ? whole(name, w[3], {G}) : nullptr);
    }
    return pointers;
  }
};

Weights weights_at(const std::vector<const float*>& all, long d) {
  const float* const* w = all.data() + d * 4;
  return {w[0], w[1], w[2], w[3]};
}

void forward(const std::string& cell, const Input& x, const Input& h_0, const Maybe<Input>& c_0,
             const std::vector<Input>& weights, const Output& y, const Output& h_n, const Maybe<Output>& c_n,
             const Maybe<Output>& gates, const Maybe<Output>& cells, int threads) {
  const Layer layer(cell, x, h_0);
  layer.require(c_0 && c_n);
  const auto w = layer.weights("weights", weights);
  const auto x_rows = rows("x", x, {layer.T, layer.B, layer.I});
  const auto y_rows = rows("y", y, layer.output());
  const float *first_h = whole("h_0", h_0, layer.states()), *first_c = whole("c_0", c_0, layer.states());
  float *last_h = whole("h_n", h_n, layer.states()), *last_c = whole("c_n", c_n, layer.states());
  float *all_gates = whole("gates", gates, layer.gates()), *all_cells = whole("cells", cells, layer.cells());
  nb::gil_scoped_release released;
  for (const auto* output : {&gates, &cells})
    if (*output) prefer_huge_pages((*output)->data(), (*output)->size());
  prefer_huge_pages(y.data(), y.size());
  for (long d = 0; d < layer.D; ++d) {
    const Direction at = layer.direction(d);
    const long steps = layer.T * layer.B * layer.H;
    const Forward f{layer.cell,
                    layer.sizes(d),
                    weights_at(w, d),
                    x_rows,
                    at.state(first_h),
                    at.state(first_c),
                    at.units(y_rows),
                    at.state(last_h),
                    at.state(last_c),
                    at.part(all_gates, 4 * steps),
                    at.part(all_cells, steps)};
    const Memory memory(kernels().forward_workspace(f));
    kernels().forward(f, memory.data(), threads);
  }
}

void backward(const std::string& cell, const Input& x, const Input& h_0, const Maybe<Input>& c_0,
              const std::vector<Input>& weights, const Input& y, const Maybe<Input>& gates, const Maybe<Input>& cells,
              const Maybe<Input>& dy, const Maybe<Input>& dh_n, const Maybe<Input>& dc_n, const Maybe<Output>& dx,
              const Output& dh_0, const Maybe<Output>& dc_0, const std::vector<Output>& dweights, int threads) {
  const Layer layer(cell, x, h_0);
  layer.require(c_0 && dc_0 && gates && cells);
  const auto w = layer.weights("weights", weights);
  const auto dw = dweights.empty() ? std::vector<float*>(w.size()) : layer.weights("dweights", dweights);
  const auto x_rows = rows("x", x, {layer.T, layer.B, layer.I});
  const auto dx_rows = rows("dx", dx, {layer.T, layer.B, layer.I});
  const auto y_rows = rows("y", y, layer.output()), dy_rows = rows("dy", dy, layer.output());
  const float *first_h = whole("h_0", h_0, layer.states()), *first_c = whole("c_0", c_0, layer.states());
  const float *all_gates = whole("gates", gates, layer.gates()), *all_cells = whole("cells", cells, layer.cells());
  const float *last_dh = whole("dh_n", dh_n, layer.states()), *last_dc = whole("dc_n", dc_n, layer.states());
  float *first_dh = whole("dh_0", dh_0, layer.states()), *first_dc = whole("dc_0", dc_0, layer.states());
  nb::gil_scoped_release released;
  if (dx) prefer_huge_pages(dx->data(), dx->size());
  for (long d = 0; d < layer.D; ++d) {
    const Direction at = layer.direction(d);
    const long steps = layer.T * layer.B * layer.H;
    float* const* own = dw.data() + d * 4;
    const Backward f{layer.cell,
                     layer.sizes(d),
                     weights_at(w, d),
                     x_rows,
                     at.units(y_rows),
                     at.state(first_h),
                     at.state(first_c),
                     at.part(all_gates, 4 * steps),
                     at.part(all_cells, steps),
                     at.units(dy_rows),
                     at.state(last_dh),
                     at.state(last_dc),
                     dx_rows,
                     d > 0,
                     at.state(first_dh),
                     at.state(first_dc),
                     own[0],
                     own[1],
                     own[2]};
    const Memory memory(kernels().backward_workspace(f));
    kernels().backward(f, memory.data(), threads);
    if (own[3]) std::memcpy(own[3], own[2], static_cast<size_t>(layer.G) * sizeof(float));  // both are added to one sum
  }
}

std::vector<std::string> available() {
  std::vector<std::string> names;
  for (int n = 0; available_isa(n); ++n) names.push_back(available_isa(n));
  return names;
}

double peak_gflops(int threads) {
  nb::gil_scoped_release released;
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::vector<double> operations(static_cast<size_t>(threads));
    const auto start = std::chrono::steady_clock::now();
    parallel(threads,
             [&](const Team& team) { operations[static_cast<size_t>(team.index)] = kernels().multiply_adds(100000); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (double n : operations) total += n;
    best = std::max(best, total / seconds.count() * 1e-9);
  }
  return best;
}

template <void (*Kernels::*function)(const float*, float*, long)>
void apply(const nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& from,
           const nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>& to) {
  if (from.size() != to.size()) throw nb::value_error("[kernels] expected arrays of one length");
  (kernels().*function)(from.data(), to.data(), static_cast<long>(from.size()));
}

}  // namespace
}  // namespace conveyor

NB_MODULE(_kernels, m) {
  using namespace conveyor;
  if (isa_error()) throw std::runtime_error(isa_error());
  m.doc() = "Conveyor's kernels: recurrent layers over whole sequences, float32, on the CPU.";
  const auto given = [](const char* name) { return nb::arg(name).noconvert(); };
  const auto maybe = [](const char* name) { return nb::arg(name).noconvert().none(); };
  m.def("forward", &forward, nb::arg("cell"), given("x"), given("h_0"), maybe("c_0"), given("weights"), given("y"),
        given("h_n"), maybe("c_n"), maybe("gates"), maybe("cells"), nb::arg("threads"),
        "One layer: x [T, B, I], states [D, B, H], weights of each direction in a row, y [T, B, D H].");
  m.def("backward", &backward, nb::arg("cell"), given("x"), given("h_0"), maybe("c_0"), given("weights"), given("y"),
        maybe("gates"), maybe("cells"), maybe("dy"), maybe("dh_n"), maybe("dc_n"), maybe("dx"), given("dh_0"),
        maybe("dc_0"), given("dweights"), nb::arg("threads"), "Its gradients, as `forward` left gates and cells.");
  m.def("sigmoid", &apply<&Kernels::sigmoid>, "The kernels' own sigmoid, for tests.");
  m.def("tanh", &apply<&Kernels::tanh>, "The kernels' own tanh, for tests.");
  m.def("isa", [] { return std::string(isa()); }, "Name of the build in use.");
  m.def("available", &available, "Names of the builds this processor can run, best first.");
  m.def("share_openmp", &share_openmp, "Run on the OpenMP threads this process has loaded; whether there are any.");
  m.def("processors", &available_processors, "Processors this process may run on.");
  m.def("peak_gflops", &peak_gflops, nb::arg("threads"), "Multiply-adds out of registers, 10^9 operations a second.");
}
