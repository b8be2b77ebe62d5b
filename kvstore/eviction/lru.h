// The least recently used goes first.
#ifndef FORECACHE_KVSTORE_EVICTION_LRU_H_
#define FORECACHE_KVSTORE_EVICTION_LRU_H_

#include "kvstore/eviction/ranked.h"

namespace forecache {

// Threads: as EvictionPolicy.
class LruEviction : public RankedEviction {
 private:
  Rank Used(const Rank& before, uint64_t tick) const override {
    return {0, tick};
  }
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_LRU_H_
