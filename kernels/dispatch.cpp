// Chooses the build of the kernels once, at load.
#include <cstdlib>
#include <cstring>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.hpp"

namespace conveyor {

#define CONVEYOR_BUILD(isa)   \
  namespace isa {             \
  extern const Kernels table; \
  }
CONVEYOR_BUILD(scalar)
#if defined(CONVEYOR_HAS_AVX2)
CONVEYOR_BUILD(avx2)
#endif
#if defined(CONVEYOR_HAS_AVX512)
CONVEYOR_BUILD(avx512)
#endif
#if defined(CONVEYOR_HAS_AVX512_BF16)
CONVEYOR_BUILD(avx512_bf16)
#endif
#if defined(CONVEYOR_HAS_AMX)
CONVEYOR_BUILD(amx)
#endif
#if defined(CONVEYOR_HAS_NEON)
CONVEYOR_BUILD(neon)
#endif

namespace {

#if defined(__x86_64__)
// CPUID itself: __builtin_cpu_supports answers no to everything under the clang of the package ziglang.
struct Processor {
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx = false;

  Processor() {
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_FMA)) return;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));  // the registers that the operating system saves
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    const bool tiles = (d & (1u << 22)) && (d & (1u << 24)) && (saved & 0x60000) == 0x60000;
    const unsigned wanted = bit_AVX512F | bit_AVX512VL | bit_AVX512DQ | bit_AVX512BW;
    avx2 = (b & bit_AVX2) && (saved & 0x06) == 0x06;
    avx512 = (b & wanted) == wanted && (saved & 0xe6) == 0xe6;
    const bool whole = c & (1u << 11);  // AVX512-VNNI
    avx512_bf16 = avx512 && whole && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
    amx = avx512_bf16 && tiles && may_use_tiles();
  }

 private:
  // Linux gives the tile registers to programs that ask.
  static bool may_use_tiles() {
#if defined(__linux__)
    constexpr long kRequest = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
    return false;
#endif
  }
};
#endif

struct Build {
  const char* name;
  const Kernels* table;
  bool runs;
};

// Best first.
const Build* builds() {
#if defined(__x86_64__)
  static const Processor cpu;
#endif
  static const Build all[] = {
#if defined(CONVEYOR_HAS_AMX)
      {"amx", &amx::table, cpu.amx},
#endif
#if defined(CONVEYOR_HAS_AVX512_BF16)
      {"avx512_bf16", &avx512_bf16::table, cpu.avx512_bf16},
#endif
#if defined(CONVEYOR_HAS_AVX512)
      {"avx512", &avx512::table, cpu.avx512},
#endif
#if defined(CONVEYOR_HAS_AVX2)
      {"avx2", &avx2::table, cpu.avx2},
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
