// Arrays that Python passes, of torch or numpy alike, and tensors for torch: by DLPack.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"

template <>
struct nanobind::detail::dtype_traits<conveyor::bf16> {
  static constexpr dlpack::dtype value{static_cast<uint8_t>(dlpack::dtype_code::Bfloat), 16, 1};
  static constexpr auto name = const_name("bfloat16");
};

namespace conveyor {

// The head of DLPack's table for exchange between C programs, which a type offers by the name asked for below.
struct DlpackExchange {
  struct {
    std::uint32_t major, minor;
    void* previous;
  } header;
  void *allocate, *own;
  int (*give)(void* managed, void** object);
  int (*borrow)(void* object, nanobind::dlpack::dltensor* out);  // null where it is not offered
};

inline const DlpackExchange* exchange_of(PyTypeObject* type) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* capsule = PyObject_GetAttr(reinterpret_cast<PyObject*>(type), name);
  const void* table = capsule ? PyCapsule_GetPointer(capsule, "dlpack_exchange_api") : nullptr;
  PyErr_Clear();
  Py_XDECREF(capsule);  // the table lives as long as the type
  const auto* found = static_cast<const DlpackExchange*>(table);
  return found && found->header.major == 1 && found->borrow ? found : nullptr;
}

// Contiguous values [shape] on their way to torch, which frees them: DLPack's DLManagedTensorVersioned, and what it
// points to.
struct Managed {
  std::uint32_t major = 1, minor = 0;
  void* context = nullptr;
  void (*deleter)(Managed*) = [](Managed* self) {
    if (!nanobind::is_alive()) return;
    const nanobind::gil_scoped_acquire held;
    delete self;
  };
  std::uint64_t flags = 0;
  nanobind::dlpack::dltensor tensor{};

  std::vector<std::int64_t> shape, strides;
  Block block;

  explicit Managed(const std::vector<std::int64_t>& shape_, nanobind::dlpack::dtype dtype = nanobind::dtype<float>())
      : shape(shape_), strides(shape_) {
    std::int64_t values = 1;
    for (std::size_t n = shape.size(); n-- > 0; values *= shape[n]) {
      if (values && shape[n] > std::numeric_limits<std::int64_t>::max() / 64 / values) throw std::bad_alloc();
      strides[n] = values;
    }
    block = pool().take(static_cast<std::size_t>(values * dtype.bits + 31) / 32);
    tensor = {block.data,
              {nanobind::device::cpu::value, 0},
              static_cast<std::int32_t>(shape.size()),
              dtype,
              shape.data(),
              strides.data(),
              0};
  }
  ~Managed() { pool().give(block); }
  Managed(const Managed&) = delete;
  Managed& operator=(const Managed&) = delete;

 private:
  static Pool& pool() {
    static Pool& all = *new Pool;  // tensors may outlive all else
    return all;
  }
};

// As a tensor of torch: by the table or, where there is none, by nanobind's slower way.
inline nanobind::object hand_over(const DlpackExchange* exchange, std::unique_ptr<Managed> values) {
  Managed* const given = values.release();
  if (exchange) {
    void* object = nullptr;
    if (exchange->give(given, &object) != 0) nanobind::raise_python_error();
    return nanobind::steal(static_cast<PyObject*>(object));
  }
  const nanobind::capsule owner(given, [](void* held) noexcept { delete static_cast<Managed*>(held); });
  const std::vector<std::size_t> shape(given->shape.begin(), given->shape.end());
  return nanobind::cast(nanobind::ndarray<nanobind::pytorch>(given->block.data, shape.size(), shape.data(), owner,
                                                             nullptr, given->tensor.dtype));
}

// An array on the CPU, borrowed for the call.
template <class Element>
class Array {
  using Owned = nanobind::ndarray<Element, nanobind::device::cpu>;

 public:
  Array() = default;
  explicit Array(const Managed& values) : view_(values.tensor) {}

  // Whether the object is such an array. Through the table it takes a tenth of the time that nanobind's way takes.
  bool borrow(nanobind::handle object) {
    if (const DlpackExchange* exchange = exchange_of(Py_TYPE(object.ptr()))) {
      if (exchange->borrow(object.ptr(), &view_) == 0) return fits();
      PyErr_Clear();
    }
    if (!nanobind::try_cast(object, owned_, false)) return false;
    view_.data = const_cast<void*>(static_cast<const void*>(owned_.data()));
    view_.byte_offset = 0;
    view_.ndim = static_cast<std::int32_t>(owned_.ndim());
    view_.shape = const_cast<std::int64_t*>(owned_.shape_ptr());
    view_.strides = const_cast<std::int64_t*>(owned_.stride_ptr());
    return true;
  }

  std::size_t ndim() const { return static_cast<std::size_t>(view_.ndim); }
  std::int64_t shape(std::size_t n) const { return view_.shape[n]; }
  std::int64_t stride(std::size_t n) const { return view_.strides[n]; }
  std::size_t size() const {
    std::size_t product = 1;
    for (std::size_t n = 0; n < ndim(); ++n) product *= static_cast<std::size_t>(shape(n));
    return product;
  }
  Element* data() const { return reinterpret_cast<Element*>(static_cast<char*>(view_.data) + view_.byte_offset); }

 private:
  bool fits() const {
    constexpr auto wanted = nanobind::dtype<std::remove_const_t<Element>>();
    return view_.dtype == wanted && view_.device.device_type == nanobind::device::cpu::value &&
           (view_.strides || view_.ndim == 0);
  }

  nanobind::dlpack::dltensor view_{};
  Owned owned_;
};

}  // namespace conveyor

template <class Element>
struct nanobind::detail::type_caster<conveyor::Array<Element>> {
  NB_TYPE_CASTER(conveyor::Array<Element>, const_name("array"))

  bool from_python(handle object, std::uint8_t, cleanup_list*) noexcept { return value.borrow(object); }
  static handle from_cpp(const conveyor::Array<Element>&, rv_policy, cleanup_list*) = delete;
};
