// Chooses the build of the kernels once, at load.
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels.hpp"

namespace conveyor {

#define CONVEYOR_BUILD(isa) \
  namespace isa {           \
  extern const Kernels table; \
  }
CONVEYOR_BUILD(scalar)
#if defined(CONVEYOR_HAS_AVX2)
CONVEYOR_BUILD(avx2)
#endif
#if defined(CONVEYOR_HAS_AVX512)
CONVEYOR_BUILD(avx512)
#endif
#if defined(CONVEYOR_HAS_NEON)
CONVEYOR_BUILD(neon)
#endif

namespace {

struct Build {
  const char* name;
  const Kernels* table;
  bool runs;
};

// Best first.
const Build* builds() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  static const Build all[] = {
#if defined(CONVEYOR_HAS_AVX512)
      {"avx512", &avx512::table,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")},
#endif
#if defined(CONVEYOR_HAS_AVX2)
      {"avx2", &avx2::table, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
#if defined(CONVEYOR_HAS_NEON)
      {"neon", &neon::table, true},
#endif
      {"scalar", &scalar::table, true},
      {nullptr, nullptr, false}};
  return all;
}

struct Choice {
  const Build* build = nullptr;
  std::string error;
};

Choice choose() {
  Choice choice;
  const char* asked = std::getenv("CONVEYOR_ISA");
  std::string names;
  for (const Build* build = builds(); build->name; ++build) {
    if (!build->runs) continue;
    if (!choice.build) choice.build = build;
    names += std::string(names.empty() ? "" : ", ") + build->name;
    if (asked && *asked && std::strcmp(asked, build->name) == 0) {
      choice.build = build;
      asked = nullptr;
    }
  }
  if (asked && *asked)
    choice.error = "CONVEYOR_ISA: expected one of " + names + ", which this processor can run, got \"" + asked +
                   "\"; set one of them or unset it";
  return choice;
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const Kernels& kernels() { return *choice().build->table; }
const char* isa() { return choice().build->name; }
const char* isa_error() { return choice().error.empty() ? nullptr : choice().error.c_str(); }

const char* available_isa(int index) {
  for (const Build* build = builds(); build->name; ++build)
    if (build->runs && index-- == 0) return build->name;
  return nullptr;
}

}  // namespace conveyor
