// JSON as it is read: the caller says what it expects next, and all else is refused. Nothing is built up, so that no text
// takes more memory than what is kept of it.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "model.hpp"

namespace conveyor {

class Json {
 public:
  Json(std::string_view text, std::string where)
      : at_(text.data()), end_(at_ + text.size()), where_(std::move(where)) {}

  // Calls member(key) for each member; it reads the value.
  template <class Member>
  void object(const Member& member) {
    const Deeper deeper(*this);
    open('{');
    std::set<std::string> seen;
    if (next_is('}')) return;
    do {
      const std::string key = string();
      if (!seen.insert(key).second) refuse("the name \"" + shortened(key) + "\" twice in one object");
      open(':');
      member(key);
    } while (goes_on('}'));
  }

  template <class Element>
  void array(const Element& element) {
    const Deeper deeper(*this);
    open('[');
    if (next_is(']')) return;
    do element();
    while (goes_on(']'));
  }

  std::string string();
  double number();
  long whole();  // of 0 to 2^53
  bool boolean();
  void skip();             // any value
  std::string_view raw();  // any value, as it stands there
  void end();              // nothing but space is left
  [[noreturn]] void refuse(const std::string& got) const;

 private:
  struct Deeper {
    explicit Deeper(Json& json_) : json(json_) {
      if (++json.depth_ > kDeepest) json.refuse("more than 32 levels");
    }
    ~Deeper() { --json.depth_; }
    Json& json;
  };
  static constexpr int kDeepest = 32;

  void space() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }
  char peek() {
    space();
    if (at_ == end_) refuse("its end");
    return *at_;
  }
  void open(char c) {
    if (peek() != c) refuse(std::string("\"") + *at_ + "\" where \"" + c + "\" belongs");
    ++at_;
  }
  bool next_is(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool goes_on(char close) {
    if (next_is(',')) return true;
    open(close);
    return false;
  }
  unsigned hex4();
  static std::string shortened(const std::string& text) { return text.substr(0, 40); }

  const char *at_, *const end_;
  const std::string where_;
  int depth_ = 0;
};

}  // namespace conveyor
