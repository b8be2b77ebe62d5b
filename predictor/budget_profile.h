// A model's profile: how much attention each (layer, KV head) misses with how
// many blocks, so that a budget goes where it helps most.
//
// Made from traces of other texts by predictor/train/budget_profile.py.  The
// file, little-endian: u32 magic, version, layers, kv_heads, points; f32 shares
// [points] of the context, ascending from 0; f32 missed [layers][kv_heads]
// [points], the mean share of attention's mass that is missed when so many
// blocks are chosen, convex and not rising; CRC32C of everything before, u32.
#ifndef FORECACHE_PREDICTOR_BUDGET_PROFILE_H_
#define FORECACHE_PREDICTOR_BUDGET_PROFILE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace forecache {

inline constexpr uint32_t kBudgetProfileMagic = 0x50424346;  // "FCBP"
inline constexpr uint32_t kBudgetProfileVersion = 1;
inline constexpr int kBudgetProfilePointsMax = 64;

// Threads: a value.
struct BudgetProfile {
  int layers = 0;
  int kv_heads = 0;
  std::vector<float> shares;  // [points]
  std::vector<float> missed;  // [layers * kv_heads][points]

  // Shares out `total` blocks: every head gets `least`, and each further block
  // goes where it takes most off what is missed, of heads that have fewer than
  // `context_blocks`.  Ties go to the earlier head.
  // REQUIRES: least >= 0, total >= least * layers * kv_heads.
  std::vector<int> ShareOut(int total, int context_blocks, int least) const;
};

// kDataLoss: truncated, too long, or its checksum is wrong; kInvalidArgument:
// no such file, or numbers outside their limits; kUnimplemented: another
// version.  The message says which.
absl::StatusOr<BudgetProfile> ParseBudgetProfile(ByteView file);

// The profile that this binary carries, of SmolLM2-135M.
const BudgetProfile& BuiltinBudgetProfile();

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_BUDGET_PROFILE_H_
