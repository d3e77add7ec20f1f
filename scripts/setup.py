"""Make .venv, find a C++ compiler or install one, build the kernels, install Conveyor for development.

Run by `make` before everything else; a second run does only what has become stale. Standard library alone, since
it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "conveyor-setup.json"

# What the kernels ask of a compiler: C++17, its standard library, vector types, linking.
PROBE = """
#include <cstring>
#include <thread>
typedef float vector __attribute__((vector_size(32)));
extern "C" float probe(const float* p) {
  vector v;
  std::memcpy(&v, p, sizeof v);
  v = v * v + v;
  if constexpr (sizeof v == 32) std::thread([&] { v += v; }).join();
  return v[0];
}
"""

ZIG_WRAPPER = """\
#!/bin/sh
# {tool} out of the package ziglang. Left to itself zig compiles for this very machine's processor;
# the kernels choose their instruction sets themselves.
ZIG_GLOBAL_CACHE_DIR='{cache}' ZIG_LOCAL_CACHE_DIR='{cache}' exec '{python}' -m ziglang {tool} {flags} "$@"
"""


def main() -> None:
    check_python()
    done = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    make_environment()

    compiler = find_compiler()

    packages = digest([ROOT / "pyproject.toml", ROOT / "constraints.txt"])
    kernels = digest(
        [ROOT / "CMakeLists.txt", *(ROOT / "kernels").glob("*"), *(ROOT / "runtime").glob("*")], extra=compiler
    )
    if done.get("packages") == packages and done.get("kernels") == kernels:
        return
    if done.get("packages") != packages:
        say("Installing what Conveyor stands on into .venv (1.4 GB, a few minutes the first time)")
        pip("install", *build_requirements(), "cmake", "ninja")
    say(f"Building the kernels with {compiler}")
    build(compiler, with_dependencies=done.get("packages") != packages)
    STAMP.write_text(json.dumps({"packages": packages, "kernels": kernels}))


def check_python() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"Conveyor needs Python 3.11 or newer; {sys.executable} is {version}.")
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        sys.exit(
            f"{sys.executable} ({version}) cannot make virtual environments: its modules venv and ensurepip "
            "are missing. On Debian and Ubuntu the package python3-venv has them."
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        sys.exit(
            f"{header} is missing, and the kernels cannot be compiled without it. The package python3-dev "
            "(Debian, Ubuntu) or python3-devel (Fedora) has it."
        )


def make_environment() -> None:
    if not succeeds([PYTHON, "-m", "pip", "--version"]):
        say("Making .venv")
        run([sys.executable, "-m", "venv", "--clear", VENV])


def build_requirements() -> list[str]:
    import tomllib  # Python 3.11, by now checked

    requirements: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return requirements


def find_compiler() -> str:
    """The command of a C++ compiler that works: $CXX, the system's, or one installed into .venv."""
    if wanted := os.environ.get("CXX"):
        if not compiles(wanted):
            sys.exit(f"CXX={wanted} does not compile C++17 with vector types. Unset CXX to have one found.")
        return wanted
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name) and compiles(name):
            return name
    zig = VENV / "bin" / "zig-c++"
    if not (zig.exists() and compiles(str(zig))):
        say("No C++ compiler here: installing one (the package ziglang) into .venv")
        pip("install", "ziglang")
        write_zig_wrappers()
        if not compiles(str(zig)):
            sys.exit("The compiler of the package ziglang does not work here. Install g++ or clang++.")
    return str(zig)


def compiles(compiler: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROBE)
        flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", "-o", Path(folder) / "probe.so"]
        return succeeds([*words(compiler), *flags, source])


def words(compiler: str) -> list[str]:
    """A compiler's command in its parts: a path that may hold spaces, or a program with flags, as in "ccache g++"."""
    return [compiler] if Path(compiler).exists() else shlex.split(compiler)


def write_zig_wrappers() -> None:
    for tool, flags in {"cc": "-mcpu=baseline", "c++": "-mcpu=baseline", "ar": "", "ranlib": ""}.items():
        wrapper = VENV / "bin" / f"zig-{tool}"
        wrapper.write_text(ZIG_WRAPPER.format(tool=tool, flags=flags, python=PYTHON, cache=VENV / "zig-cache"))
        wrapper.chmod(0o755)


def build(compiler: str, with_dependencies: bool) -> None:
    # A build folder a compiler: CMake does not survive the change of one. No build isolation: it would compile
    # everything anew each time.
    name = re.sub(r"\W", "_", Path(words(compiler)[-1]).name.replace("+", "p"))
    settings = [f"build-dir=build/{name}-{{wheel_tag}}"]
    if "zig" in name:
        settings += [f"cmake.define.CMAKE_{t.upper()}={VENV}/bin/zig-{t}" for t in ("ar", "ranlib")]
    what = ["--editable", f"{ROOT}[tasks,dev]"] if with_dependencies else ["--no-deps", "--editable", ROOT]
    pip(
        "install",
        "--no-build-isolation",
        *(f"--config-settings={s}" for s in settings),
        *what,
        environment={**os.environ, "CXX": compiler},
    )


def pip(*arguments: object, environment: dict[str, str] | None = None) -> None:
    command, *rest = arguments
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    run([PYTHON, "-m", "pip", command, *quiet, "--constraint", ROOT / "constraints.txt", *rest], environment)


def run(command: list[object], environment: dict[str, str] | None = None) -> None:
    result = subprocess.run([str(part) for part in command], env=environment, cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(f"This step failed: {shlex.join(map(str, command))}")


def succeeds(command: list[object]) -> bool:
    try:
        return not subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode
    except OSError:
        return False


def digest(files: list[Path], extra: str = "") -> str:
    text = hashlib.sha256(f"{sys.version}{extra}".encode())
    for file in sorted(files):
        text.update(file.name.encode() + b"\0" + file.read_bytes())
    return text.hexdigest()


def say(message: str) -> None:
    print(f"== {message}", flush=True)


if __name__ == "__main__":
    main()
