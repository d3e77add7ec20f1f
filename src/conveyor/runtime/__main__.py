"""Where the header and the library for C are: `python -m conveyor.runtime`."""

from pathlib import Path

from conveyor import _kernels

HOME = Path(_kernels.__file__).parent
INCLUDE, LIBRARY = HOME / "include", HOME / "lib" / "libconveyor.so"

if __name__ == "__main__":
    print(f"-I{INCLUDE} {LIBRARY} -Wl,-rpath,{LIBRARY.parent}")
