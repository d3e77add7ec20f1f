// A model's nodes, computed for some steps of some streams. Every result of a stream is bit for bit what it would be
// alone, a step at a time: each sum runs in one order, whatever the rows, the steps at once and the threads.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../kernels/memory.hpp"
#include "../kernels/threads.hpp"
#include "model.hpp"

namespace conveyor {
namespace {

constexpr long kRowsAtOnce = 96;         // of a product: they stay in the cache with what is made of them
constexpr long kWorthSharing = 400'000;  // multiply-adds a step, from which threads are worth their meeting
constexpr long kStreamsEach = 12;        // for a thread to take streams of its own

std::size_t count(long a, long b = 1) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

void copy(float* to, const float* from, long floats) { std::memcpy(to, from, count(floats) * sizeof(float)); }

void normalise(const Node& node, const float* x, float* y) {
  float mean = 0, variance = 0;
  for (long n = 0; n < node.width; ++n) mean += x[n];
  mean /= static_cast<float>(node.width);
  for (long n = 0; n < node.width; ++n) variance += (x[n] - mean) * (x[n] - mean);
  const float scale = 1.0f / std::sqrt(variance / static_cast<float>(node.width) + 1e-5f);
  for (long n = 0; n < node.width; ++n)
    y[n] = (x[n] - mean) * scale * node.weight[static_cast<std::size_t>(n)] + node.bias[static_cast<std::size_t>(n)];
}

void softmax(const float* x, float* y, long width, bool log) {
  const float most = *std::max_element(x, x + width);
  float sum = 0;
  for (long n = 0; n < width; ++n) sum += y[n] = std::exp(x[n] - most);
  const float by = log ? std::log(sum) : 1.0f / sum;
  for (long n = 0; n < width; ++n) y[n] = log ? (x[n] - most) - by : y[n] * by;
}

void activate(Activation kind, const float* x, float* y, long rows, long width) {
  const long all = rows * width;
  switch (kind) {
    case Activation::relu:
      for (long n = 0; n < all; ++n) y[n] = x[n] < 0 ? 0 : x[n];
      return;
    case Activation::tanh: return kernels().tanh(x, y, all);
    case Activation::sigmoid: return kernels().sigmoid(x, y, all);
    default:
      for (long r = 0; r < rows; ++r) softmax(x + r * width, y + r * width, width, kind == Activation::log_softmax);
  }
}

// Of all matrices of a node.
template <class Use>
void each_matrix(const Node& node, const Use& use) {
  if (node.op == Op::linear) use(node.matrix);
  for (const Direction& d : node.recurrent.directions) {
    use(d.w_ih), use(d.w_hh);
    if (node.recurrent.projected) use(d.w_hr);
  }
}

}  // namespace

Floats::Floats(std::size_t floats) : data_(allocate(std::max<std::size_t>(floats, 16)).data), size_(floats) {}

Executor::Executor(std::shared_ptr<const Model> model, long T, long B, int threads)
    : model_(std::move(model)), T_(T), B_(B), threads_(threads) {
  const long rows = std::max(B, std::min(kRowsAtOnce, T * B));
  long sums = 0, apart = 0, gates = 0, shown = 0, projected = 0;
  std::size_t converted = 0;
  for (const Node& node : model_->nodes) {
    memory_.emplace_back(node.op == Op::input ? 0 : count(T * B, node.width));
    const Recurrent& r = node.recurrent;
    each_matrix(node,
                [&](const Matrix& m) { converted = std::max(converted, kernels().converted_floats(m.format, m.K)); });
    if (node.op != Op::recurrent) continue;
    sums = std::max(sums, r.widths.gates * r.H);
    if (r.sums.apart || r.sums.last_apart) apart = std::max(apart, r.widths.gates * r.H);
    gates = std::max(gates, r.widths.kept * r.H);
    if (r.projected) shown = std::max(shown, r.H), projected = std::max(projected, r.P);
  }
  outputs_.resize(model_->nodes.size());
  for (int n = 0; n < threads; ++n) {
    Own own;
    own.sums = Floats(count(rows, sums)), own.hidden_sums = Floats(count(B, apart));
    own.scratch = Floats(static_cast<std::size_t>(threads) * count(rows) * converted + 64);
    own.gates = Floats(count(gates)), own.shown = Floats(count(B, shown)), own.projected = Floats(count(B, projected));
    own.x.resize(count(rows)), own.h.resize(count(rows)), own.c.resize(count(rows)), own.place.resize(count(rows));
    own.first.resize(count(rows + 1)), own.shown_rows.resize(count(B));
    own_.push_back(std::move(own));
  }
}

const float* Executor::run(long T, long B, const float* features, const std::int64_t* tokens, float* const* states,
                           const std::int64_t* lengths) {
  const Call call{T, B, states, lengths};
  outputs_[0] = features;
  for (std::size_t n = 1; n < model_->nodes.size(); ++n) compute(n, call, tokens);
  float* const y = memory_.back().data();
  const long width = model_->outputs();
  for (long b = 0; lengths && b < B; ++b)
    for (long t = lengths[b]; t < T; ++t) std::memset(y + (t * B + b) * width, 0, count(width) * sizeof(float));
  return y;
}

void Executor::compute(std::size_t number, const Call& call, const std::int64_t* tokens) {
  const Node& node = model_->nodes[number];
  const long rows = call.T * call.B;
  float* const to = memory_[number].data();
  const float* const x = outputs_[static_cast<std::size_t>(node.of[0])];
  outputs_[number] = to;
  switch (node.op) {
    case Op::embedding: return embed(node, tokens, rows, to);
    case Op::linear: return linear(node, rows, to);
    case Op::recurrent: return recurrent(node, call, to);
    case Op::activation: return activate(node.activation, x, to, rows, node.width);
    case Op::norm:
      for (long r = 0; r < rows; ++r) normalise(node, x + r * node.width, to + r * node.width);
      return;
    case Op::scale:
      for (long r = 0; r < rows; ++r)
        for (long n = 0; n < node.width; ++n)
          to[r * node.width + n] =
              x[r * node.width + n] * node.weight[static_cast<std::size_t>(n)] + node.bias[static_cast<std::size_t>(n)];
      return;
    case Op::pool: return pool(node, call, to);
    default: return join(node, rows, to);
  }
}

void Executor::embed(const Node& node, const std::int64_t* tokens, long rows, float* to) const {
  const std::size_t size = node.format == Format::float32 ? 4 : node.format == Format::bfloat16 ? 2 : 1;
  for (long r = 0; r < rows; ++r, to += node.width) {
    const unsigned char* const from = node.rows + count(static_cast<long>(tokens[r]), node.width) * size;
    if (node.format == Format::float32) {
      std::memcpy(to, from, count(node.width) * sizeof(float));
      continue;
    }
    for (long n = 0; n < node.width; ++n) {
      if (node.format == Format::int8) {
        to[n] = static_cast<float>(reinterpret_cast<const signed char*>(from)[n]) *
                node.row_scales[static_cast<std::size_t>(tokens[r])];
        continue;
      }
      std::uint32_t bits = 0;
      std::memcpy(reinterpret_cast<unsigned char*>(&bits) + 2, from + 2 * n, 2);
      std::memcpy(to + n, &bits, 4);
    }
  }
}

void Executor::linear(const Node& node, long rows, float* to) {
  const Matrix& m = node.matrix;
  const float* const x = outputs_[static_cast<std::size_t>(node.of[0])];
  const int threads = rows * m.N * m.K < kWorthSharing ? 1 : threads_;
  Own& own = own_[0];
  const long some = static_cast<long>(own.x.size());
  for (long first = 0; first < rows; first += some) {
    const long now = std::min(some, rows - first);
    for (long r = 0; r < now; ++r) own.x[count(r)] = x + (first + r) * m.K;
    const Dense product{
        m.format,          m.N, m.K, m.packed.data(), node.bias.data(), own.x.data(), now, to + first * m.N, m.N,
        own.scratch.data()};
    parallel(threads, [&](const Team& team) { kernels().dense(product, team); });
  }
}

void Executor::join(const Node& node, long rows, float* to) const {
  long at = 0;
  for (std::size_t k = 0; k < node.of.size(); ++k) {
    const std::size_t earlier = static_cast<std::size_t>(node.of[k]);
    const long width = model_->nodes[earlier].width;
    for (long r = 0; r < rows; ++r) {
      const float* const from = outputs_[earlier] + r * width;
      float* const row = to + r * node.width + at;
      if (node.op == Op::concat || k == 0)
        copy(row, from, width);
      else
        for (long n = 0; n < width; ++n) row[n] += from[n];
    }
    if (node.op == Op::concat) at += width;
  }
}

// The state of a stream: how many steps there were, and their sum, the largest, or the first.
void Executor::pool(const Node& node, const Call& call, float* to) const {
  const long D = node.width;
  const float* const x = outputs_[static_cast<std::size_t>(node.of[0])];
  for (long b = 0; b < call.B; ++b) {
    float &steps = *(call.states[b] + node.at), *const kept = &steps + 1;
    const long length = call.lengths ? static_cast<long>(call.lengths[b]) : call.T;
    for (long t = 0; t < length; ++t) {
      const float* const from = x + (t * call.B + b) * D;
      float* const row = to + (t * call.B + b) * D;
      if (steps == 0) copy(kept, from, D);
      for (long n = 0; n < D && steps > 0; ++n) {
        if (node.pooling == Pooling::mean) kept[n] += from[n];
        if (node.pooling == Pooling::max && !(kept[n] >= from[n])) kept[n] = from[n];
      }
      ++steps;
      for (long n = 0; n < D; ++n)
        row[n] = node.pooling == Pooling::mean                ? kept[n] / steps
                 : node.pooling == Pooling::ends && n < D / 2 ? from[n]
                                                              : kept[n];
    }
  }
}

void Executor::recurrent(const Node& node, const Call& call, float* to) {
  const Recurrent& r = node.recurrent;
  const long step = r.widths.gates * r.H * (model_->nodes[static_cast<std::size_t>(node.of[0])].width + r.widths.fed);
  const bool by_streams = call.B >= kStreamsEach * threads_;
  const int threads = step * (by_streams ? call.B : 1) < kWorthSharing ? 1 : threads_;
  for (std::size_t d = 0; d < r.directions.size(); ++d)
    parallel(threads, [&](const Team& team) {
      if (!by_streams || team.size == 1) return direction(node, d, call, 0, call.B, to, own_[0], team);
      direction(node, d, call, team.begin(call.B), team.end(call.B), to, own_[static_cast<std::size_t>(team.index)],
                Team{0, 1, nullptr});
    });
}

// Streams [b0, b1), all their steps. The members of a team share the columns of each product, and the units.
void Executor::direction(const Node& node, std::size_t d, const Call& call, long b0, long b1, float* to, Own& own,
                         const Team& team) const {
  const Recurrent& r = node.recurrent;
  const Direction& w = r.directions[d];
  const long I = w.w_ih.K, GH = w.w_ih.N, B = call.B;
  const float* const x = outputs_[static_cast<std::size_t>(node.of[0])];
  const long at = r.at + static_cast<long>(d) * (r.widths.fed + (r.belt ? r.H : 0));
  const bool backwards = r.reverse || d == 1;
  const long some = std::max(1L, static_cast<long>(own.x.size()) / std::max(1L, b1 - b0));
  for (long t0 = 0; t0 < call.T; t0 += some) {
    if (team.index == 0) {
      own.rows = 0;
      for (long t = t0; t < std::min(t0 + some, call.T); ++t) {
        own.first[count(t - t0)] = own.rows;
        for (long b = b0; b < b1; ++b) {
          const long length = call.lengths ? static_cast<long>(call.lengths[b]) : call.T;
          if (t >= length) continue;
          const std::size_t n = count(own.rows++);
          own.place[n] = (backwards ? length - 1 - t : t) * B + b;
          own.x[n] = x + own.place[n] * I;
          own.h[n] = call.states[b] + at;
          own.c[n] = own.h[n] + r.widths.fed;
        }
        own.first[count(t - t0 + 1)] = own.rows;
      }
    }
    team.meet();
    const Dense product{
        w.w_ih.format,     GH, I, w.w_ih.packed.data(), w.start.data(), own.x.data(), own.rows, own.sums.data(), GH,
        own.scratch.data()};
    kernels().dense(product, team);
    for (long t = t0; t < std::min(t0 + some, call.T); ++t) {
      const long first = own.first[count(t - t0)], rows = own.first[count(t - t0 + 1)] - first;
      if (rows == 0) break;
      tick(r, w, first, rows, own, team);
      for (long n = first + team.begin(rows); n < first + team.end(rows); ++n)
        copy(to + own.place[count(n)] * node.width + static_cast<long>(d) * r.P, own.h[count(n)], r.P);
    }
    team.meet();
  }
}

// One step of rows whose input's sums are there.
void Executor::tick(const Recurrent& r, const Direction& w, long first, long rows, Own& own, const Team& team) const {
  const long GH = w.w_ih.N;
  float* const x_sums = own.sums.data() + first * GH;
  float* const h_sums = r.sums.apart || r.sums.last_apart ? own.hidden_sums.data() : x_sums;
  float* const* const h = own.h.data() + first;
  if (r.sums.last_apart) {
    team.meet();
    for (long n = team.begin(rows); n < team.end(rows); ++n) {
      copy(h_sums + n * GH, x_sums + n * GH, GH - r.H);
      copy(h_sums + n * GH + GH - r.H, w.b_hh.data() + GH - r.H, r.H);
    }
    team.meet();
  }
  const Dense of_state{
      w.w_hh.format, GH,     w.w_hh.K, w.w_hh.packed.data(), r.sums.apart ? w.start.data() : nullptr, h,
      rows,          h_sums, GH,       own.scratch.data()};
  kernels().dense(of_state, team);
  team.meet();
  CellRows cell{r.cell,
                r.options.data(),
                r.H,
                r.P,
                rows,
                x_sums,
                h_sums,
                w.bias.data(),
                w.vectors.data(),
                r.noise.data(),
                h,
                r.belt ? own.c.data() + first : nullptr,
                own.gates.data(),
                nullptr};
  if (r.projected) cell.shown = own.shown.data();
  kernels().advance(cell, team);
  team.meet();
  if (!r.projected) return;
  if (team.index == 0)
    for (long n = 0; n < rows; ++n) own.shown_rows[count(n)] = cell.shown + n * r.H;
  team.meet();
  const Dense projection{w.w_hr.format, r.P,
                         r.H,           w.w_hr.packed.data(),
                         w.none.data(), own.shown_rows.data(),
                         rows,          own.projected.data(),
                         r.P,           own.scratch.data()};
  kernels().dense(projection, team);
  team.meet();
  if (team.index == 0) {
    for (long n = 0; n < rows; ++n) copy(h[n], own.projected.data() + n * r.P, r.P);
    kernels().bound(cell);
  }
  team.meet();
}

}  // namespace conveyor
