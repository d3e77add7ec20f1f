// The kernels: one layer and direction over a whole sequence, forward and backward. No framework, no allocation:
// the caller owns every array named here, all of them live for the call, and outputs overlap neither inputs nor each
// other. Sizes have been checked by the caller (bindings.cpp); the kernels trust them.
#pragma once

#include <cstddef>

namespace conveyor {

enum class Cell { lstm, rnn_tanh, rnn_relu };

// Gates of a cell, in torch's order: i, f, g, o of the LSTM; the one pre-activation of the RNN.
constexpr int gates_of(Cell cell) { return cell == Cell::lstm ? 4 : 1; }

// A [T, B, width] array whose innermost dimension is contiguous; strides in floats.
template <class Float>
struct Rows {
  Float* data;
  std::ptrdiff_t step, row;

  Float* at(long t, long b) const { return data + t * step + b * row; }
};

// G: gates of the cell. All contiguous; the biases may be null, both or none.
struct Weights {
  const float* w_ih;  // [G H, I]
  const float* w_hh;  // [G H, H]
  const float* b_ih;  // [G H]
  const float* b_hh;  // [G H]
};

struct Sizes {
  long T, B, I, H;
  bool reverse;  // from the last step to the first
};

struct Forward {
  Cell cell;
  Sizes sizes;
  Weights weights;
  Rows<const float> x;  // [T, B, I]
  const float* h_0;     // [B, H]
  const float* c_0;     // [B, H], of a cell with a belt
  Rows<float> y;        // [T, B, H]
  float* h_n;           // [B, H]
  float* c_n;           // [B, H]
  float* gates;         // [T, B, 4, H] after activation, for backward; null in inference
  float* cells;         // [T, B, H] cell states, for backward; null in inference
};

struct Backward {
  Cell cell;
  Sizes sizes;
  Weights weights;
  Rows<const float> x, y;
  const float *h_0, *c_0;
  const float *gates, *cells;  // as forward left them
  Rows<const float> dy;        // data null: zero
  const float *dh_n, *dc_n;    // null: zero
  Rows<float> dx;              // data null: not wanted
  bool adds_dx;                // to what dx holds already: the other direction's
  float *dh_0, *dc_0;          // [B, H]
  float *dw_ih, *dw_hh;        // as the weights; null, both: not wanted
  float* db;                   // [G H], the gradient of each bias; null: not wanted
};

// What one build of the kernels offers. The workspace, counted in floats, is aligned to 64 bytes.
struct Kernels {
  std::size_t (*forward_workspace)(const Forward&);
  void (*forward)(const Forward&, float* workspace, int threads);
  std::size_t (*backward_workspace)(const Backward&);
  void (*backward)(const Backward&, float* workspace, int threads);
  void (*sigmoid)(const float* from, float* to, long count);
  void (*tanh)(const float* from, float* to, long count);
  // Runs multiply-adds out of registers and returns how many floating-point operations they were.
  double (*multiply_adds)(long rounds);
};

// The build in use: the best this processor has, or the one that CONVEYOR_ISA names.
const Kernels& kernels();
const char* isa();
// Names of the builds this processor can run, best first; null past the last.
const char* available_isa(int index);
// What is wrong with CONVEYOR_ISA, or null.
const char* isa_error();

}  // namespace conveyor
