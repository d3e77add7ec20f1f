#include "json.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace conveyor {

void Json::refuse(const std::string& got) const {
  throw Refused("json", "[bundle] " + where_ + ": not expected: " + got);
}

unsigned Json::hex4() {
  unsigned value = 0;
  for (int n = 0; n < 4; ++n) {
    const char c = at_ < end_ ? *at_++ : ' ';
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) refuse("an escape that is no character");
    value = value * 16 + static_cast<unsigned>(digit);
  }
  return value;
}

std::string Json::string() {
  open('"');
  std::string text;
  const auto put = [&](unsigned code) {
    if (code < 0x80) return text += static_cast<char>(code), void();
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    text += static_cast<char>((0xf0 << (3 - more) & 0xff) | code >> 6 * more);
    for (int n = more; n-- > 0;) text += static_cast<char>(0x80 | (code >> 6 * n & 0x3f));
  };
  for (;;) {
    if (at_ == end_) refuse("its end inside a string");
    const char c = *at_++;
    if (c == '"') return text;
    if (static_cast<unsigned char>(c) < 0x20) refuse("a control character inside a string");
    if (c != '\\') {
      text += c;
      continue;
    }
    const char escaped = at_ < end_ ? *at_++ : ' ';
    constexpr char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char* const known = escaped ? std::strchr(names, escaped) : nullptr;
    if (known) {
      text += values[known - names];
      continue;
    }
    if (escaped != 'u') refuse("an escape that is no character");
    unsigned code = hex4();
    if (code >= 0xdc00 && code < 0xe000) refuse("half a character");
    if (code >= 0xd800 && code < 0xdc00) {
      if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') refuse("half a character");
      at_ += 2;
      const unsigned low = hex4();
      if (low < 0xdc00 || low >= 0xe000) refuse("half a character");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    put(code);
  }
}

// Not by strtod, whose point is a comma in some countries.
double Json::number() {
  peek();
  const char* const from = at_;
  const auto digits = [&](double& value, int& count) {
    for (; at_ < end_ && *at_ >= '0' && *at_ <= '9'; ++at_, ++count) value = value * 10 + (*at_ - '0');
  };
  const auto is = [&](char c) { return at_ < end_ && *at_ == c ? ++at_, true : false; };
  double value = 0, exponent = 0;
  int before = 0, behind = 0, of_exponent = 0;
  const bool negative = is('-');
  digits(value, before);
  if (is('.')) {
    digits(value, behind);
    if (!behind) before = 0;
  }
  bool down = false;
  const bool scaled = is('e') || is('E');
  if (scaled) {
    down = is('-');
    if (!down) is('+');
    digits(exponent, of_exponent);
  }
  if (!before || (scaled && !of_exponent))
    refuse("\"" + std::string(from, std::min(from + 20, end_)) + "\" where a value belongs");
  const double power = (down ? -exponent : exponent) - behind;
  value = power < 0 ? value / std::pow(10.0, -power) : value * std::pow(10.0, power);
  if (!std::isfinite(value)) refuse("a number that is too large");
  return negative ? -value : value;
}

long Json::whole() {
  const double value = number();
  if (value < 0 || value > 9007199254740992.0 || value != std::floor(value))
    refuse("a number that is not whole, or negative");
  return static_cast<long>(value);
}

bool Json::boolean() {
  peek();
  for (const char* name : {"true", "false"}) {
    const std::size_t count = std::strlen(name);
    if (static_cast<std::size_t>(end_ - at_) >= count && std::memcmp(at_, name, count) == 0)
      return at_ += count, count == 4;
  }
  refuse("something else than true or false");
}

void Json::skip() {
  switch (peek()) {
    case '{': return object([&](const std::string&) { skip(); });
    case '[': return array([&] { skip(); });
    case '"': return string(), void();
    case 't':
    case 'f': return boolean(), void();
    case 'n':
      if (end_ - at_ < 4 || std::memcmp(at_, "null", 4) != 0) refuse("a word that is not null");
      at_ += 4;
      return;
    default: return number(), void();
  }
}

std::string_view Json::raw() {
  peek();
  const char* const from = at_;
  skip();
  return {from, static_cast<std::size_t>(at_ - from)};
}

void Json::end() {
  space();
  if (at_ != end_) refuse("more behind its end");
}

}  // namespace conveyor
