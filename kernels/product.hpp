// The one inner product behind everything: rows of A against a packed matrix. What differs between its uses is where
// the sums start, and what is done with them while they are still in registers.
//
// Every sum runs over k in ascending order, whatever the number of rows, columns or threads: a row's result does not
// depend on the company it is in.
#pragma once

#include "tiles.hpp"

namespace conveyor {
namespace CONVEYOR_ISA {

// sums[r][p][g] += sum over k of a[r][k] panel[p][k][g], one word of each row.
template <int R, int P, int G, class Word>
CONVEYOR_INLINE void add_products(Vec (&sums)[R][P][G], const Word (&a)[R], const float* const (&panels)[P]) {
  constexpr int held = kAccumulators >= 24 ? G : 1;  // columns in registers beside the sums, of which 12 leave few
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int first = 0; first < G; first += held) {
      Vec column[held];
#pragma GCC unroll 4
      for (int g = 0; g < held; ++g) column[g] = load(panels[p] + (first + g) * V);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int g = 0; g < held; ++g) sums[r][p][first + g] = multiply_add(sums[r][p][first + g], a[r], column[g]);
    }
}

template <int R, int P, int G>
CONVEYOR_INLINE void assign(Vec (&to)[R][P][G], const Vec (&from)[R][P][G]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) to[r][p][g] = from[r][p][g];
}

// The same over whole words, from the first on. Where it fetches, each brings a cache line of what is `ahead` into L2.
template <bool Fetches, int R, int P, int G, class E>
CONVEYOR_INLINE void add_words(Vec (&sums)[R][P][G], const E* const (&a)[R], const float* const (&w)[P], long whole,
                               const float* ahead) {
  decltype(word(a[0], 0)) column[R];
  const float* panels[P];
#pragma GCC unroll 4
  for (long k = 0; k < whole; ++k) {
    if (Fetches) __builtin_prefetch(ahead + k * kLine, 0, 2);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) column[r] = word(a[r], k);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) panels[p] = w[p] + k * (G * V);
    add_products(sums, column, panels);
  }
}

// The same over the terms and all their words. R P G accumulators: few rows take several panels at once, since a
// multiply-add takes four cycles or more and eight at least have to be under way.
// What follows the panels is multiplied next, and comes from further away: this block, the `part`th that visits the
// panels, fetches a part of it, unless those before it have fetched all.
// A function of its own, so that nothing around it takes registers from the sums.
template <int R, int P, int G, class E>
__attribute__((noinline)) void product(Vec (&sums)[R][P][G], const Terms<E>& terms, long r0, long j0, long part) {
  Vec own[R][P][G];
  assign(own, sums);
  for (const Term<E>* term = terms.term; term != terms.term + terms.count; ++term) {
    const E* a[R];
    const float* w[P];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) a[r] = term->rows.at(r0 + r);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) w[p] = term->panel(j0 + p);
    const long whole = term->k / kPack<E>, count = words<E>(term->k);
    const float* ahead = w[P - 1] + count * (G * V) + part * count * kLine;
    if (part * kLine < kWide * V)
      add_words<true>(own, a, w, whole, ahead);
    else
      add_words<false>(own, a, w, whole, ahead);
    if (kPack<E> > 1 && whole < count) {
      decltype(word(a[0], 0)) column[R];
      const float* panels[P];
      for (int r = 0; r < R; ++r) column[r] = half_word(a[r], whole);
      for (int p = 0; p < P; ++p) panels[p] = w[p] + whole * (G * V);
      add_products(own, column, panels);
    }
  }
  assign(sums, own);
}

// The product of a block: `rows` rows at most R, `panels` panels. sums: [rows][panels] of G vectors.
template <int R, int P, int G, class E>
CONVEYOR_INLINE void product_of(int rows, Vec (*sums)[G], const Terms<E>& terms, long r0, long j0, long part) {
  if constexpr (R > 1)
    if (rows < R) return product_of<R - 1, P, G>(rows, sums, terms, r0, j0, part);
  product(*reinterpret_cast<Vec(*)[R][P][G]>(sums), terms, r0, j0, part);
}

template <int G, class E>
void product_of(int rows, int panels, Vec (*sums)[G], const Terms<E>& terms, long r0, long j0, long part) {
  if (panels == 1) return product_of<kRows, 1>(rows, sums, terms, r0, j0, part);
  if constexpr (kMany > 2)
    if (panels == 2) return product_of<kRows >= 6 ? 3 : 1, 2>(rows, sums, terms, r0, j0, part);
  product_of<1, kMany>(rows, sums, terms, r0, j0, part);
}

// Rows of the next block where `left` are left: blocks of six or four rows keep both multiply-add units of a core
// busy, those of five or three do not quite.
CONVEYOR_INLINE int rows_of_next(long left, int panels) {
  const int most = panels == 1 ? kRows : panels == 2 ? 3 : 1;
  if (most == 6 && (left == 7 || left == 8)) return 4;
  return static_cast<int>(least(left, most));
}

// Panels of the next sweep where `left` are left: four of them are two and two rather than three and one.
CONVEYOR_INLINE int panels_of_next(long left, long rows) {
  if (rows == 1 && left >= kMany && !(kMany == 3 && left == 4)) return kMany;
  return left >= 2 && rows <= (kRows >= 6 ? 3 : 1) ? 2 : 1;
}

// Rows [r0, r1) on their way into L2.
template <class E>
CONVEYOR_INLINE void fetch(const Terms<E>& terms, long r0, long r1) {
  for (int t = 0; t < terms.count; ++t)
    for (long r = r0; r < r1; ++r) {
      const E* row = terms.term[t].rows.at(r);
      for (long k = 0; k < terms.term[t].k; k += kLine * kPack<E>) __builtin_prefetch(row + k, 0, 2);
    }
}

// What finishes sums in two parts, the first of all rows of a block before the second of any: while a row waits for its
// own first part, the others are worked on.
template <class First, class Second>
struct InTwo {
  First first;
  Second second;

  template <class Sums>
  CONVEYOR_INLINE void operator()(long r, long j, Sums& sums) const {
    first(r, j, sums), second(r, j, sums);
  }
};
template <class First, class Second>
InTwo(First, Second) -> InTwo<First, Second>;

// The sums of a block: [rows][panels].
template <int G, class Finish>
CONVEYOR_INLINE void finish_block(long r0, long r1, long j0, long j1, Vec (*sums)[G], const Finish& finish) {
  for (long r = r0; r < r1; ++r)
    for (long j = j0; j < j1; ++j) finish(r, j, *sums++);
}
template <int G, class First, class Second>
CONVEYOR_INLINE void finish_block(long r0, long r1, long j0, long j1, Vec (*sums)[G],
                                  const InTwo<First, Second>& finish) {
  finish_block(r0, r1, j0, j1, sums, finish.first);
  finish_block(r0, r1, j0, j1, sums, finish.second);
}

// All rows against so many panels: start(r, j, sums) fills the sums of a row and panel, finish(r, j, sums) takes them.
// The first panels fetch each block's rows while the block before is multiplied.
template <int G, class E, class Start, class Finish>
void sweep(long r0, long r1, long j0, int panels, bool first, const Terms<E>& terms, const Start& start,
           const Finish& finish) {
  Vec sums[kRows > kMany ? kRows : kMany][G];
  for (long part = 0; r0 < r1; ++part) {
    const int rows = rows_of_next(r1 - r0, panels);
    if (first) fetch(terms, r0 + rows, least(r0 + 2 * rows, r1));
    for (int r = 0, n = 0; r < rows; ++r)
      for (int p = 0; p < panels; ++p) start(r0 + r, j0 + p, sums[n++]);
    product_of<G>(rows, panels, sums, terms, r0, j0, part);
    finish_block(r0, r0 + rows, j0, j0 + panels, sums, finish);
    r0 += rows;
  }
}

// Adds a term to the sums of rows [r0, r1), which wait in memory.
template <int G, class E>
void add_term(Vec (*sums)[G], long r0, long r1, long j, bool first, const Term<E>& term) {
  for (long part = 0; r0 < r1; ++part) {
    const int rows = rows_of_next(r1 - r0, 1);
    if (first) fetch(Terms<E>{&term, 1}, r0 + rows, least(r0 + 2 * rows, r1));
    product_of<G>(rows, 1, sums, Terms<E>{&term, 1}, r0, j, part);
    sums += rows, r0 += rows;
  }
}

// A panel too deep for the cache, a slice at a time, all of them alike.
template <int G, class E, class Start, class Finish>
void deep(long r0, long r1, long j, bool first, const Terms<E>& terms, const Start& start, const Finish& finish) {
  Vec sums[kGroup][G];
  for (long r = r0; r < r1; ++r) start(r, j, sums[r - r0]);
  for (int t = 0; t < terms.count; ++t) {
    const Term<E>& term = terms.term[t];
    const long all = words<E>(term.k), slice = ceil_div(all, ceil_div(all, kDepth)) * kPack<E>;
    for (long k = 0; k < term.k; k += slice)
      add_term<G>(sums, r0, r1, j, first, term.slice(k, least(slice, term.k - k), G));
  }
  finish_block(r0, r1, j, j + 1, sums, finish);
}

// At most kGroup rows against panels [j0, j1), all of them G vectors wide.
template <int G, class E, class Start, class Finish>
void multiply_group(long r0, long r1, long j0, long j1, const Terms<E>& terms, const Start& start,
                    const Finish& finish) {
  const long rows = r1 - r0, first = j0;
  long depth = 0;
  for (int t = 0; t < terms.count; ++t) depth += words<E>(terms.term[t].k);
  if (rows > kRows && depth > kDepth) {
    for (; j0 < j1; ++j0) deep<G>(r0, r1, j0, j0 == first, terms, start, finish);
    return;
  }
  for (int panels; j0 < j1; j0 += panels) {
    panels = panels_of_next(j1 - j0, rows);
    sweep<G>(r0, r1, j0, panels, panels == 1 && j0 == first, terms, start, finish);
  }
}

// Rows [r0, r1) against panels [j0, j1): a group of rows stays in L2 while the panels pass by.
template <int G, class E, class Start, class Finish>
void multiply_panels(long r0, long r1, long j0, long j1, const Terms<E>& terms, const Start& start,
                     const Finish& finish) {
  for (; r0 < r1; r0 += kGroup) multiply_group<G>(r0, least(r0 + kGroup, r1), j0, j1, terms, start, finish);
}

// Panels [j0, j1) of one width.
template <int G, class E, class Start, class Finish>
void multiply_alike([[maybe_unused]] bool tiled, long r0, long r1, long j0, long j1, const Terms<E>& terms,
                    const Start& start, const Finish& finish) {
#if defined(__AMX_BF16__)
  if constexpr (sizeof(E) > 1)
    if (tiled) return TileProduct<G, E, Start, Finish>(r0, r1, terms, start, finish).run(j0, j1);
#endif
  multiply_panels<G>(r0, r1, j0, j1, terms, start, finish);
}

template <int G, class E, class Start, class Finish>
void multiply(const Units<G>& units, long r0, long r1, long j0, long j1, const Terms<E>& terms, const Start& start,
              const Finish& finish) {
  multiply_alike<G>(units.tiled, r0, r1, j0, j1, terms, start, finish);
}

template <class E, class Start, class Finish>
void multiply(const Columns& columns, long r0, long r1, long j0, long j1, const Terms<E>& terms, const Start& start,
              const Finish& finish) {
  while (j0 < j1) {
    const int width = columns.width(j0);
    const long same = j0 < columns.wider() ? least(columns.wider(), j1) : j1;
    if (width == 4) multiply_alike<4>(columns.tiled, r0, r1, j0, same, terms, start, finish);
    if (width == 3) multiply_alike<3>(columns.tiled, r0, r1, j0, same, terms, start, finish);
    if (width == 2) multiply_alike<2>(columns.tiled, r0, r1, j0, same, terms, start, finish);
    if (width == 1) multiply_alike<1>(columns.tiled, r0, r1, j0, same, terms, start, finish);
    j0 = same;
  }
}

// Where the rows of a plain product go: to a pointer each, or at data + (r + shift) % count * stride.
template <class To>
struct Right {
  To* const* table;
  To* data = nullptr;
  std::ptrdiff_t stride = 0;
  long shift = 0, count = 0;

  To* at(long r) const {
    if (table) return table[r];
    const long row = r + shift;
    return data + (row < count ? row : row - count) * stride;
  }
};

// The sums of panel j in a row, and back.
template <int G, class From>
CONVEYOR_INLINE void load_columns(const Columns& columns, const From* row, long j, Vec (&sums)[G]) {
  long n = columns.first(j);
  for (Vec& sum : sums) sum = load(row + n, columns.n - n), n += V;
}
template <int G, class To>
CONVEYOR_INLINE void store_columns(const Columns& columns, To* row, long j, const Vec (&sums)[G]) {
  long n = columns.first(j);
  for (const Vec& sum : sums) store(row + n, sum, columns.n - n), n += V;
}

// A plain product: to = sum over k of a[r][k] w[k], or added to what is there.
template <class E, class To>
void multiply_into(const Columns& columns, long r0, long r1, long j0, long j1, const Term<E>& term, const Right<To>& to,
                   bool adds) {
  multiply(
      columns, r0, r1, j0, j1, Terms<E>{&term, 1},
      [&](long r, long j, auto& sums) {
        if (adds)
          load_columns(columns, to.at(r), j, sums);
        else
          for (Vec& sum : sums) sum = Vec{};
      },
      [&](long r, long j, auto& sums) { store_columns(columns, to.at(r), j, sums); });
}

}  // namespace CONVEYOR_ISA
}  // namespace conveyor
