#include "kvstore/eviction/policy.h"

#include "kvstore/eviction/lfu.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/reuse.h"
#include "kvstore/eviction/s3fifo.h"

namespace forecache {

std::unique_ptr<EvictionPolicy> NewEvictionPolicy(const std::string& name,
                                                  uint64_t seed) {
  if (name == "lru") return std::make_unique<LruEviction>();
  if (name == "lfu") return std::make_unique<LfuEviction>();
  if (name == "s3fifo") return std::make_unique<S3FifoEviction>();
  if (name == "reuse") return std::make_unique<ReuseEviction>(seed);
  return nullptr;
}

const std::vector<std::string>& EvictionPolicyNames() {
  static const auto* names =
      new std::vector<std::string>{"lru", "lfu", "s3fifo", "reuse"};
  return *names;
}

}  // namespace forecache
