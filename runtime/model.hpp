// A network as the runtime holds it: nodes in the order in which they are computed, each of the outputs of earlier ones,
// with their weights packed for the kernels. It never changes once it is read; any number of streams share it.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../kernels/kernels.hpp"

namespace conveyor {

// What is wrong with a bundle or a call; `name` is one word by which tests and programs know it.
class Refused : public std::runtime_error {
 public:
  Refused(const char* name_, const std::string& why) : std::runtime_error(why), name(name_) {}
  const char* const name;
};

enum class Op { input, embedding, linear, recurrent, norm, activation, scale, add, concat, pool };
enum class Activation { relu, tanh, sigmoid, softmax, log_softmax };
// Of all steps so far: their mean, the largest of each feature, or of both directions the output where each ended.
enum class Pooling { mean, max, ends };

// Floats aligned to cache lines.
class Floats {
 public:
  Floats() = default;
  explicit Floats(std::size_t count);
  float* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t size_ = 0;
};

// A packed matrix [N, K].
struct Matrix {
  Format format = Format::float32;
  long N = 0, K = 0;
  Floats packed;
};

// One direction of a recurrent layer.
struct Direction {
  Matrix w_ih, w_hh, w_hr;
  std::vector<float> start;  // of the sums of the input
  std::vector<float> bias;   // both biases, for cells that add them
  std::vector<float> b_hh, vectors, none;
};

struct Recurrent {
  Cell cell = Cell::lstm;
  std::vector<float> options, rates;  // rates: of each kind of noise, its expectation
  long H = 0, P = 0;
  Widths widths{};
  Sums sums{};
  bool belt = false, projected = false, reverse = false;
  std::vector<float> noise;  // [noise, H]
  std::vector<Direction> directions;
  long at = 0;  // of its state in that of a stream: h [R], then c [H]
};

struct Node {
  Op op = Op::input;
  std::vector<int> of;
  long width = 0;
  Matrix matrix;                        // of a linear node
  Format format = Format::float32;      // of an embedding
  const unsigned char* rows = nullptr;  // [tokens, width], in the bytes that the model keeps
  std::vector<float> row_scales;
  std::vector<float> weight, bias;  // of a norm, a scale, a linear node
  Activation activation = Activation::relu;
  Pooling pooling = Pooling::mean;
  long at = 0;  // of a pool's state in that of a stream: how many steps, then [width]
  Recurrent recurrent;
};

struct Model {
  long tokens = 0;  // how many there are; 0: the input is features
  std::vector<Node> nodes;
  std::string facts;                 // JSON, as it stands in the file
  std::string about;                 // the file's own name of the task
  std::vector<unsigned char> bytes;  // the file, where an embedding is looked up in it; else empty
  long state = 0;                    // floats a stream carries
  bool streams = true;               // no layer reads backwards
  std::size_t weights = 0;

  long inputs() const { return nodes.front().width; }
  long outputs() const { return nodes.back().width; }
};

// The model in a file's bytes, of which nothing is believed. Throws Refused.
std::shared_ptr<const Model> read_model(std::vector<unsigned char> bytes);
// The bytes of a file. Throws Refused.
std::vector<unsigned char> read_file(const std::string& path);

// Room for T steps of B streams at most, and what computes them.
class Executor {
 public:
  Executor(std::shared_ptr<const Model> model, long T, long B, int threads);
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // T steps of B streams from `states` on, which are moved on: a pointer a stream to Model::state floats. Inputs [T, B]:
  // features or tokens. `lengths` of each stream, or null; past them outputs are zero. The outputs [T, B, outputs] stay
  // until the next call. Allocates nothing; tokens are those of the model.
  const float* run(long T, long B, const float* features, const std::int64_t* tokens, float* const* states,
                   const std::int64_t* lengths = nullptr);

  const Model& model() const { return *model_; }
  long steps() const { return T_; }

 private:
  // What one thread works with.
  struct Own {
    Floats sums, hidden_sums, scratch, gates, shown, projected;
    std::vector<const float*> x, shown_rows;
    std::vector<float*> h, c;        // the states of the rows of some ticks
    std::vector<long> place, first;  // where their outputs go; which row is a tick's first
    long rows = 0;
  };
  struct Call {
    long T, B;
    float* const* states;
    const std::int64_t* lengths;
  };
  void compute(std::size_t node, const Call& call, const std::int64_t* tokens);
  void embed(const Node& node, const std::int64_t* tokens, long rows, float* to) const;
  void linear(const Node& node, long rows, float* to);
  void join(const Node& node, long rows, float* to) const;
  void pool(const Node& node, const Call& call, float* to) const;
  void recurrent(const Node& node, const Call& call, float* to);
  void direction(const Node& node, std::size_t d, const Call& call, long b0, long b1, float* to, Own& own,
                 const Team& team) const;
  void tick(const Recurrent& r, const Direction& w, long first, long rows, Own& own, const Team& team) const;

  std::shared_ptr<const Model> model_;
  const long T_, B_;
  const int threads_;
  std::vector<Floats> memory_;
  std::vector<const float*> outputs_;
  std::vector<Own> own_;
};

}  // namespace conveyor
