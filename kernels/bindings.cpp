// The kernels as the Python module conveyor._kernels. Arrays come by DLPack from torch or numpy alike; everything is
// checked here, and nothing below checks again.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
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

Sizes sizes_of(const Input& x, const Input& w_hh, bool reverse) {
  if (x.ndim() != 3 || w_hh.ndim() != 2) throw nb::value_error("[kernels] expected x [T, B, I] and w_hh [G H, H]");
  return {static_cast<long>(x.shape(0)), static_cast<long>(x.shape(1)), static_cast<long>(x.shape(2)),
          static_cast<long>(w_hh.shape(1)), reverse};
}

Weights weights_of(Cell cell, const Sizes& s, const Input& w_ih, const Input& w_hh, const Maybe<Input>& b_ih,
                   const Maybe<Input>& b_hh) {
  const long G = gates_of(cell) * s.H;
  if (b_ih.has_value() != b_hh.has_value()) throw nb::value_error("[kernels] b_ih, b_hh: expected both or none");
  return {whole("w_ih", w_ih, {G, s.I}), whole("w_hh", w_hh, {G, s.H}), whole("b_ih", b_ih, {G}),
          whole("b_hh", b_hh, {G})};
}

void require(Cell cell, const Maybe<Input>& c_0, bool has_c) {
  if (cell == Cell::lstm && !(c_0 && has_c)) throw nb::value_error("[kernels] lstm: expected c_0 and c_n");
}

void forward(const std::string& cell_name, bool reverse, const Input& x, const Input& h_0, const Maybe<Input>& c_0,
             const Input& w_ih, const Input& w_hh, const Maybe<Input>& b_ih, const Maybe<Input>& b_hh, const Output& y,
             const Output& h_n, const Maybe<Output>& c_n, const Maybe<Output>& gates, const Maybe<Output>& cells,
             int threads) {
  const Cell cell = cell_named(cell_name);
  const Sizes s = sizes_of(x, w_hh, reverse);
  require(cell, c_0, c_n.has_value());
  const Forward f{cell,
                  s,
                  weights_of(cell, s, w_ih, w_hh, b_ih, b_hh),
                  rows("x", x, {s.T, s.B, s.I}),
                  whole("h_0", h_0, {s.B, s.H}),
                  whole("c_0", c_0, {s.B, s.H}),
                  rows("y", y, {s.T, s.B, s.H}),
                  whole("h_n", h_n, {s.B, s.H}),
                  whole("c_n", c_n, {s.B, s.H}),
                  whole("gates", gates, {s.T, s.B, 4, s.H}),
                  whole("cells", cells, {s.T, s.B, s.H})};
  nb::gil_scoped_release released;
  for (const auto* output : {&gates, &cells})
    if (*output) prefer_huge_pages((*output)->data(), (*output)->size());
  prefer_huge_pages(y.data(), y.size());
  const Memory memory(kernels().forward_workspace(f));
  kernels().forward(f, memory.data(), threads);
}

void backward(const std::string& cell_name, bool reverse, const Input& x, const Input& h_0, const Maybe<Input>& c_0,
              const Input& w_ih, const Input& w_hh, const Input& y, const Maybe<Input>& gates,
              const Maybe<Input>& cells, const Maybe<Input>& dy, const Maybe<Input>& dh_n, const Maybe<Input>& dc_n,
              const Maybe<Output>& dx, const Output& dh_0, const Maybe<Output>& dc_0, const Maybe<Output>& dw_ih,
              const Maybe<Output>& dw_hh, const Maybe<Output>& db, int threads) {
  const Cell cell = cell_named(cell_name);
  const Sizes s = sizes_of(x, w_hh, reverse);
  require(cell, c_0, dc_0 && gates && cells);
  if (dw_ih.has_value() != dw_hh.has_value()) throw nb::value_error("[kernels] dw_ih, dw_hh: expected both or none");
  const long G = gates_of(cell) * s.H;
  const Backward f{cell,
                   s,
                   weights_of(cell, s, w_ih, w_hh, std::nullopt, std::nullopt),
                   rows("x", x, {s.T, s.B, s.I}),
                   rows("y", y, {s.T, s.B, s.H}),
                   whole("h_0", h_0, {s.B, s.H}),
                   whole("c_0", c_0, {s.B, s.H}),
                   whole("gates", gates, {s.T, s.B, 4, s.H}),
                   whole("cells", cells, {s.T, s.B, s.H}),
                   rows("dy", dy, {s.T, s.B, s.H}),
                   whole("dh_n", dh_n, {s.B, s.H}),
                   whole("dc_n", dc_n, {s.B, s.H}),
                   rows("dx", dx, {s.T, s.B, s.I}),
                   whole("dh_0", dh_0, {s.B, s.H}),
                   whole("dc_0", dc_0, {s.B, s.H}),
                   whole("dw_ih", dw_ih, {G, s.I}),
                   whole("dw_hh", dw_hh, {G, s.H}),
                   whole("db", db, {G})};
  nb::gil_scoped_release released;
  if (dx) prefer_huge_pages(dx->data(), dx->size());
  const Memory memory(kernels().backward_workspace(f));
  kernels().backward(f, memory.data(), threads);
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
  m.def("forward", &forward, nb::arg("cell"), nb::arg("reverse"), nb::arg("x").noconvert(), nb::arg("h_0").noconvert(),
        nb::arg("c_0").noconvert().none(), nb::arg("w_ih").noconvert(), nb::arg("w_hh").noconvert(),
        nb::arg("b_ih").noconvert().none(), nb::arg("b_hh").noconvert().none(), nb::arg("y").noconvert(),
        nb::arg("h_n").noconvert(), nb::arg("c_n").noconvert().none(), nb::arg("gates").noconvert().none(),
        nb::arg("cells").noconvert().none(), nb::arg("threads"));
  m.def("backward", &backward, nb::arg("cell"), nb::arg("reverse"), nb::arg("x").noconvert(),
        nb::arg("h_0").noconvert(), nb::arg("c_0").noconvert().none(), nb::arg("w_ih").noconvert(),
        nb::arg("w_hh").noconvert(), nb::arg("y").noconvert(), nb::arg("gates").noconvert().none(),
        nb::arg("cells").noconvert().none(), nb::arg("dy").noconvert().none(), nb::arg("dh_n").noconvert().none(),
        nb::arg("dc_n").noconvert().none(), nb::arg("dx").noconvert().none(), nb::arg("dh_0").noconvert(),
        nb::arg("dc_0").noconvert().none(), nb::arg("dw_ih").noconvert().none(), nb::arg("dw_hh").noconvert().none(),
        nb::arg("db").noconvert().none(), nb::arg("threads"));
  m.def("sigmoid", &apply<&Kernels::sigmoid>, "The kernels' own sigmoid, for tests.");
  m.def("tanh", &apply<&Kernels::tanh>, "The kernels' own tanh, for tests.");
  m.def("isa", [] { return std::string(isa()); }, "Name of the build in use.");
  m.def("available", &available, "Names of the builds this processor can run, best first.");
  m.def("share_openmp", &share_openmp, "Run on the OpenMP threads this process has loaded; whether there are any.");
  m.def("processors", &available_processors, "Processors this process may run on.");
  m.def("peak_gflops", &peak_gflops, nb::arg("threads"), "Multiply-adds out of registers, 10^9 operations a second.");
}
