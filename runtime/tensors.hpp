// The tensors of a safetensors file, every one checked before it is used.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model.hpp"

namespace conveyor {

enum class Type { f32, bf16, i8 };

struct Tensor {
  Type type = Type::f32;
  std::vector<long> shape;
  std::size_t begin = 0, end = 0;  // in the file
  bool used = false;
};

struct Tensors {
  std::map<std::string, Tensor> all;
  std::string about;  // what stands under "conveyor" in the metadata

  // Sizes, types, places and names; that all numbers are finite. Throws Refused.
  explicit Tensors(const std::vector<unsigned char>& bytes);

  Tensor& at(const std::string& name);
};

std::string shown(const std::vector<long>& shape);

}  // namespace conveyor
