// Which segment of its context a segment is, told by parents alone.
#ifndef FORECACHE_KVSTORE_CHAIN_NUMBERS_H_
#define FORECACHE_KVSTORE_CHAIN_NUMBERS_H_

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "common/limits.h"
#include "kvstore/segment_id.h"

namespace forecache {

// Numbers count the ancestors that were added: 0 for a segment whose parent was
// not.
//
// Threads: one thread.
class ChainNumbers {
 public:
  void Add(const SegmentId& id, const SegmentId& parent) {
    parents_[id] = parent;
  }

  // REQUIRES: all of them were added, `id` among them.
  size_t Of(const SegmentId& id) {
    std::vector<SegmentId> path;  // from `id` up, to the last without a number
    SegmentId at = id;
    while (parents_.contains(at) && !numbers_.contains(at) &&
           path.size() < kContextBlocksMax / kSegmentBlocks) {
      path.push_back(at);
      at = parents_.at(at);
    }
    const auto above = numbers_.find(at);
    size_t next = above == numbers_.end() ? 0 : above->second + 1;
    for (; !path.empty(); path.pop_back()) numbers_[path.back()] = next++;
    return numbers_.at(id);
  }

 private:
  std::unordered_map<SegmentId, SegmentId, SegmentIdHash> parents_;
  std::unordered_map<SegmentId, size_t, SegmentIdHash> numbers_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CHAIN_NUMBERS_H_
