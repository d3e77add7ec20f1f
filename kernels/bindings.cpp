// The kernels as the Python module conveyor._kernels. Arrays come by DLPack from torch or numpy alike; everything is
// checked here, and nothing below checks again.
#include "../runtime/bindings.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layer.hpp"
#include "memory.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace conveyor {
namespace {

// Of an array [D, ...] the part of one direction; of the outputs side by side its own.
template <class Float>
Float* part(Float* all, long d, long size) {
  return all ? all + d * size : nullptr;
}

// Values of one direction in an array [D, ...].
long size(const std::vector<long>& shape) {
  long product = 1;
  for (size_t n = 1; n < shape.size(); ++n) product *= shape[n];
  return product;
}

template <class Float>
Rows<Float> beside(Rows<Float> all, long d, long width) {
  return {part(all.data, d, width), all.step, all.row};
}

// The packed weights of a direction, borrowed for a call.
class Borrowed {
 public:
  Borrowed(const Packings::Key& key, std::size_t floats) : key_(key), block_(packings().take(key, floats)) {}
  ~Borrowed() { packings().give(key_, block_); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  float* data() const { return block_.data; }

 private:
  static Packings& packings() {
    static Packings all;
    return all;
  }

  Packings::Key key_;
  Block block_;
};

template <class E>
void forward(const std::string& cell, const std::vector<float>& options, const Array<const E>& x,
             const Array<const E>& h_0, const Maybe<Input>& c_0, const std::vector<Input>& weights,
             const Maybe<Input>& noise, const Array<E>& y, const Array<E>& h_n, const Maybe<Output>& c_n,
             const Maybe<Output>& gates, const Maybe<Output>& cells, const Maybe<Array<const std::int64_t>>& lengths,
             const Maybe<Array<const bool>>& resets, long every, bool alone, int threads) {
  const Which which(cell, options);
  const Layer<E> layer(cell, which, x, h_0, weights, {lengths, resets, std::max(every, 1L), alone});
  layer.require_belt(c_0 && c_n);
  const auto w = layer.weights("weights", weights);
  const long T = layer.T, B = layer.B, H = layer.H, P = layer.P, R = layer.widths.fed;
  const auto x_rows = rows("x", x, {T, B, layer.I});
  const auto y_rows = rows("y", y, {T, B, layer.D * P});
  const E* first_h = whole("h_0", h_0, layer.outputs());
  const float* first_c = whole("c_0", c_0, layer.states());
  E* last_h = whole("h_n", h_n, layer.outputs());
  float* last_c = whole("c_n", c_n, layer.states());
  float *all_gates = whole("gates", gates, layer.kept_gates()), *all_cells = whole("cells", cells, layer.kept_cells());
  std::vector<Forward<E>> directions;
  std::optional<Borrowed> packed[2];
  for (long d = 0; d < layer.D; ++d) {
    Forward<E> f{layer.cell,
                 layer.options,
                 layer.sizes(d),
                 weights_at(w, d),
                 x_rows,
                 layer.noise(noise, d),
                 part(first_h, d, B * R),
                 part(first_c, d, B * H),
                 beside(y_rows, d, P),
                 part(last_h, d, B * R),
                 part(last_c, d, B * H),
                 part(all_gates, d, T * B * layer.widths.kept * H),
                 part(all_cells, d, size(layer.kept_cells())),
                 nullptr};
    const std::size_t floats = passes<E>(kernels()).packed_floats(f);
    const Packings::Key key{f.weights.w_ih, f.weights.w_hh, layer.I, H, R, static_cast<int>(layer.cell),
                            sizeof(E),      floats};
    if (every == 0) f.packed = packed[d].emplace(key, floats).data();
    directions.push_back(f);
  }
  const nb::gil_scoped_release released;
  const int count = static_cast<int>(layer.D);
  const Memory memory(passes<E>(kernels()).forward_workspace(directions.data(), count, threads));
  passes<E>(kernels()).forward(directions.data(), count, memory.data(), threads);
}

template <class E>
void backward(const std::string& cell, const std::vector<float>& options, const Array<const E>& x,
              const Array<const E>& h_0, const Maybe<Input>& c_0, const std::vector<Input>& weights,
              const Maybe<Input>& noise, const Array<const E>& y, const Maybe<Input>& gates, const Maybe<Input>& cells,
              const Maybe<Array<const E>>& dy, const Maybe<Input>& dh_n, const Maybe<Input>& dc_n,
              const Maybe<Input>& dgates, const Maybe<Input>& dcells, const Maybe<Array<E>>& dx,
              const Maybe<Output>& dh_0, const Maybe<Output>& dc_0, const std::vector<Output>& dweights,
              const Maybe<Output>& dsums, const Maybe<Output>& dnoise, const Maybe<Array<const std::int64_t>>& lengths,
              const Maybe<Array<const bool>>& resets, long every, bool alone, int threads) {
  const Which which(cell, options);
  const Layer<E> layer(cell, which, x, h_0, weights, {lengths, resets, every, alone});
  layer.require_belt(c_0 && cells && (gates || every > 1));
  const auto w = layer.weights("weights", weights);
  const auto dw = dweights.empty() ? std::vector<float*>(w.size()) : layer.weights("dweights", dweights);
  const long T = layer.T, B = layer.B, H = layer.H, P = layer.P, R = layer.widths.fed;
  const auto x_rows = rows("x", x, {T, B, layer.I});
  const auto dx_rows = rows("dx", dx, {T, B, layer.I});
  const auto y_rows = rows("y", y, {T, B, layer.D * P});
  const auto dy_rows = rows("dy", dy, {T, B, layer.D * P});
  const E* first_h = whole("h_0", h_0, layer.outputs());
  const float* first_c = whole("c_0", c_0, layer.states());
  const float *all_gates = whole("gates", gates, layer.kept_gates()),
              *all_cells = whole("cells", cells, layer.kept_cells());
  const float *all_dgates = whole("dgates", dgates, layer.kept_gates()),
              *all_dcells = whole("dcells", dcells, layer.cells());
  const float *last_dh = whole("dh_n", dh_n, layer.outputs()), *last_dc = whole("dc_n", dc_n, layer.states());
  float *first_dh = whole("dh_0", dh_0, layer.outputs()), *first_dc = whole("dc_0", dc_0, layer.states());
  float *all_dsums = whole("dsums", dsums, layer.sums()), *all_dnoise = whole("dnoise", dnoise, layer.noises());
  std::vector<Backward<E>> directions;
  for (long d = 0; d < layer.D; ++d) {
    float* const* own = dw.data() + d * 6;
    directions.push_back({layer.cell,
                          layer.options,
                          layer.sizes(d),
                          weights_at(w, d),
                          x_rows,
                          beside(y_rows, d, P),
                          layer.noise(noise, d),
                          part(first_h, d, B * R),
                          part(first_c, d, B * H),
                          part(all_gates, d, T * B * layer.widths.kept * H),
                          part(all_cells, d, size(layer.kept_cells())),
                          beside(dy_rows, d, P),
                          part(last_dh, d, B * R),
                          part(last_dc, d, B * H),
                          part(all_dgates, d, T * B * layer.widths.kept * H),
                          part(all_dcells, d, T * B * H),
                          dx_rows,
                          d > 0,
                          part(first_dh, d, B * R),
                          part(first_dc, d, B * H),
                          own[0],
                          own[1],
                          own[4],
                          own[2],
                          own[3],
                          own[5],
                          part(all_dsums, d, T * B * layer.widths.sums),
                          part(all_dnoise, d, T * B * layer.widths.noise * H)});
  }
  const nb::gil_scoped_release released;
  const int count = static_cast<int>(layer.D);
  const Memory memory(passes<E>(kernels()).backward_workspace(directions.data(), count, threads));
  passes<E>(kernels()).backward(directions.data(), count, memory.data(), threads);
}

// The array there is, if any; `fits` stays what it is unless that is not one as the kernels take it.
template <class Element>
Maybe<Array<Element>> borrowed(nb::handle given, bool& fits) {
  Array<Element> values;
  if (given.is_none()) return std::nullopt;
  fits = fits && values.borrow(given);
  return values;
}

// A plain layer: output, h_n, c_n and, where it learns, gates and cells, None in the place of those that the cell has
// not. States that are None are zero. None alone where an array is not as `forward` takes it.
nb::object plain(const std::string& cell, const std::vector<float>& options, long D, long I, long H, long P,
                 nb::handle input, nb::handle h_0, nb::handle c_0, const std::vector<nb::object>& weights,
                 nb::handle lengths, nb::handle resets, bool learns, bool alone, int threads) {
  bool fits = true;
  const auto x = borrowed<const float>(input, fits);
  std::vector<Input> w(weights.size());
  for (std::size_t n = 0; n < w.size(); ++n) fits = fits && w[n].borrow(weights[n]);
  auto h = borrowed<const float>(h_0, fits), c = borrowed<const float>(c_0, fits);
  const auto steps = borrowed<const std::int64_t>(lengths, fits);
  const auto fresh = borrowed<const bool>(resets, fits);
  if (!fits || !x || x->ndim() != 3 || x->shape(2) != I || x->size() == 0) return nb::none();
  const bool belt = has_belt(cell_named(cell));
  const std::int64_t T = x->shape(0), B = x->shape(1), kept = Which(cell, options).widths(1, 1).kept;
  std::unique_ptr<Managed> zeros[2], results[5];
  const auto make = [](std::unique_ptr<Managed>& to, bool wanted, const std::vector<std::int64_t>& shape) {
    if (wanted) to = std::make_unique<Managed>(shape);
    return wanted ? Maybe<Output>(Output(*to)) : std::nullopt;
  };
  const auto zero = [](std::unique_ptr<Managed>& to, const std::vector<std::int64_t>& shape) {
    to = std::make_unique<Managed>(shape);
    std::fill_n(to->block.data, to->block.floats, 0.0f);
    return Input(*to);
  };
  try {
    if (!h) h = zero(zeros[0], {D, B, P});
    if (belt && !c) c = zero(zeros[1], {D, B, H});
    if (!belt) c.reset();
    const auto y = make(results[0], true, {T, B, D * P}), h_n = make(results[1], true, {D, B, P}),
               c_n = make(results[2], belt, {D, B, H}), gates = make(results[3], learns && kept, {D, T, B, kept, H}),
               cells = make(results[4], learns && belt, {D, T, B, H});
    forward<float>(cell, options, *x, *h, c, w, {}, *y, *h_n, c_n, gates, cells, steps, fresh, learns, alone, threads);
  } catch (const std::exception&) {  // a shape or a length that does not fit, or more than there is room for
    return nb::none();
  }
  nb::list found;
  const DlpackExchange* const exchange = exchange_of(Py_TYPE(input.ptr()));
  for (std::unique_ptr<Managed>& one : results) found.append(one ? hand_over(exchange, std::move(one)) : nb::none());
  return found;
}

// A tensor like another, not yet filled. What is given back is taken again.
nb::object empty(nb::handle like, const std::vector<std::int64_t>& shape, bool half) {
  return hand_over(exchange_of(Py_TYPE(like.ptr())),
                   std::make_unique<Managed>(shape, half ? nb::dtype<bf16>() : nb::dtype<float>()));
}

// Of a cell of one unit.
std::vector<long> widths(const std::string& cell, const std::vector<float>& options) {
  const Widths of = Which(cell, options).widths(1, 1);
  return {of.gates, of.kept, of.sums};
}

int threads_used(const std::string& cell, const std::vector<float>& options, int directions, long T, long B, long I,
                 long H, long P, int threads) {
  const LanePlan plan(nullptr, T, B, kernels().lanes);
  const Sizes sizes{T, B, I, H, P, false, plan.lanes(), nullptr, 1, false};
  return kernels().useful(sizes, directions, Which(cell, options).widths(H, P).gates, threads);
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
  const auto bind = [&](auto element, const char* forward_name, const char* backward_name) {
    using E = decltype(element);
    m.def(forward_name, &forward<E>, nb::arg("cell"), nb::arg("options"), given("x"), given("h_0"), maybe("c_0"),
          given("weights"), maybe("noise"), given("y"), given("h_n"), maybe("c_n"), maybe("gates"), maybe("cells"),
          maybe("lengths"), maybe("resets"), nb::arg("every"), nb::arg("alone"), nb::arg("threads"),
          "One layer: x [T, B, I], states [D, B, H], weights of each direction in a row, y [T, B, D H].");
    m.def(backward_name, &backward<E>, nb::arg("cell"), nb::arg("options"), given("x"), given("h_0"), maybe("c_0"),
          given("weights"), maybe("noise"), given("y"), maybe("gates"), maybe("cells"), maybe("dy"), maybe("dh_n"),
          maybe("dc_n"), maybe("dgates"), maybe("dcells"), maybe("dx"), maybe("dh_0"), maybe("dc_0"), given("dweights"),
          maybe("dsums"), maybe("dnoise"), maybe("lengths"), maybe("resets"), nb::arg("every"), nb::arg("alone"),
          nb::arg("threads"), "Its gradients, as `forward` left gates and cells.");
  };
  bind(float{}, "forward", "backward");
  bind(bf16{}, "forward_bfloat16", "backward_bfloat16");
  m.def("sigmoid", &apply<&Kernels::sigmoid>, "The kernels' own sigmoid, for tests.");
  m.def("tanh", &apply<&Kernels::tanh>, "The kernels' own tanh, for tests.");
  bind_runtime(m);
  m.def("isa", [] { return std::string(isa()); }, "Name of the build in use.");
  m.def("available", &available, "Names of the builds this processor can run, best first.");
  m.def("share_openmp", &share_openmp, "Run on the OpenMP threads this process has loaded; whether there are any.");
  m.def("plain", &plain, nb::arg("cell"), nb::arg("options"), nb::arg("D"), nb::arg("I"), nb::arg("H"), nb::arg("P"),
        nb::arg("input"), nb::arg("h_0").none(), nb::arg("c_0").none(), nb::arg("weights"), nb::arg("lengths").none(),
        nb::arg("resets").none(), nb::arg("learns"), nb::arg("alone"), nb::arg("threads"),
        "A plain layer: [output, h_n, c_n, gates, cells], or None where `forward` would refuse it.");
  m.def("empty", &empty, nb::arg("like"), nb::arg("shape"), nb::arg("half"),
        "A tensor, not yet filled, of memory that another may have had.");
  m.def("widths", &widths, nb::arg("cell"), nb::arg("options"),
        "Of a unit: the sums of a step, the values that training keeps of it, the gradients of its sums.");
  m.def("threads_used", &threads_used, nb::arg("cell"), nb::arg("options"), nb::arg("directions"), nb::arg("T"),
        nb::arg("B"), nb::arg("I"), nb::arg("H"), nb::arg("P"), nb::arg("threads"),
        "How many threads of those given a sequence of these sizes is worth.");
  m.def("processors", &available_processors, "Processors this process may run on.");
  m.def("peak_gflops", &peak_gflops, nb::arg("threads"), "Multiply-adds out of registers, 10^9 operations a second.");
}
