// The kernels of one instruction set: compiled once for each.
#include "directions.hpp"
#include "rows.hpp"
#include "tangent.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {
namespace {

template <class Of>
Widths widths_of(const Of& cell, long P) {
  return {cell.gates, cell.fed(P), cell.kept(), cell.vectors(), cell.sums(), cell.noise()};
}

Widths widths(Cell cell, const float* options, long H, long P) {
  switch (cell) {
    case Cell::gru: return widths_of(GruCell(options, H), P);
    case Cell::rnn_tanh:
    case Cell::rnn_relu: return widths_of(RnnCell<false>(options, H), P);
    case Cell::lstm_variant: return widths_of(VariantCell(options, H), P);
    case Cell::lstm_tangent: return widths_of(LstmTangent(options, H), P);
    default: return widths_of(LstmCell(options, H), P);
  }
}

template <class Arguments>
long gates_of(const Arguments& of) {
  return widths(of.cell, of.options, of.sizes.H, of.sizes.P).gates;
}

// Calls use(type) with the pass of the cell asked for.
template <template <class, class> class Pass, class E, class Use>
auto with_cell(Cell cell, const Use& use) {
  switch (cell) {
    case Cell::gru: return use(static_cast<Pass<GruCell, E>*>(nullptr));
    case Cell::rnn_tanh: return use(static_cast<Pass<RnnCell<false>, E>*>(nullptr));
    case Cell::rnn_relu: return use(static_cast<Pass<RnnCell<true>, E>*>(nullptr));
    case Cell::lstm_variant: return use(static_cast<Pass<VariantCell, E>*>(nullptr));
    case Cell::lstm_tangent:
      if constexpr (std::is_same_v<E, float>) return use(static_cast<Pass<LstmTangent, E>*>(nullptr));
      [[fallthrough]];
    default: return use(static_cast<Pass<LstmCell, E>*>(nullptr));
  }
}

template <class Pass>
using Of = std::remove_pointer_t<Pass>;

template <template <class, class> class Pass, template <class> class Arguments, class E>
std::size_t workspace_of(const Arguments<E>* directions, int count, int threads) {
  return with_cell<Pass, E>(directions->cell, [&](auto pass) {
    Workspace space{nullptr};
    const Directions<Of<decltype(pass)>, Arguments<E>> all(directions, count, gates_of(*directions), threads, space);
    return space.used;
  });
}

template <template <class, class> class Pass, template <class> class Arguments, class E>
void run_of(const Arguments<E>* directions, int count, float* memory, int threads) {
  with_cell<Pass, E>(directions->cell, [&](auto pass) {
    Workspace space{memory};
    Directions<Of<decltype(pass)>, Arguments<E>>(directions, count, gates_of(*directions), threads, space).run();
  });
}

// Of a forward pass.
int useful_of(const Sizes& sizes, int directions, long gates, int threads) {
  Forward<float> each{};
  each.sizes = sizes;
  return useful(sizes, gates, at_once(&each, directions, gates, threads), threads);
}

template <class E>
std::size_t packed_floats_of(const Forward<E>& forward) {
  return with_cell<ForwardPass, E>(forward.cell, [&](auto pass) { return Of<decltype(pass)>::packed_floats(forward); });
}

template <class E>
constexpr Passes<E> passes_of() {
  return {packed_floats_of<E>, workspace_of<ForwardPass, Forward, E>, run_of<ForwardPass, Forward, E>,
          workspace_of<BackwardGroups, Backward, E>, run_of<BackwardGroups, Backward, E>};
}

template <Vec (*function)(Vec)>
void apply(const float* from, float* to, long count) {
  for (long n = 0; n < count; n += V) store(to + n, function(load(from + n, count - n)), count - n);
}

// As many independent multiply-adds as there are accumulators, from registers: what the processor can do at best.
double multiply_adds(long rounds) {
  Vec sums[kAccumulators] = {};
  Vec a = splat(1.0f), b = splat(1e-9f);
  for (long n = 0; n < rounds; ++n) {
    asm volatile("" : "+m"(a), "+m"(b));
    const Vec x = a, y = b;
    for (int repeat = 0; repeat < 16; ++repeat)
#pragma GCC unroll 24
      for (int s = 0; s < kAccumulators; ++s) sums[s] += x * y;
  }
  Vec total = {};
  for (const Vec& sum : sums) total += sum;
  asm volatile("" : "+m"(total));
  return 2.0 * V * kAccumulators * 16.0 * static_cast<double>(rounds);
}

}  // namespace

extern const Kernels table;
const Kernels table = {kTiles ? kTileRows : 6,  // full blocks, of whatever height
                       VariantCell::kOptions,
                       widths,
                       useful_of,
                       passes_of<float>(),
                       passes_of<bf16>(),
                       apply<sigmoid>,
                       apply<tanh>,
                       dense_floats,
                       converted_floats,
                       pack_matrix,
                       dense,
                       advance,
                       bound,
                       sums_of,
                       multiply_adds};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
