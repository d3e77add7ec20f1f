// The kernels: one layer, in one direction or both, over a whole sequence, forward and backward. No framework, no allocation:
// the caller owns every array named here, all of them live for the call, and outputs overlap neither inputs nor each
// other. Sizes have been checked by the caller (bindings.cpp); the kernels trust them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conveyor {

// The tangent comes last: bundles have the others, in this order.
enum class Cell { lstm, lstm_variant, gru, rnn_tanh, rnn_relu, lstm_tangent };

// The widths of a cell of H units whose output has P features.
struct Widths {
  long gates;    // G: it has G H sums, in torch's order: i, f, g, o of the LSTM; r, z, n of the GRU; one of the RNN
  long fed;      // R: values of the state that its recurrent product reads: h, and of some variants the gates
  long kept;     // K: values a unit and step that training keeps: the gates; of the GRU also the candidate's
                 // recurrent term; of a normalised LSTM its sums
  long vectors;  // N: weights of a variant's own that stand in no product
  long sums;     // S: gradients a step of the sums
  long noise;    // values a unit and step that are given: random factors, or of a tangent the step it is of
};

// A whole number of -127 to 127, or the same with 128 added.
struct i8 {
  std::uint8_t bits;
};

// The upper half of a float.
struct bf16 {
  std::uint16_t bits;
};

// A [T, B, width] array whose innermost dimension is contiguous; strides in elements.
template <class Element>
struct Rows {
  Element* data;
  std::ptrdiff_t step, row;

  Element* at(long t, long b) const { return data + t * step + b * row; }
};

// G: gates of the cell. All contiguous; the biases may be null, both or none.
struct Weights {
  const float* w_ih;     // [G H, I]
  const float* w_hh;     // [G H, R]
  const float* b_ih;     // [G H]
  const float* b_hh;     // [G H]
  const float* w_hr;     // [P, H], the projection of the LSTM's output; null: none, and P = H
  const float* vectors;  // [N]
};

// The rows of a batch in lanes that advance together, a step each tick: a lane whose row ends takes up another, so that
// the steps past a row's end cost nothing. Row row[n], n from first[l] up to first[l + 1], is in lane l from tick
// start[n] on for length[row[n]] ticks. Rows without a step are in none.
struct Lanes {
  long count, ticks;
  const long* end;    // [count] the tick after a lane's last; descending
  const long* first;  // [count + 1]
  const long *row, *start;
  const long* length;  // [B]

  long rows() const { return first[count] - first[0]; }
  bool shared() const { return rows() > count; }  // by rows of unequal lengths
};

struct Sizes {
  long T, B, I, H, P;
  bool reverse;  // from a row's last step to its first
  Lanes lanes;
  const bool* resets;  // [T, B] where a row's state is zero before the step, reversed: after it; null: nowhere
  long every;          // 1: backward finds the gates of every step; more: the belt of every so many ticks, or less
  bool alone;          // a row's results are bit for bit those it has alone
};

// E, float or bf16, is what the large arrays hold; sums and the belt are float. Where a row has ended y, dx and dsums are
// zero; gates and cells are left as they were.
template <class E>
struct Forward {
  Cell cell;
  const float* options;  // of a variant, as conveyor/variant.py writes them
  Sizes sizes;
  Weights weights;
  Rows<const E> x;          // [T, B, I]
  Rows<const float> noise;  // [T, B, noise H], of a variant or tangent
  const E* h_0;             // [B, R]
  const float* c_0;         // [B, H], of a cell with a belt
  Rows<E> y;                // [T, B, P]
  E* h_n;                   // [B, R]
  float* c_n;               // [B, H]
  float* gates;   // [T, B, K, H] for backward: after activation, of a tangent the changes of the sums; null: not kept
  float* cells;   // [T, B, H] cell states, for backward, or [belts, B, H + R - P]; null in inference
  float* packed;  // the weights as an earlier call with these arrays left them, at first zeros; null: not kept
};

template <class E>
struct Backward {
  Cell cell;
  const float* options;
  Sizes sizes;
  Weights weights;
  Rows<const E> x, y;
  Rows<const float> noise;
  const E* h_0;
  const float* c_0;
  const float *gates, *cells;    // as forward left them
  Rows<const E> dy;              // data null: zero
  const float *dh_n, *dc_n;      // null: zero
  const float *dgates, *dcells;  // gradients of the gates and cells themselves; null: zero
  Rows<E> dx;                    // data null: not wanted
  bool adds_dx;                  // to what dx holds already: the other direction's
  float *dh_0, *dc_0;            // [B, R], [B, H]; null: not wanted
  float *dw_ih, *dw_hh, *dw_hr;  // as the weights; null, all: not wanted
  float *db_ih, *db_hh;          // [G H]; null, both: not wanted
  float* dvectors;               // [N]; null: not wanted
  float* dsums;                  // [T, B, S] gradients of the pre-activations; null: not wanted
  float* dnoise;                 // [T, B, noise, H], of a tangent; null: not wanted
};

template <class E>
struct Passes {
  std::size_t (*packed_floats)(const Forward<E>&);
  std::size_t (*forward_workspace)(const Forward<E>* directions, int count, int threads);
  void (*forward)(const Forward<E>* directions, int count, float* workspace, int threads);
  std::size_t (*backward_workspace)(const Backward<E>* directions, int count, int threads);
  void (*backward)(const Backward<E>* directions, int count, float* workspace, int threads);
};

// How the weights of a product are held: as floats, as bfloat16, or as whole numbers with a scale a column, by which also
// each row is then multiplied as whole numbers.
enum class Format { float32, bfloat16, int8 };

// y = W x + start: rows of K floats against a packed matrix [N, K].
struct Dense {
  Format format;
  long N, K;
  const float* packed;
  const float* start;     // [N]; null: what y holds
  const float* const* x;  // [rows] pointers
  long rows;
  float* y;  // [rows, N]
  std::ptrdiff_t y_stride;
  float* scratch;  // converted_floats of each row, for each member of the team
};

// A step of a cell, of rows whose sums are ready.
struct CellRows {
  Cell cell;
  const float* options;
  long H, P, rows;
  float *x_sums, *h_sums;  // [rows, G H], used up
  const float *bias, *vectors, *noise;
  float* const* h;  // [rows] pointers to the state, which is changed: R values of h, H of c
  float* const* c;
  float* gates;  // K H, of a variant
  float* shown;  // [rows, H] what is to be projected; null: it is h
};

struct Sums {
  bool apart;       // those of the input and of the state are not added
  bool last_apart;  // those of the last gate are not
  bool unbiased;    // the cell adds the bias
};

struct Team;

// What one build of the kernels offers. The workspace, counted in floats, is aligned to 64 bytes.
struct Kernels {
  long lanes;           // rows of unequal lengths are laid into a multiple of so many
  int variant_options;  // how many numbers describe a variant
  Widths (*widths)(Cell, const float* options, long H, long P);
  // How many threads of those given a sequence of these sizes is worth.
  int (*useful)(const Sizes&, int directions, long gates, int threads);
  Passes<float> single;
  Passes<bf16> half;
  void (*sigmoid)(const float* from, float* to, long count);
  void (*tanh)(const float* from, float* to, long count);
  std::size_t (*dense_floats)(Format, long N, long K);
  std::size_t (*converted_floats)(Format, long K);
  // Weights [N, K] of the format, of int8 with scales [N]; scratch: 16 (K + 4) floats.
  void (*pack)(Format, long N, long K, const void* weights, const float* scales, float* to, float* scratch);
  void (*dense)(const Dense&, const Team&);
  void (*advance)(const CellRows&, const Team&);
  void (*bound)(const CellRows&);
  Sums (*sums)(Cell, const float* options, long H);
  // Runs multiply-adds out of registers and returns how many floating-point operations they were.
  double (*multiply_adds)(long rounds);
};

template <class E>
const Passes<E>& passes(const Kernels& kernels) {
  if constexpr (sizeof(E) == sizeof(float))
    return kernels.single;
  else
    return kernels.half;
}

// The build in use: the best this processor has, or the one that CONVEYOR_ISA names.
const Kernels& kernels();
const char* isa();
// Names of the builds this processor can run, best first; null past the last.
const char* available_isa(int index);
// What is wrong with CONVEYOR_ISA, or null.
const char* isa_error();

}  // namespace conveyor
