// The specification of block scores and code planes: scalar.
#include "kernels/block_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/half.h"
#include "kernels/arguments.h"
#include "kernels/code_plane.h"
#include "kernels/ref/channel_range.h"

namespace forecache {
namespace {

// Scores of f32 keys [tokens][head_dim] for one query head.
void ScoreOne(const float* keys, int tokens, int head_dim, const float* q,
              double scale, float* block_max, float* lse) {
  std::vector<double> logits(tokens);
  double largest = -std::numeric_limits<double>::infinity();
  for (int t = 0; t < tokens; ++t) {
    double dot = 0;
    for (int c = 0; c < head_dim; ++c) {
      dot += double{q[c]} * keys[size_t(t) * head_dim + c];
    }
    logits[t] = dot * scale;
    largest = std::max(largest, logits[t]);
    float& slot = block_max[t / kScoreBlockTokens];
    const float logit = static_cast<float>(logits[t]);
    slot = t % kScoreBlockTokens == 0 ? logit : std::max(slot, logit);
  }
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - largest);
  *lse = tokens == 0 ? -std::numeric_limits<float>::infinity()
                     : static_cast<float>(largest + std::log(sum));
}

}  // namespace

void ExactScoresRef(const ExactScores& args) {
  CheckArguments(args);
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(args.keys);
  std::vector<float> keys(size_t(args.tokens) * args.head_dim);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i] = KvToFloat(args.type, bits[i]);
  }
  for (int g = 0; g < args.group; ++g) {
    ScoreOne(keys.data(), args.tokens, args.head_dim,
             args.q + size_t(g) * args.head_dim, args.scale,
             args.block_max + g * args.row_stride, args.lse + g);
  }
}

void CodeScoresRef(const CodeScores& args) {
  CheckArguments(args);
  std::vector<float> keys(size_t(kCodePlaneTokens) * args.head_dim);
  DecodeCodePlane(args.code_plane, args.head_dim, keys.data());
  float lse;
  for (int g = 0; g < args.group; ++g) {
    ScoreOne(keys.data(), kCodePlaneTokens, args.head_dim,
             args.q + size_t(g) * args.head_dim, args.scale,
             args.block_max + g * args.row_stride,
             args.lse == nullptr ? &lse : args.lse + g);
  }
}

// Every step is one IEEE f32 operation, rounded once, so that vectors and
// scalars give the same bytes (kernels/ is compiled without contraction).
void EncodeCodePlaneRef(const std::byte* keys, KvType type, int head_dim,
                        std::byte* code_plane) {
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(keys);
  float* lows = reinterpret_cast<float*>(code_plane);
  float* scales = lows + head_dim;
  uint8_t* codes = CodePlaneCodes(code_plane, head_dim);
  std::memset(codes, 0, CodePlaneBytes(head_dim) - 8 * size_t(head_dim));
  for (int c = 0; c < head_dim; ++c) {
    const ChannelRange range = FindChannelRange(bits, type, head_dim, c);
    lows[c] = range.low;
    scales[c] = range.scale;
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      const float key = KvToFloat(type, bits[size_t(t) * head_dim + c]);
      const long nearest = std::lrint((key - range.low) * range.inverse);
      const int code = static_cast<int>(std::clamp<long>(nearest, 0, kCodeMax));
      codes[CodeOffset(t, c, head_dim) + c % 4] |=
          static_cast<uint8_t>(c % kRunChannels < 4 ? code : code << 4);
    }
  }
}

void DecodeCodePlane(const std::byte* code_plane, int head_dim, float* keys) {
  const float* low = CodePlaneLow(code_plane);
  const float* scale = CodePlaneScale(code_plane, head_dim);
  const uint8_t* codes = CodePlaneCodes(code_plane, head_dim);
  for (int t = 0; t < kCodePlaneTokens; ++t) {
    for (int c = 0; c < head_dim; ++c) {
      const uint8_t both = codes[CodeOffset(t, c, head_dim) + c % 4];
      const int code = c % kRunChannels < 4 ? both & 0xF : both >> 4;
      keys[size_t(t) * head_dim + c] = low[c] + scale[c] * code;
    }
  }
}

}  // namespace forecache
