#include "kvstore/placement.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/rng.h"

namespace forecache {
namespace {

// One step of a hash chain.  Never change it: workers of different builds
// must agree.
uint64_t Mix(uint64_t state, uint64_t value) {
  return Rng(state ^ (value * 0xD6E8FEB86659FD93u)).Next();
}

uint64_t HashOf(const std::string& name) {
  uint64_t hash = name.size();
  for (unsigned char c : name) hash = Mix(hash, c);
  return hash;
}

}  // namespace

std::vector<uint64_t> PlacementKeys(std::span<const int32_t> tokens) {
  std::vector<uint64_t> keys;
  uint64_t chain = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    chain = Mix(chain, static_cast<uint32_t>(tokens[i]));
    if (i % kSegmentTokens == kBlockTokens - 1) keys.push_back(chain);
  }
  return keys;
}

Placement::Placement(MemberList members) : members_(std::move(members)) {
  FC_CHECK(!members_.names.empty()) << "a group without members";
  for (const std::string& name : members_.names) {
    seeds_.push_back(HashOf(name));
  }
}

std::vector<int> Placement::Rank(uint64_t key) const {
  std::vector<int> rank(seeds_.size());
  std::iota(rank.begin(), rank.end(), 0);
  std::stable_sort(rank.begin(), rank.end(), [&](int a, int b) {
    return Mix(seeds_[a], key) > Mix(seeds_[b], key);
  });
  return rank;
}

}  // namespace forecache
