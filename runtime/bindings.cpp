// The runtime as Python sees it. Arrays are checked here.
#include "bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "model.hpp"

namespace nb = nanobind;

namespace conveyor {
namespace {

using Features = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>;
using Held = std::shared_ptr<const Model>;

[[noreturn]] void refuse(const char* name, const std::string& why) {
  throw Refused(name, std::string("[runtime] ") + why);
}

template <class Array>
std::string shape_of(const Array& array) {
  std::string text = "[";
  for (std::size_t n = 0; n < array.ndim(); ++n) text += (n ? ", " : "") + std::to_string(array.shape(n));
  return text + "]";
}

[[noreturn]] void refuse_token(const Model& model, const std::string& got) {
  refuse("input", "tokens: expected 0 to " + std::to_string(model.tokens - 1) + ", got " + got);
}

void check_tokens(const Model& model, const std::int64_t* tokens, std::size_t count) {
  for (std::size_t n = 0; n < count; ++n)
    if (tokens[n] < 0 || tokens[n] >= model.tokens) refuse_token(model, std::to_string(tokens[n]));
}

// Any numbers as an array of numpy's.
nb::object array_of_numbers(const char* name, const nb::object& x) {
  nb::object array;
  try {
    array = nb::module_::import_("numpy").attr("asarray")(x);
  } catch (nb::python_error& error) {
    refuse(name, std::string(name) + ": expected an array of numbers: " + nb::str(error.value()).c_str());
  }
  const nb::object type = array.attr("dtype");
  if (std::strchr("fiu", nb::cast<std::string>(type.attr("kind"))[0])) return array;
  refuse(name, std::string(name) + ": expected an array of numbers, got " + nb::str(type).c_str());
}

template <class Array>
Array contiguous(const nb::object& array, const char* type) {
  return nb::cast<Array>(nb::module_::import_("numpy").attr("ascontiguousarray")(array, type), false);
}

// Numbers of any type as float32, which must hold them.
Features floats(const char* name, const nb::object& array) {
  const nb::module_ numpy = nb::module_::import_("numpy");
  if (!array.attr("dtype").equal(numpy.attr("float32")) && nb::cast<std::size_t>(array.attr("size"))) {
    const double most = nb::cast<double>(numpy.attr("fmax").attr("reduce")(numpy.attr("abs")(array), nb::none()));
    if (most > std::numeric_limits<float>::max() && std::isfinite(most))
      refuse(name, std::string(name) + ": expected numbers within float32, got " + nb::str(nb::float_(most)).c_str());
  }
  return contiguous<Features>(array, "float32");
}

// Any array as the model takes it: tokens if they are whole numbers and it reads tokens, else floats.
template <class Use>
auto as_given(const Model& model, const nb::object& x, const Use& use) {
  const nb::object array = array_of_numbers("input", x);
  const std::string kind = nb::cast<std::string>(array.attr("dtype").attr("kind"));
  const bool empty = nb::cast<std::size_t>(array.attr("size")) == 0;
  if (!model.tokens || (kind == "f" && !empty)) return use(floats("input", array));
  if (kind == "u" && !empty)
    if (const nb::object most = array.attr("max")(); most > nb::int_(model.tokens))
      refuse_token(model, nb::str(most).c_str());
  return use(contiguous<Tokens>(array, "int64"));
}

// What a model is given: features [..., I] or tokens [...].
struct Given {
  const float* features = nullptr;
  const std::int64_t* tokens = nullptr;

  explicit Given(const std::int64_t* token) : tokens(token) {}
  Given(const Model& model, const Features& x, std::initializer_list<std::size_t> shape) : features(x.data()) {
    if (model.tokens) refuse("input", "expected tokens, whole numbers, got floats " + shape_of(x));
    bool alike = x.ndim() == shape.size() + 1 && x.shape(shape.size()) == static_cast<std::size_t>(model.inputs());
    for (std::size_t n = 0; alike && n < shape.size(); ++n) alike = x.shape(n) == shape.begin()[n];
    if (!alike) refuse("input", "expected floats " + wanted(shape, model.inputs()) + ", got " + shape_of(x));
  }
  Given(const Model& model, const Tokens& x, std::initializer_list<std::size_t> shape) : tokens(x.data()) {
    if (!model.tokens) refuse("input", "expected floats, got whole numbers " + shape_of(x));
    bool alike = x.ndim() == shape.size();
    for (std::size_t n = 0; alike && n < shape.size(); ++n) alike = x.shape(n) == shape.begin()[n];
    if (!alike) refuse("input", "expected tokens " + wanted(shape, 0) + ", got " + shape_of(x));
    check_tokens(model, tokens, x.size());
  }

 private:
  static std::string wanted(std::initializer_list<std::size_t> shape, long width) {
    std::string text = "[";
    for (const std::size_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    return text + (width ? (text.size() > 1 ? ", " : "") + std::to_string(width) : "") + "]";
  }
};

nb::object array_of(const std::shared_ptr<Executor>& executor, const float* data) {
  auto* const kept = new std::shared_ptr<Executor>(executor);
  const nb::capsule owner(kept, [](void* held) noexcept { delete static_cast<std::shared_ptr<Executor>*>(held); });
  const std::size_t shape[] = {static_cast<std::size_t>(executor->model().outputs())};
  return nb::cast(nb::ndarray<nb::numpy, const float>(data, 1, shape, owner));
}

struct Fresh {
  float* data;
  nb::object array;
};
Fresh fresh(std::initializer_list<std::size_t> shape) {
  std::size_t count = 1;
  for (const std::size_t size : shape) count *= size;
  float* const data = new float[count + 1];
  const nb::capsule owner(data, [](void* held) noexcept { delete[] static_cast<float*>(held); });
  return {data, nb::cast(nb::ndarray<nb::numpy, float>(data, shape.size(), shape.begin(), owner))};
}

int threads_of(int threads) {
  if (threads < 1 || threads > 1024) refuse("threads", "threads: expected 1 to 1024, got " + std::to_string(threads));
  return threads;
}

using States = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Array>
nb::object run(const Held& model, const Array& x, const std::optional<Tokens>& lengths,
               const std::optional<States>& moved, int threads) {
  const std::size_t dims = x.ndim() - (model->tokens ? 0 : 1);
  if (x.ndim() < 1 || dims < 1 || dims > 2)
    refuse("input", "expected a sequence, or a batch [T, B] of them, got " + shape_of(x));
  const std::size_t T = x.shape(0), B = dims == 2 ? x.shape(1) : 1, O = static_cast<std::size_t>(model->outputs());
  const Given given = dims == 2 ? Given(*model, x, {T, B}) : Given(*model, x, {T});
  if (lengths) {
    if (lengths->ndim() != 1 || lengths->shape(0) != B)
      refuse("lengths", "expected one a sequence, [" + std::to_string(B) + "], got " + shape_of(*lengths));
    for (std::size_t b = 0; b < B; ++b)
      if (lengths->data()[b] < 0 || lengths->data()[b] > static_cast<std::int64_t>(T))
        refuse("lengths", "expected 0 to " + std::to_string(T) + ", got " + std::to_string(lengths->data()[b]));
  }
  const std::size_t each = static_cast<std::size_t>(model->state);
  if (moved && (moved->shape(0) != B || moved->shape(1) != each))
    refuse("state", "expected [" + std::to_string(B) + ", " + std::to_string(each) + "], got " + shape_of(*moved));
  const Fresh y = dims == 2 ? fresh({T, B, O}) : fresh({T, O});
  if (T && B) {
    const nb::gil_scoped_release released;
    Executor executor(model, static_cast<long>(T), static_cast<long>(B), threads_of(threads));
    std::vector<float> zeros(moved ? 0 : B * each + 1);
    std::vector<float*> rows(B);
    for (std::size_t b = 0; b < B; ++b) rows[b] = (moved ? moved->data() : zeros.data()) + b * each;
    const float* const found = executor.run(static_cast<long>(T), static_cast<long>(B), given.features, given.tokens,
                                            rows.data(), lengths ? lengths->data() : nullptr);
    std::memcpy(y.data, found, T * B * O * sizeof(float));
  }
  return y.array;
}

void require_streams(const Model& model) {
  if (!model.streams) refuse("streams", "this model reads its sequences from both ends; give it whole ones with run");
}

nb::object state_array(const float* state, std::size_t count) {
  const Fresh copied = fresh({count});
  std::memcpy(copied.data, state, count * sizeof(float));
  return copied.array;
}

void restore(float* state, std::size_t count, const nb::object& numbers) {
  const Features given = floats("state", array_of_numbers("state", numbers));
  if (given.ndim() != 1 || given.shape(0) != count)
    refuse("state", "expected [" + std::to_string(count) + "], got " + shape_of(given));
  for (std::size_t n = 0; n < count; ++n)
    if (!(given.data()[n] - given.data()[n] == 0)) refuse("state", "expected numbers, got NaN or infinity");
  std::memcpy(state, given.data(), count * sizeof(float));
}

// While a call computes without the GIL no other may begin. Set and reset under it.
class Busy {
 public:
  explicit Busy(bool& busy) : busy_(busy) {
    if (busy) refuse("busy", "another thread is in a call of this; expected one at a time");
    busy = true;
  }
  ~Busy() { busy_ = false; }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  bool& busy_;
};

class Session {
 public:
  Session(Held model, int threads)
      : model_(std::move(model)),
        executor_(std::make_shared<Executor>((require_streams(*model_), model_), 1, 1, threads_of(threads))),
        state_(static_cast<std::size_t>(model_->state)),
        threads_(threads) {
    row_ = state_.data();
  }

  nb::object step(const Features& x) { return advance(Given(*model_, x, {})); }
  nb::object step_token(std::int64_t token) {
    if (!model_->tokens) refuse("input", "expected floats, got a whole number");
    check_tokens(*model_, &token, 1);
    return advance(Given(&token));
  }

  // Numbers and arrays of other types.
  nb::object step_any(const nb::object& x) {
    if (model_->tokens && PyIndex_Check(x.ptr())) {
      const Py_ssize_t token = PyNumber_AsSsize_t(x.ptr(), PyExc_OverflowError);
      if (!PyErr_Occurred()) return step_token(token);
      PyErr_Clear();
      if (PyLong_Check(x.ptr())) refuse_token(*model_, nb::str(x).c_str());
    }
    return as_given(*model_, x, [&](const auto& given) { return advance(Given(*model_, given, {})); });
  }

  template <class Array>
  nb::object push(const Array& x) {
    const std::size_t dims = model_->tokens ? 1 : 2;
    if (x.ndim() != dims) refuse("input", "expected a stretch of a sequence, got " + shape_of(x));
    const std::size_t T = x.shape(0), O = static_cast<std::size_t>(model_->outputs());
    const Given given(*model_, x, {T});
    const Fresh y = fresh({T, O});
    const Busy busy(busy_);
    const nb::gil_scoped_release released;
    if (!many_) many_.emplace(model_, kSteps, 1, threads_);
    for (std::size_t t = 0; t < T; t += kSteps) {
      const long steps = static_cast<long>(std::min(T - t, static_cast<std::size_t>(kSteps)));
      const float* const found = many_->run(
          steps, 1, given.features ? given.features + t * static_cast<std::size_t>(model_->inputs()) : nullptr,
          given.tokens ? given.tokens + t : nullptr, &row_);
      std::memcpy(y.data + t * O, found, static_cast<std::size_t>(steps) * O * sizeof(float));
    }
    return y.array;
  }

  const Model& model() const { return *model_; }
  void reset() { std::fill(state_.begin(), state_.end(), 0.0f); }
  nb::object state() const { return state_array(state_.data(), state_.size()); }
  void set_state(const nb::object& given) { restore(state_.data(), state_.size(), given); }

 private:
  static constexpr long kSteps = 64;

  nb::object advance(const Given& given) {
    const Busy busy(busy_);
    const float* const y = executor_->run(1, 1, given.features, given.tokens, &row_);
    if (!y_.is_valid()) y_ = array_of(executor_, y);
    return y_;
  }

  const Held model_;
  const std::shared_ptr<Executor> executor_;
  std::optional<Executor> many_;
  std::vector<float> state_;
  float* row_;
  nb::object y_;
  const int threads_;
  bool busy_ = false;
};

class Streams {
 public:
  Streams(Held model, long capacity, int threads)
      : model_(std::move(model)), capacity_(capacity), threads_(threads_of(threads)) {
    require_streams(*model_);
    if (capacity < 1 || capacity > 1 << 20)
      refuse("capacity", "expected 1 to 1048576 streams, got " + std::to_string(capacity));
    executor_.emplace(model_, 1, capacity, threads_);
    states_.resize(static_cast<std::size_t>(capacity * model_->state) + 1);
    there_.resize(static_cast<std::size_t>(capacity));
    rows_.reserve(static_cast<std::size_t>(capacity));
    for (long n = capacity; n-- > 0;) free_.push_back(n);
  }

  long join() {
    if (free_.empty())
      refuse("capacity", "all " + std::to_string(capacity_) + " streams are taken; one must leave first");
    const long stream = free_.back();
    free_.pop_back();
    there_[static_cast<std::size_t>(stream)] = true;
    std::fill_n(at(stream), model_->state, 0.0f);
    return stream;
  }
  void leave(long stream) {
    require(stream);
    there_[static_cast<std::size_t>(stream)] = false;
    free_.push_back(stream);
  }

  template <class Array>
  nb::object step(const Tokens& streams, const Array& x) {
    if (streams.ndim() != 1) refuse("streams", "expected the numbers of streams, [n], got " + shape_of(streams));
    const std::size_t n = streams.shape(0), O = static_cast<std::size_t>(model_->outputs());
    const Given given(*model_, x, {n});
    if (busy_) refuse("busy", "another thread is in a step of this pool; expected one at a time");
    rows_.clear();
    for (std::size_t k = 0; k < n; ++k) {
      require(streams.data()[k]);
      if (stepping_.size() < there_.size()) stepping_.resize(there_.size());
      rows_.push_back(at(streams.data()[k]));
    }
    bool twice = false;
    for (std::size_t k = 0; k < n; ++k) {
      auto marked = stepping_[static_cast<std::size_t>(streams.data()[k])];
      twice = twice || marked;
      stepping_[static_cast<std::size_t>(streams.data()[k])] = true;
    }
    for (std::size_t k = 0; k < n; ++k) stepping_[static_cast<std::size_t>(streams.data()[k])] = false;
    if (twice) refuse("streams", "expected each stream once a step");
    const Fresh y = fresh({n, O});
    const Busy busy(busy_);
    const nb::gil_scoped_release released;
    if (n)
      std::memcpy(y.data, executor_->run(1, static_cast<long>(n), given.features, given.tokens, rows_.data()),
                  n * O * sizeof(float));
    return y.array;
  }

  nb::object state(long stream) {
    return require(stream), state_array(at(stream), static_cast<std::size_t>(model_->state));
  }
  void set_state(long stream, const nb::object& given) {
    require(stream);
    restore(at(stream), static_cast<std::size_t>(model_->state), given);
  }
  void reset(long stream) { require(stream), std::fill_n(at(stream), model_->state, 0.0f); }
  const Model& model() const { return *model_; }
  long size() const { return capacity_ - static_cast<long>(free_.size()); }

 private:
  float* at(long stream) { return states_.data() + stream * model_->state; }
  void require(long stream) const {
    if (stream < 0 || stream >= capacity_ || !there_[static_cast<std::size_t>(stream)])
      refuse("streams", "expected a stream that has joined, got " + std::to_string(stream));
  }

  const Held model_;
  const long capacity_;
  const int threads_;
  std::optional<Executor> executor_;
  std::vector<float> states_;
  std::vector<float*> rows_;
  std::vector<bool> there_, stepping_;
  bool busy_ = false;
  std::vector<long> free_;
};

}  // namespace

void bind_runtime(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Refused& refused) {
      const bool of_file = std::strncmp(refused.what(), "[bundle]", 8) == 0;
      const nb::object type = nb::module_::import_("conveyor.errors").attr(of_file ? "BundleError" : "ConveyorError");
      const nb::object said = nb::steal(
          PyUnicode_DecodeUTF8(refused.what(), static_cast<Py_ssize_t>(std::strlen(refused.what())), "replace"));
      const nb::object arguments = of_file ? nb::make_tuple(said, refused.name) : nb::make_tuple(said);
      PyErr_SetObject(type.ptr(), arguments.ptr());
    }
  });
  struct Shared {
    Held model;
  };
  nb::class_<Shared>(m, "Model", "A bundle's network.")
      .def_static("load", [](const std::string& path) { return Shared{read_model(read_file(path))}; })
      .def_static("of_bytes",
                  [](const nb::bytes& bytes) {
                    const auto* const from = static_cast<const unsigned char*>(bytes.data());
                    return Shared{read_model({from, from + bytes.size()})};
                  })
      .def(
          "run",
          [](const Shared& s, const nb::object& x, const std::optional<Tokens>& lengths,
             const std::optional<States>& states, int threads) {
            return as_given(*s.model, x,
                            [&](const auto& given) { return run(s.model, given, lengths, states, threads); });
          },
          nb::arg("x").none(), nb::arg("lengths").none(), nb::arg("states").noconvert().none(), nb::arg("threads"))
      .def(
          "session", [](const Shared& s, int threads) { return new Session(s.model, threads); }, nb::arg("threads") = 1)
      .def(
          "pool", [](const Shared& s, long capacity, int threads) { return new Streams(s.model, capacity, threads); },
          nb::arg("capacity"), nb::arg("threads") = 1)
      .def_prop_ro("tokens", [](const Shared& s) { return s.model->tokens; })
      .def_prop_ro("inputs", [](const Shared& s) { return s.model->inputs(); })
      .def_prop_ro("outputs", [](const Shared& s) { return s.model->outputs(); })
      .def_prop_ro("state", [](const Shared& s) { return s.model->state; })
      .def_prop_ro("streams", [](const Shared& s) { return s.model->streams; })
      .def_prop_ro("task", [](const Shared& s) { return s.model->about; })
      .def_prop_ro("facts", [](const Shared& s) { return s.model->facts; });
  nb::class_<Session>(m, "Session", "One stream of a model, for one thread at a time.")
      .def("step", &Session::step_token, nb::arg("x").noconvert(),
           "The outputs [O] of a step: of numbers [I], or a token. The next step overwrites them. Allocates nothing, "
           "takes "
           "no lock.")
      .def("step", &Session::step, nb::arg("x").noconvert())
      .def("step", &Session::step_any, nb::arg("x").none())
      .def(
          "push",
          [](Session& s, const nb::object& x) {
            return as_given(s.model(), x, [&](const auto& given) { return s.push(given); });
          },
          nb::arg("x").none(), "The outputs [n, O] of several steps: of rows [n, I], or tokens [n].")
      .def("reset", &Session::reset, "Forget everything.")
      .def_prop_rw("state", &Session::state, &Session::set_state, nb::for_setter(nb::arg("state").none()),
                   "All that it remembers, float32 [S]: a copy, which may be set in any session of the same model.");
  nb::class_<Streams>(m, "Pool")
      .def("join", &Streams::join)
      .def("leave", &Streams::leave, nb::arg("stream"))
      .def(
          "step",
          [](Streams& s, const Tokens& streams, const nb::object& x) {
            return as_given(s.model(), x, [&](const auto& given) { return s.step(streams, given); });
          },
          nb::arg("streams"), nb::arg("x").none())
      .def("state", &Streams::state, nb::arg("stream"))
      .def("set_state", &Streams::set_state, nb::arg("stream"), nb::arg("state").none())
      .def("reset", &Streams::reset, nb::arg("stream"))
      .def("__len__", &Streams::size);
}

}  // namespace conveyor
