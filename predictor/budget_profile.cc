#include "predictor/budget_profile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/limits.h"

namespace forecache {
namespace {

constexpr size_t kHeaderWords = 5;

constexpr unsigned char kBuiltin[] = {
#include "predictor/budget_profile.inc"
};

// What `chosen` blocks of `context` miss, between the points by lines.
double Missed(const BudgetProfile& profile, size_t head, int chosen,
              int context) {
  const std::vector<float>& shares = profile.shares;
  const float* missed = profile.missed.data() + head * shares.size();
  const double share = double(chosen) / context;
  const size_t next =
      std::upper_bound(shares.begin(), shares.end(), share) - shares.begin();
  if (next == shares.size()) return missed[next - 1];
  const double part =
      (share - shares[next - 1]) / (shares[next] - shares[next - 1]);
  return missed[next - 1] + part * (missed[next] - missed[next - 1]);
}

absl::Status CheckNumbers(const BudgetProfile& profile) {
  const std::vector<float>& shares = profile.shares;
  bool good = shares.front() == 0;
  for (size_t i = 1; i < shares.size(); ++i) {
    good = good && shares[i] > shares[i - 1] && shares[i] <= 1;
  }
  for (const float missed : profile.missed) {
    good = good && missed >= 0 && missed <= 1;
  }
  return good ? absl::OkStatus()
              : absl::InvalidArgumentError(
                    "budget profile: shares must ascend from 0 to at most 1, "
                    "and what is missed lie in 0..1");
}

}  // namespace

absl::StatusOr<BudgetProfile> ParseBudgetProfile(ByteView file) {
  uint32_t words[kHeaderWords], crc;
  if (file.size() < sizeof(words) + sizeof(crc)) {
    return absl::DataLossError(absl::StrCat("budget profile is truncated: ",
                                            file.size(), " bytes"));
  }
  std::memcpy(words, file.data(), sizeof(words));
  const auto [magic, version, layers, kv_heads, points] = words;
  if (magic != kBudgetProfileMagic) {
    return absl::InvalidArgumentError("not a file of a budget profile");
  }
  if (version != kBudgetProfileVersion) {
    return absl::UnimplementedError(
        absl::StrCat("budget profile of version ", version,
                     ", but this program reads ", kBudgetProfileVersion));
  }
  if (layers < 1 || layers > uint32_t{kLayersMax} || kv_heads < 1 ||
      kv_heads > uint32_t{kKvHeadsMax} || points < 2 ||
      points > uint32_t{kBudgetProfilePointsMax}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "budget profile of ", layers, " layers, ", kv_heads, " KV heads and ",
        points, " points, but may have up to ", kLayersMax, ", ", kKvHeadsMax,
        " and ", kBudgetProfilePointsMax));
  }
  BudgetProfile profile{.layers = static_cast<int>(layers),
                        .kv_heads = static_cast<int>(kv_heads)};
  profile.shares.resize(points);
  profile.missed.resize(size_t{1} * layers * kv_heads * points);
  const size_t shares_bytes = points * sizeof(float);
  const size_t missed_bytes = profile.missed.size() * sizeof(float);
  const size_t body = sizeof(words) + shares_bytes + missed_bytes;
  if (file.size() != body + sizeof(crc)) {
    return absl::DataLossError(absl::StrCat(
        "budget profile is ",
        file.size() < body + sizeof(crc) ? "truncated" : "too long", ": ",
        file.size(), " bytes of ", body + sizeof(crc)));
  }
  std::memcpy(&crc, file.data() + body, sizeof(crc));
  if (crc != Crc32c(file.first(body))) {
    return absl::DataLossError("budget profile is corrupt: wrong checksum");
  }
  const std::byte* at = file.data() + sizeof(words);
  std::memcpy(profile.shares.data(), at, shares_bytes);
  std::memcpy(profile.missed.data(), at + shares_bytes, missed_bytes);
  const absl::Status numbers = CheckNumbers(profile);
  if (!numbers.ok()) return numbers;
  return profile;
}

std::vector<int> BudgetProfile::ShareOut(int total, int context_blocks,
                                         int least) const {
  const size_t heads = size_t{1} * layers * kv_heads;
  FC_CHECK(least >= 0 && total >= least * static_cast<int>(heads))
      << total << " blocks for " << heads << " heads of " << least;
  std::vector<int> blocks(heads, least);
  const auto gain = [&](size_t head) {
    const int chosen = blocks[head] - least;
    return Missed(*this, head, chosen, context_blocks) -
           Missed(*this, head, chosen + 1, context_blocks);
  };
  // The gain of a head's next block, and the head, negated for the ties.
  std::priority_queue<std::pair<double, int>> next;
  for (size_t h = 0; h < heads && least < context_blocks; ++h) {
    next.push({gain(h), -static_cast<int>(h)});
  }
  for (int left = total - least * static_cast<int>(heads);
       left > 0 && !next.empty(); --left) {
    const size_t head = -next.top().second;
    next.pop();
    if (++blocks[head] < context_blocks) {
      next.push({gain(head), -static_cast<int>(head)});
    }
  }
  return blocks;
}

const BudgetProfile& BuiltinBudgetProfile() {
  static const BudgetProfile* const profile = [] {
    auto parsed = ParseBudgetProfile(
        AsBytes(std::span<const unsigned char>(kBuiltin)));
    FC_CHECK(parsed.ok()) << parsed.status().ToString();
    return new BudgetProfile(*std::move(parsed));
  }();
  return *profile;
}

}  // namespace forecache
