// The least often used goes first; of equals, the least recently used.
#ifndef FORECACHE_KVSTORE_EVICTION_LFU_H_
#define FORECACHE_KVSTORE_EVICTION_LFU_H_

#include "kvstore/eviction/ranked.h"

namespace forecache {

// Counts uses while a segment is held; what comes back starts anew.
//
// Threads: as EvictionPolicy.
class LfuEviction : public RankedEviction {
 private:
  Rank Used(const Rank& before, uint64_t tick) const override {
    return {before.first + 1, tick};
  }
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_LFU_H_
