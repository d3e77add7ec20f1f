// The kernels of one instruction set: compiled once for each.
#include "sequence.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {
namespace {

template <class Pass, class Arguments>
std::size_t workspace(const Arguments& arguments) {
  Workspace space{nullptr};
  const Pass pass(arguments, space);
  return space.used;
}

// Below two million multiply-adds, some tens of microseconds, waking threads costs more than they save; and where they
// meet at every step, below forty thousand in each, about as long as meeting takes.
int useful(const Sizes& sizes, int gates, int threads) {
  const long step = sizes.B * gates * sizes.H * sizes.H, all = sizes.T * (step + sizes.B * gates * sizes.H * sizes.I);
  const bool meeting = sizes.B < kRows * threads;
  return all < 2000000 || (meeting && step < 40000) ? 1 : threads;
}

template <class Pass, class Arguments>
void run(const Arguments& arguments, float* memory, int threads) {
  Workspace space{memory};
  const Pass pass(arguments, space);
  parallel(useful(arguments.sizes, gates_of(arguments.cell), threads), [&](const Team& team) { pass.run(team); });
}

// Calls use(type) with the pass of the cell asked for.
template <template <class> class Pass, class Use>
auto with_cell(Cell cell, const Use& use) {
  switch (cell) {
    case Cell::rnn_tanh: return use(static_cast<Pass<RnnCell<false>>*>(nullptr));
    case Cell::rnn_relu: return use(static_cast<Pass<RnnCell<true>>*>(nullptr));
    default: return use(static_cast<Pass<LstmCell>*>(nullptr));
  }
}

template <class Pass>
using Of = std::remove_pointer_t<Pass>;

template <template <class> class Pass, class Arguments>
std::size_t workspace_of(const Arguments& arguments) {
  return with_cell<Pass>(arguments.cell, [&](auto pass) { return workspace<Of<decltype(pass)>>(arguments); });
}

template <template <class> class Pass, class Arguments>
void run_of(const Arguments& arguments, float* memory, int threads) {
  with_cell<Pass>(arguments.cell, [&](auto pass) { run<Of<decltype(pass)>>(arguments, memory, threads); });
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
const Kernels table = {workspace_of<ForwardPass>,
                       run_of<ForwardPass>,
                       workspace_of<BackwardPass>,
                       run_of<BackwardPass>,
                       apply<sigmoid>,
                       apply<tanh>,
                       multiply_adds};

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
