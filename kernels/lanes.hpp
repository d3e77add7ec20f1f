// Rows of unequal lengths, laid into lanes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace conveyor {

// Owns what `Lanes` points to. Rows of one length have a lane each. Otherwise there are as many lanes as rows would be
// needed if all were as long as the longest, to the nearest multiple of `some`; the longest rows come first, each into the
// lane that is free first.
class LanePlan {
 public:
  LanePlan(const std::int64_t* lengths, long T, long B, long some);  // lengths null: T
  Lanes lanes() const;
  // Belts of all lanes that are kept where each tick but every so many forgets its own, at most: with rows of unequal
  // lengths there may be almost two ticks a step.
  static long belts(long T, long every, bool equal) { return (equal ? T : 2 * T) / every + (equal ? 1 : 2); }

 private:
  void lay(const std::vector<long>& rows, long count);

  std::vector<long> length_, end_, first_, row_, start_;
};

}  // namespace conveyor
