#pragma once

#include <nanobind/nanobind.h>

namespace conveyor {

void bind_runtime(nanobind::module_& module);

}  // namespace conveyor
