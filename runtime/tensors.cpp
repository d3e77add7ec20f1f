#include "tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "json.hpp"

namespace conveyor {
namespace {

constexpr std::size_t kLargestHeader = 100u << 20, kPrefix = 8;
constexpr long kMost = 1L << 40;  // values of a tensor

std::size_t size_of(Type type) { return type == Type::f32 ? 4 : type == Type::bf16 ? 2 : 1; }

bool is_utf8(std::string_view text) {
  for (std::size_t n = 0; n < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[n++]);
    if (c < 0x80) continue;
    const int more = c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 0;
    if (!more || n + static_cast<std::size_t>(more) > text.size()) return false;
    unsigned code = c & (0x3fu >> more);
    for (int k = 0; k < more; ++k) {
      const unsigned char next = static_cast<unsigned char>(text[n++]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    if ((more == 2 && code < 0x800) || (more == 3 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code < 0xe000))
      return false;
  }
  return true;
}

[[noreturn]] void refuse(const char* name, const std::string& tensor, const std::string& why) {
  throw Refused(name, "[bundle] tensor " + tensor.substr(0, 80) + ": " + why);
}

Tensor tensor_of(Json& json, const std::string& name) {
  Tensor tensor;
  int parts = 0;
  long bounds[2] = {0, 0};
  json.object([&](const std::string& key) {
    ++parts;
    if (key == "dtype") {
      const std::string type = json.string();
      if (type == "F32")
        tensor.type = Type::f32;
      else if (type == "BF16")
        tensor.type = Type::bf16;
      else if (type == "I8")
        tensor.type = Type::i8;
      else
        refuse("tensor_type", name, "expected F32, BF16 or I8, got " + type.substr(0, 20));
    } else if (key == "shape") {
      json.array([&] {
        if (tensor.shape.size() == 4) refuse("tensor_shape", name, "expected 4 dimensions at most");
        tensor.shape.push_back(json.whole());
      });
    } else if (key == "data_offsets") {
      std::size_t n = 0;
      json.array([&] {
        const long bound = json.whole();
        if (n == 2) refuse("tensor_offsets", name, "expected two offsets, got more");
        bounds[n++] = bound;
      });
      if (n != 2) refuse("tensor_offsets", name, "expected two offsets");
    } else {
      refuse("tensor_fields", name, "expected dtype, shape and data_offsets, got " + key.substr(0, 20));
    }
  });
  if (parts != 3) refuse("tensor_fields", name, "expected dtype, shape and data_offsets");
  long count = 1;
  for (const long size : tensor.shape) {
    if (size < 1 || size > kMost || count > kMost / size)
      refuse("tensor_shape", name, "expected sizes above zero, of less than 2^40 values, got " + shown(tensor.shape));
    count *= size;
  }
  const long wanted = count * static_cast<long>(size_of(tensor.type));
  if (bounds[0] > bounds[1] || bounds[1] - bounds[0] != wanted)
    refuse("tensor_offsets", name,
           "expected " + std::to_string(wanted) + " bytes for " + shown(tensor.shape) + ", got " +
               std::to_string(bounds[0]) + " to " + std::to_string(bounds[1]));
  tensor.begin = static_cast<std::size_t>(bounds[0]), tensor.end = static_cast<std::size_t>(bounds[1]);
  return tensor;
}

void check_finite(const std::string& name, const Tensor& tensor, const unsigned char* bytes) {
  const std::size_t step = size_of(tensor.type);
  if (step == 1) return;
  for (const unsigned char* at = bytes + tensor.begin; at < bytes + tensor.end; at += step) {
    std::uint32_t bits = 0;
    std::memcpy(reinterpret_cast<unsigned char*>(&bits) + 4 - step, at, step);
    if ((bits & 0x7f800000u) == 0x7f800000u) refuse("not_finite", name, "expected numbers, got NaN or infinity");
  }
}

}  // namespace

std::string shown(const std::vector<long>& shape) {
  std::string text = "[";
  for (std::size_t n = 0; n < shape.size(); ++n) text += (n ? ", " : "") + std::to_string(shape[n]);
  return text + "]";
}

Tensors::Tensors(const std::vector<unsigned char>& bytes) {
  std::uint64_t length = 0;
  if (bytes.size() < kPrefix)
    throw Refused("truncated", "[bundle] expected 8 bytes or more, got " + std::to_string(bytes.size()));
  std::memcpy(&length, bytes.data(), kPrefix);
  if (length > kLargestHeader || length > bytes.size() - kPrefix)
    throw Refused("header_size", "[bundle] the header: expected at most " + std::to_string(bytes.size() - kPrefix) +
                                     " bytes, got " + std::to_string(length) + "; this is no bundle, or a part of one");
  const std::size_t data = kPrefix + static_cast<std::size_t>(length);
  if (data % 8)
    throw Refused("alignment", "[bundle] the header: expected a length that 8 divides, got " + std::to_string(length));
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kPrefix,
                                static_cast<std::size_t>(length));
  if (!is_utf8(header)) throw Refused("utf8", "[bundle] the header: expected UTF-8");
  Json json(header, "the header");
  json.object([&](const std::string& name) {
    if (name != "__metadata__") return void(all.emplace(name, tensor_of(json, name)));
    json.object([&](const std::string& key) {
      std::string value = json.string();
      if (key == "conveyor") about = std::move(value);
    });
  });
  json.end();
  std::vector<std::pair<const std::string, Tensor>*> in_order;
  for (auto& each : all) in_order.push_back(&each);
  std::sort(in_order.begin(), in_order.end(), [](auto* a, auto* b) { return a->second.begin < b->second.begin; });
  std::size_t reached = 0;
  for (auto* each : in_order) {
    Tensor& tensor = each->second;
    if (tensor.begin < reached) refuse("tensor_overlap", each->first, "it overlaps another");
    if (tensor.begin > reached) refuse("tensor_gap", each->first, "expected it behind the one before, got a gap");
    if (tensor.begin % size_of(tensor.type))
      refuse("alignment", each->first, "expected an offset that its type divides");
    reached = tensor.end;
  }
  if (reached != bytes.size() - data)
    throw Refused("truncated", "[bundle] expected " + std::to_string(reached) + " bytes of tensors, got " +
                                   std::to_string(bytes.size() - data));
  for (auto& [name, tensor] : all) {
    tensor.begin += data, tensor.end += data;
    check_finite(name, tensor, bytes.data());
  }
}

Tensor& Tensors::at(const std::string& name) {
  const auto found = all.find(name);
  if (found == all.end())
    throw Refused("tensor_missing", "[bundle] tensor " + name.substr(0, 80) + ": it is not there");
  found->second.used = true;
  return found->second;
}

}  // namespace conveyor
