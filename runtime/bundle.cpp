// A bundle, strictly: every name, size and type is checked before a kernel sees a pointer.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "json.hpp"
#include "tensors.hpp"

namespace conveyor {
namespace {

constexpr char kFormat[] = "conveyor-runtime-";
constexpr char kVersion[] = "conveyor-runtime-1";
constexpr long kWidest = 1L << 24;  // features
constexpr long kDeepest = 65536;    // of an int8 product: its sums fit into 32 bits
constexpr std::size_t kNodes = 4096;
constexpr std::size_t kAllowance = 1u << 20;

class Reader {
 public:
  explicit Reader(const std::vector<unsigned char>& bytes) : bytes_(bytes), tensors_(bytes) {}

  void into(Model& model) {
    if (tensors_.about.empty())
      throw Refused("format",
                    "[bundle] expected \"conveyor\" in the metadata; this is another safetensors file: write one with "
                    "conveyor export");
    Json json(tensors_.about, "the description");
    bool format = false, input = false, nodes = false;
    json.object([&](const std::string& key) {
      if (key == "format") {
        const std::string got = json.string();
        if (got != kVersion)
          throw Refused(got.rfind(kFormat, 0) == 0 ? "version" : "format",
                        "[bundle] expected the format " + std::string(kVersion) + ", got " + got.substr(0, 40) +
                            "; export the run again with this version");
        format = true;
      } else if (!format) {
        throw Refused("format", "[bundle] expected the format first");
      } else if (key == "task") {
        model.about = json.string();
      } else if (key == "tokens") {
        model.tokens = limited(json.whole(), kWidest, "tokens");
        start(model, 1);
        input = true;
      } else if (key == "features") {
        start(model, limited(json.whole(), kWidest, "features"));
        input = true;
      } else if (key == "nodes" && input) {
        json.array([&] { node(json, model); });
        nodes = true;
      } else if (key == "facts") {
        model.facts = std::string(json.raw());
      } else {
        throw Refused("description", "[bundle] not expected in the description: " + key.substr(0, 40));
      }
    });
    json.end();
    if (!nodes || model.nodes.size() < 2)
      throw Refused("description", "[bundle] expected tokens or features, and nodes");
    for (const auto& [name, tensor] : tensors_.all)
      if (!tensor.used) throw Refused("tensor_unused", "[bundle] tensor " + name.substr(0, 80) + ": no node uses it");
    model.weights = packed_;
  }

 private:
  static long limited(long value, long most, const char* what) {
    if (value < 1 || value > most)
      throw Refused("size", std::string("[bundle] ") + what + ": expected 1 to " + std::to_string(most) + ", got " +
                                std::to_string(value));
    return value;
  }

  static void start(Model& model, long width) {
    if (!model.nodes.empty()) throw Refused("description", "[bundle] expected tokens or features, got both");
    model.nodes.emplace_back();
    model.nodes.back().width = width;
  }

  [[noreturn]] void refuse(const char* name, const std::string& why) const {
    throw Refused(name, "[bundle] node " + std::to_string(number_) + ": " + why);
  }

  // What a node's fields say, before any of it is used.
  struct Fields {
    std::string op, kind, weight, bias, cell;
    std::vector<int> of;
    std::vector<float> options, rates;
    bool reverse = false;
    std::vector<std::map<std::string, std::string>> directions;
  };

  Fields fields(Json& json) {
    Fields f;
    json.object([&](const std::string& key) {
      if (key == "op")
        f.op = json.string();
      else if (key == "kind")
        f.kind = json.string();
      else if (key == "weight")
        f.weight = json.string();
      else if (key == "bias")
        f.bias = json.string();
      else if (key == "cell")
        f.cell = json.string();
      else if (key == "reverse")
        f.reverse = json.boolean();
      else if (key == "of")
        json.array([&] {
          const long earlier = json.whole();
          if (earlier >= static_cast<long>(number_))
            refuse("reference", "of: expected earlier nodes, got " + std::to_string(earlier));
          if (f.of.size() == 64) refuse("reference", "of: expected 64 nodes at most");
          f.of.push_back(static_cast<int>(earlier));
        });
      else if (key == "options")
        numbers(json, f.options);
      else if (key == "rates")
        numbers(json, f.rates);
      else if (key == "directions")
        json.array([&] {
          if (f.directions.size() == 2) refuse("directions", "expected one or two");
          f.directions.emplace_back();
          json.object([&](const std::string& name) { f.directions.back()[name] = json.string(); });
        });
      else
        refuse("node", "not expected: " + key.substr(0, 40));
    });
    return f;
  }

  void numbers(Json& json, std::vector<float>& to) {
    json.array([&] {
      const double value = json.number();
      if (to.size() == 64) refuse("options", "expected 64 numbers at most");
      to.push_back(value >= 3e38 ? INFINITY : value <= -3e38 ? -INFINITY : static_cast<float>(value));
    });
  }

  void node(Json& json, Model& model) {
    number_ = model.nodes.size();
    if (number_ > kNodes) refuse("node", "expected " + std::to_string(kNodes) + " nodes at most");
    const Fields f = fields(json);
    Node n;
    n.of = f.of;
    const bool many = f.op == "add" || f.op == "concat";
    if (f.of.empty() || (f.of.size() > 1 && !many))
      refuse("reference", "of: expected one node, or several of add and concat");
    const long width = model.nodes[static_cast<std::size_t>(f.of[0])].width;
    for (const int earlier : f.of)
      if (earlier == 0 && model.tokens && f.op != "embedding")
        refuse("reference", "of: expected tokens in an embedding alone");
    if (f.op == "embedding")
      embedding(f, model, n);
    else if (f.op == "linear")
      linear(f, width, n);
    else if (f.op == "recurrent")
      recurrent(f, width, model, n);
    else if (f.op == "norm" || f.op == "scale")
      elementwise(f, width, n);
    else if (f.op == "activation")
      activation(f, width, n);
    else if (many)
      joined(f, model, n);
    else if (f.op == "pool")
      pool(f, width, model, n);
    else
      refuse("node", "op: expected embedding, linear, recurrent, norm, scale, activation, add, concat or pool, got " +
                         f.op.substr(0, 40));
    widths_ = limited(widths_ + n.width, kWidest, "the widths of all nodes");
    model.nodes.push_back(std::move(n));
  }

  static Format format_of(Type type) {
    return type == Type::f32 ? Format::float32 : type == Type::bf16 ? Format::bfloat16 : Format::int8;
  }

  Tensor& shaped(const std::string& name, const std::vector<long>& shape) {
    Tensor& tensor = tensors_.at(name);
    if (tensor.shape != shape)
      refuse("tensor_shape", name.substr(0, 80) + ": expected " + shown(shape) + ", got " + shown(tensor.shape));
    return tensor;
  }

  std::vector<float> values(const std::string& name, long count) {
    const Tensor& tensor = shaped(name, {count});
    if (tensor.type != Type::f32) refuse("tensor_type", name.substr(0, 80) + ": expected F32");
    std::vector<float> all(static_cast<std::size_t>(count));
    std::memcpy(all.data(), bytes_.data() + tensor.begin, tensor.end - tensor.begin);
    return all;
  }

  std::vector<float> scales(const std::string& name, const Tensor& tensor) {
    if (tensor.type != Type::i8) return {};
    std::vector<float> all = values(name + ".scale", tensor.shape[0]);
    for (const float scale : all)
      if (!(scale >= 0)) refuse("scale", name.substr(0, 80) + ".scale: expected numbers of 0 or more");
    return all;
  }

  const Tensor& two_dimensional(const std::string& name) {
    const Tensor& tensor = tensors_.at(name);
    if (tensor.shape.size() != 2)
      refuse("tensor_shape", name.substr(0, 80) + ": expected two dimensions, got " + shown(tensor.shape));
    if (tensor.shape[0] > kWidest || tensor.shape[1] > kWidest) refuse("size", name.substr(0, 80) + ": too large");
    return tensor;
  }

  // Never more than the file itself takes, and a little.
  void reserve(std::size_t more) {
    packed_ += more;
    if (packed_ > bytes_.size() + kAllowance) refuse("memory", "its weights would take more memory than the file");
  }

  Matrix matrix(const std::string& name, long N, long K) {
    const Tensor& tensor = shaped(name, {N, K});
    Matrix m;
    m.format = format_of(tensor.type), m.N = N, m.K = K;
    if (m.format == Format::int8 && K > kDeepest)
      refuse("size", name.substr(0, 80) + ": expected int8 rows of 65536 at most");
    const std::size_t floats = kernels().dense_floats(m.format, N, K);
    reserve(floats * sizeof(float));
    m.packed = Floats(floats);
    const Floats scratch(16 * static_cast<std::size_t>(K + 4));
    const std::vector<float> own = scales(name, tensor);
    kernels().pack(m.format, N, K, bytes_.data() + tensor.begin, own.data(), m.packed.data(), scratch.data());
    return m;
  }

  void embedding(const Fields& f, Model& model, Node& n) {
    if (f.of[0] != 0 || !model.tokens) refuse("reference", "of: expected the tokens");
    const Tensor& tensor = two_dimensional(f.weight);
    if (tensor.shape[0] != model.tokens)
      refuse("tensor_shape", f.weight.substr(0, 80) + ": expected " + std::to_string(model.tokens) + " rows, got " +
                                 shown(tensor.shape));
    n.op = Op::embedding, n.width = tensor.shape[1];
    n.format = format_of(tensor.type), n.rows = bytes_.data() + tensor.begin, n.row_scales = scales(f.weight, tensor);
  }

  void linear(const Fields& f, long width, Node& n) {
    const Tensor& tensor = two_dimensional(f.weight);
    n.op = Op::linear, n.width = tensor.shape[0];
    n.matrix = matrix(f.weight, n.width, width);
    n.bias = f.bias.empty() ? std::vector<float>(static_cast<std::size_t>(n.width)) : values(f.bias, n.width);
  }

  void elementwise(const Fields& f, long width, Node& n) {
    n.op = f.op == "norm" ? Op::norm : Op::scale, n.width = width;
    n.weight = values(f.weight, width), n.bias = values(f.bias, width);
  }

  void activation(const Fields& f, long width, Node& n) {
    n.op = Op::activation, n.width = width;
    n.activation = kind<Activation>(f.kind, {"relu", "tanh", "sigmoid", "softmax", "log_softmax"});
  }

  void pool(const Fields& f, long width, Model& model, Node& n) {
    n.op = Op::pool, n.width = width;
    n.pooling = kind<Pooling>(f.kind, {"mean", "max", "ends"});
    if (n.pooling == Pooling::ends && width % 2)
      refuse("width", "pool: expected two directions, got a width of " + std::to_string(width));
    n.at = model.state;
    model.state += 1 + width;
  }

  // The place of a name among others.
  template <class Kind>
  Kind kind(const std::string& name, const std::vector<std::string>& names) const {
    const auto found = std::find(names.begin(), names.end(), name);
    std::string all;
    for (const std::string& each : names) all += (all.empty() ? "" : ", ") + each;
    if (found == names.end()) refuse("kind", "expected one of " + all + ", got " + name.substr(0, 40));
    return static_cast<Kind>(found - names.begin());
  }

  void joined(const Fields& f, const Model& model, Node& n) {
    n.op = f.op == "add" ? Op::add : Op::concat;
    for (const int earlier : f.of) {
      const long width = model.nodes[static_cast<std::size_t>(earlier)].width;
      if (n.op == Op::concat)
        n.width += width;
      else if (n.width && n.width != width)
        refuse("width",
               "add: expected nodes of one width, got " + std::to_string(n.width) + " and " + std::to_string(width));
      else
        n.width = width;
    }
  }

  void recurrent(const Fields& f, long width, Model& model, Node& n) {
    Recurrent& r = n.recurrent;
    n.op = Op::recurrent;
    r.cell = kind<Cell>(f.cell, {"lstm", "lstm variant", "gru", "rnn_tanh", "rnn_relu"});
    r.belt = r.cell == Cell::lstm || r.cell == Cell::lstm_variant;
    r.options = f.options, r.rates = f.rates;
    check_options(r);
    const Widths of_one = kernels().widths(r.cell, r.options.data(), 1, 1);
    if (f.directions.empty()) refuse("directions", "expected one or two");
    const auto named = [&](std::size_t d, const char* name) {
      const auto at = f.directions[d].find(name);
      return at == f.directions[d].end() ? std::string() : at->second;
    };
    const long rows = two_dimensional(named(0, "w_ih")).shape[0];
    if (rows % of_one.gates)
      refuse("tensor_shape",
             "w_ih: expected rows for " + std::to_string(of_one.gates) + " gates, got " + std::to_string(rows));
    r.H = rows / of_one.gates;
    r.projected = !named(0, "w_hr").empty();
    if (r.projected && !r.belt) refuse("cell", "expected a projection of an LSTM alone");
    r.P = r.projected ? two_dimensional(named(0, "w_hr")).shape[0] : r.H;
    r.widths = kernels().widths(r.cell, r.options.data(), r.H, r.P);
    r.sums = kernels().sums(r.cell, r.options.data(), r.H);
    if (r.widths.noise != static_cast<long>(r.rates.size()))
      refuse("options", "rates: expected " + std::to_string(r.widths.noise));
    if (r.projected && r.widths.noise) refuse("options", "expected no rates beside a projection");
    for (const float rate : r.rates) r.noise.insert(r.noise.end(), static_cast<std::size_t>(r.H), rate);
    for (std::size_t d = 0; d < f.directions.size(); ++d) {
      for (const auto& [name, _] : f.directions[d])
        if (name != "w_ih" && name != "w_hh" && name != "b_ih" && name != "b_hh" && name != "w_hr" && name != "vectors")
          refuse("node", "not expected in a direction: " + name.substr(0, 40));
      r.directions.push_back(direction(r, width, [&](const char* name) { return named(d, name); }));
    }
    r.reverse = f.reverse;
    if (r.reverse && r.directions.size() == 2) refuse("directions", "expected one direction that is reverse, or two");
    model.streams = model.streams && r.directions.size() == 1 && !r.reverse;
    n.width = static_cast<long>(r.directions.size()) * r.P;
    r.at = model.state;
    model.state += static_cast<long>(r.directions.size()) * (r.widths.fed + (r.belt ? r.H : 0));
  }

  // A variant is described by numbers, of which each has its range.
  void check_options(const Recurrent& r) const {
    const std::size_t wanted = r.cell == Cell::lstm_variant ? static_cast<std::size_t>(kernels().variant_options) : 0;
    if (r.options.size() != wanted)
      refuse("options", "expected " + std::to_string(wanted) + " numbers, got " + std::to_string(r.options.size()));
    if (!wanted) return;
    const auto flag = [&](std::size_t n) {
      if (r.options[n] != 0.0f && r.options[n] != 1.0f)
        refuse("options", "number " + std::to_string(n) + ": expected 0 or 1");
      return r.options[n] != 0.0f;
    };
    bool flags[7];
    for (std::size_t n = 0; n < 7; ++n) flags[n] = flag(n);
    const bool i = flags[0], f = flags[1], o = flags[2], coupled = flags[3], peepholes = flags[4], sees = flags[5],
               norms = flags[6];
    if ((coupled && (!i || f)) || ((peepholes || sees) && !i && !f && !o) || (sees && norms))
      refuse("options", "these gates do not go together");
    for (std::size_t n = 7; n < 16; n += 3)
      if (r.options[n] < 0 || r.options[n] > 11 || r.options[n] != std::floor(r.options[n]))
        refuse("options", "number " + std::to_string(n) + ": expected an activation, 0 to 11");
    for (std::size_t n = 16; n < 19; ++n)
      if (!(r.options[n] > 0)) refuse("options", "number " + std::to_string(n) + ": expected a bound above zero");
    for (std::size_t n = 19; n < wanted; ++n) flag(n);
    for (const float rate : r.rates)
      if (!(rate >= 0 && rate <= 1)) refuse("options", "rates: expected 0 to 1");
  }

  template <class Named>
  Direction direction(const Recurrent& r, long width, const Named& named) {
    const long sums = r.widths.gates * r.H;
    Direction d;
    d.w_ih = matrix(named("w_ih"), sums, width);
    d.w_hh = matrix(named("w_hh"), sums, r.widths.fed);
    if (r.projected != !named("w_hr").empty()) refuse("directions", "expected w_hr of both, or of none");
    if (r.projected) d.w_hr = matrix(named("w_hr"), r.P, r.H);
    const bool biased = !named("b_ih").empty();
    if (biased != !named("b_hh").empty()) refuse("directions", "expected b_ih and b_hh, or none of them");
    const auto bias = [&](const char* name) {
      return biased ? values(named(name), sums) : std::vector<float>(static_cast<std::size_t>(sums));
    };
    d.start = bias("b_ih"), d.b_hh = bias("b_hh");
    const long added = r.sums.last_apart ? sums - r.H : sums;
    for (std::size_t n = 0; n < static_cast<std::size_t>(added); ++n) d.start[n] += d.b_hh[n];
    d.bias = d.start, d.none.resize(static_cast<std::size_t>(r.P));
    if (r.sums.unbiased) std::fill(d.start.begin(), d.start.end(), 0.0f);
    if (r.widths.vectors)
      d.vectors = values(named("vectors"), r.widths.vectors);
    else if (!named("vectors").empty())
      refuse("node", "vectors: this cell has none");
    return d;
  }

  const std::vector<unsigned char>& bytes_;
  Tensors tensors_;
  std::size_t number_ = 0, packed_ = 0;
  long widths_ = 0;
};

}  // namespace

std::shared_ptr<const Model> read_model(std::vector<unsigned char> bytes) {
  auto model = std::make_shared<Model>();
  Reader(bytes).into(*model);
  bool looked_up = false;
  for (const Node& node : model->nodes) looked_up = looked_up || node.rows;
  if (looked_up) model->bytes = std::move(bytes);  // moved, it stays where it is
  return model;
}

std::vector<unsigned char> read_file(const std::string& path) {
  const auto failed = [&] { return Refused("file", "[bundle] " + path + ": " + std::strerror(errno)); };
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (!file) throw failed();
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closed(file, std::fclose);
  if (std::fseek(file, 0, SEEK_END) != 0) throw failed();
  const long size = std::ftell(file);
  if (size == std::numeric_limits<long>::max())
    throw Refused("file", "[bundle] " + path + ": expected a file, got a folder");
  if (size < 0 || std::fseek(file, 0, SEEK_SET) != 0) throw failed();
  std::vector<unsigned char> bytes(static_cast<std::size_t>(size));
  if (std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size())
    throw std::ferror(file) ? failed()
                            : Refused("truncated", "[bundle] " + path + ": it became shorter as it was read");
  return bytes;
}

}  // namespace conveyor
