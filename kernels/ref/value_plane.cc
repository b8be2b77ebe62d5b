// The specification of value planes and of their scans: scalar.
#include "kernels/value_plane.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/code_plane.h"
#include "kernels/ref/channel_range.h"

namespace forecache {
namespace {

float* At(std::byte* plane, size_t offset) {
  return reinterpret_cast<float*>(plane + offset);
}

}  // namespace

size_t ValuePlaneBytes(int head_dim) {
  CodePlaneBytes(head_dim);  // checks head_dim
  return 8 * size_t(head_dim) + 2 * size_t(kCodePlaneBlocks) * head_dim +
         size_t(kCodePlaneTokens) * head_dim / 2;
}

void EncodeValuePlaneRef(const std::byte* keys, const std::byte* values,
                         KvType type, int head_dim, std::byte* plane) {
  FC_CHECK(keys != nullptr && values != nullptr && plane != nullptr);
  const auto* k = reinterpret_cast<const uint16_t*>(keys);
  const auto* v = reinterpret_cast<const uint16_t*>(values);
  std::memset(plane, 0, ValuePlaneBytes(head_dim));
  float* const low = At(plane, 0);
  float* const scale = At(plane, 4 * size_t(head_dim));
  std::vector<float> inverse(head_dim);
  for (int c = 0; c < head_dim; ++c) {
    const ChannelRange range = FindChannelRange(v, type, head_dim, c);
    low[c] = range.low;
    scale[c] = range.scale;
    inverse[c] = range.inverse;
  }
  std::vector<float> sums(head_dim);
  for (int block = 0; block < kCodePlaneBlocks; ++block) {
    auto* const codes =
        const_cast<uint8_t*>(ValuePlaneCodes(plane, head_dim, block));
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int token = 0; token < kScoreBlockTokens; ++token) {
      const size_t row =
          (size_t(block) * kScoreBlockTokens + token) * head_dim;
      for (int c = 0; c < head_dim; ++c) {
        // Scaled first: a sum of large keys would be infinite.
        sums[c] += KvToFloat(type, k[row + c]) * (1.0f / kScoreBlockTokens);
        const float above = KvToFloat(type, v[row + c]) - low[c];
        const int code = std::min(
            static_cast<int>(above * inverse[c] + 0.5f), kCodeMax);
        codes[ValueCodeByte(token, c)] |=
            static_cast<uint8_t>(code << (ValueCodeIsHigh(token) ? 4 : 0));
      }
    }
    auto* const mean =
        const_cast<uint16_t*>(ValuePlaneMeanKey(plane, head_dim, block));
    for (int c = 0; c < head_dim; ++c) {
      mean[c] = FloatToF16(std::clamp(sums[c], -kF16Max, kF16Max));
    }
  }
}

void DecodeValuePlane(const std::byte* plane, int head_dim, float* values,
                      float* mean_keys) {
  const float* const low = ValuePlaneLow(plane);
  const float* const scale = ValuePlaneScale(plane, head_dim);
  for (int t = 0; t < kCodePlaneTokens; ++t) {
    const int token = t % kScoreBlockTokens;
    const uint8_t* const codes =
        ValuePlaneCodes(plane, head_dim, t / kScoreBlockTokens);
    for (int c = 0; c < head_dim; ++c) {
      const int byte = codes[ValueCodeByte(token, c)];
      const int code = ValueCodeIsHigh(token) ? byte >> 4 : byte & 15;
      values[size_t(t) * head_dim + c] =
          low[c] + scale[c] * static_cast<float>(code);
    }
  }
  for (int block = 0; block < kCodePlaneBlocks; ++block) {
    const uint16_t* const mean = ValuePlaneMeanKey(plane, head_dim, block);
    for (int c = 0; c < head_dim; ++c) {
      mean_keys[size_t(block) * head_dim + c] = F16ToFloat(mean[c]);
    }
  }
}

void ScanValuesRef(const ValueScan& args) {
  CheckArguments(args);
  const int head_dim = args.head_dim;
  std::vector<float> values(size_t(kCodePlaneTokens) * head_dim);
  std::vector<float> keys(values.size());
  std::vector<float> means(size_t(kCodePlaneBlocks) * head_dim);
  DecodeValuePlane(args.plane, head_dim, values.data(), means.data());
  if (args.code_plane != nullptr) {
    DecodeCodePlane(args.code_plane, head_dim, keys.data());
  } else {
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      std::copy_n(means.data() + size_t(t / kScoreBlockTokens) * head_dim,
                  head_dim, keys.data() + size_t(t) * head_dim);
    }
  }
  for (int g = 0; g < args.group; ++g) {
    double mass = 0;
    std::vector<double> key(head_dim), value(head_dim);
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      const int block = t / kScoreBlockTokens;
      if ((args.blocks >> block & 1) == 0) continue;
      const double weight =
          std::exp(double{args.logits[g * args.logit_stride + t]} -
                   args.lse[g]);
      mass += weight;
      for (int c = 0; c < head_dim; ++c) {
        key[c] += weight * keys[size_t(t) * head_dim + c];
        value[c] += weight * values[size_t(t) * head_dim + c];
      }
    }
    args.mass[g] += static_cast<float>(mass);
    for (int c = 0; c < head_dim; ++c) {
      args.keys[size_t(g) * head_dim + c] += static_cast<float>(key[c]);
      args.values[size_t(g) * head_dim + c] += static_cast<float>(value[c]);
    }
  }
}

}  // namespace forecache
