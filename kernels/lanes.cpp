#include "lanes.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace conveyor {

LanePlan::LanePlan(const std::int64_t* lengths, long T, long B, long some) : length_(static_cast<size_t>(B), T) {
  if (lengths) length_.assign(lengths, lengths + B);
  std::vector<long> rows(length_.size());
  std::iota(rows.begin(), rows.end(), 0);
  if (lengths) {
    std::stable_sort(rows.begin(), rows.end(), [this](long a, long b) { return length_[a] > length_[b]; });
    while (!rows.empty() && length_[rows.back()] == 0) rows.pop_back();
  }
  const long busy = static_cast<long>(rows.size()), longest = busy ? length_[rows.front()] : 0;
  if (busy && length_[rows.back()] < longest) {
    const long steps = std::accumulate(length_.begin(), length_.end(), 0L);
    lay(rows, std::min(busy, std::max((steps + longest * some / 2) / (longest * some), 1L) * some));
    return;
  }
  end_.assign(rows.size(), longest);
  start_.assign(rows.size(), 0);
  first_.resize(rows.size() + 1);
  std::iota(first_.begin(), first_.end(), 0);
  row_ = std::move(rows);
}

void LanePlan::lay(const std::vector<long>& rows, long count) {
  struct Lane {
    long end = 0;
    std::vector<long> rows, starts;
  };
  std::vector<Lane> lanes(static_cast<size_t>(count));
  using Free = std::pair<long, long>;  // from which tick, which lane
  std::priority_queue<Free, std::vector<Free>, std::greater<Free>> free;
  for (long lane = 0; lane < count; ++lane) free.push({0, lane});
  for (long row : rows) {
    const auto [tick, at] = free.top();
    free.pop();
    Lane& lane = lanes[at];
    lane.rows.push_back(row);
    lane.starts.push_back(tick);
    lane.end = tick + length_[row];
    free.push({lane.end, at});
  }
  std::stable_sort(lanes.begin(), lanes.end(), [](const Lane& a, const Lane& b) { return a.end > b.end; });
  for (const Lane& lane : lanes) {
    end_.push_back(lane.end);
    first_.push_back(static_cast<long>(row_.size()));
    row_.insert(row_.end(), lane.rows.begin(), lane.rows.end());
    start_.insert(start_.end(), lane.starts.begin(), lane.starts.end());
  }
  first_.push_back(static_cast<long>(row_.size()));
}

Lanes LanePlan::lanes() const {
  return {static_cast<long>(end_.size()),
          end_.empty() ? 0 : end_.front(),
          end_.data(),
          first_.data(),
          row_.data(),
          start_.data(),
          length_.data()};
}

}  // namespace conveyor
