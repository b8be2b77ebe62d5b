// The specification of rotated code planes and of scans: scalar.
#include "kernels/code_scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/code_plane.h"
#include "kernels/rotation.h"

namespace forecache {
namespace {

constexpr float kNormMax = 65504.0f;  // of f16

// Codes and norm of one rotated key.
float EncodeRotated(const float* x, int head_dim, uint8_t* codes) {
  float squares = 0;
  for (int c = 0; c < head_dim; ++c) squares += x[c] * x[c];
  const float step =
      kRotatedStep * std::sqrt(squares / static_cast<float>(head_dim));
  float along = 0;  // x . levels
  for (int c = 0; c < head_dim; ++c) {
    const int code = (x[c] >= -step) + (x[c] >= 0.0f) + (x[c] >= step);
    codes[c] = static_cast<uint8_t>(code);
    along += x[c] * static_cast<float>(2 * code - 3);
  }
  // So that the product of the key with its own codes is right, hence that of
  // a query on average: the nearest point of the levels' line is too short.
  return along > 0 ? std::min(squares / along, kNormMax) : 0.0f;
}

void EncodeRotatedPlane(const std::byte* keys, KvType type, int head_dim,
                        std::byte* plane) {
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(keys);
  std::memset(plane, 0, CodePlaneBytes(CodeKind::k2BitRotated, head_dim));
  float* mean = const_cast<float*>(RotatedPlaneMean(plane));
  uint16_t* norms = const_cast<uint16_t*>(RotatedPlaneNorms(plane, head_dim));
  uint8_t* to = const_cast<uint8_t*>(RotatedPlaneCodes(plane, head_dim));
  for (int c = 0; c < head_dim; ++c) {
    float sum = 0;
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      // Scaled first: a sum of large keys would be infinite.
      sum += KvToFloat(type, bits[size_t(t) * head_dim + c]) *
             (1.0f / kCodePlaneTokens);
    }
    mean[c] = sum;
  }
  std::vector<float> x(head_dim);
  std::vector<uint8_t> codes(head_dim);
  for (int t = 0; t < kCodePlaneTokens; ++t) {
    for (int c = 0; c < head_dim; ++c) {
      x[c] = KvToFloat(type, bits[size_t(t) * head_dim + c]) - mean[c];
    }
    RotateVectors<1>(x.data(), head_dim);
    norms[t] = FloatToF16(EncodeRotated(x.data(), head_dim, codes.data()));
    for (int c = 0; c < head_dim; ++c) {
      to[RotatedCodeOffset(t, c, head_dim) + c % 4] |=
          codes[c] << c % kRotatedRunChannels / 4 * 2;
    }
  }
}

void DecodeRotatedPlane(const std::byte* plane, int head_dim, float* keys) {
  const float* mean = RotatedPlaneMean(plane);
  const uint16_t* norms = RotatedPlaneNorms(plane, head_dim);
  const uint8_t* codes = RotatedPlaneCodes(plane, head_dim);
  for (int t = 0; t < kCodePlaneTokens; ++t) {
    float* key = keys + size_t(t) * head_dim;
    for (int c = 0; c < head_dim; ++c) {
      const uint8_t byte = codes[RotatedCodeOffset(t, c, head_dim) + c % 4];
      const int code = byte >> c % kRotatedRunChannels / 4 * 2 & 3;
      key[c] = F16ToFloat(norms[t]) * static_cast<float>(2 * code - 3);
    }
    HadamardVectors<1>(key, head_dim);
    FlipSigns<1>(key, head_dim);
    for (int c = 0; c < head_dim; ++c) key[c] += mean[c];
  }
}

}  // namespace

void EncodeCodePlaneRef(CodeKind kind, const std::byte* keys, KvType type,
                        int head_dim, std::byte* code_plane) {
  FC_CHECK(keys != nullptr && code_plane != nullptr);
  if (kind == CodeKind::k4Bit) {
    EncodeCodePlaneRef(keys, type, head_dim, code_plane);
  } else {
    EncodeRotatedPlane(keys, type, head_dim, code_plane);
  }
}

void DecodeCodePlane(CodeKind kind, const std::byte* code_plane, int head_dim,
                     float* keys) {
  if (kind == CodeKind::k4Bit) {
    DecodeCodePlane(code_plane, head_dim, keys);
  } else {
    DecodeRotatedPlane(code_plane, head_dim, keys);
  }
}

namespace {

// What the noise of codes takes off a logit: half its variance.
double NoiseOf(const CodeScan& args, int plane, int group, int token) {
  if (args.kind != CodeKind::k2BitRotated) return 0;
  const double norm = F16ToFloat(
      RotatedPlaneNorms(args.planes[plane], args.head_dim)[token]);
  double squares = 0;
  for (int c = 0; c < args.head_dim; ++c) {
    const double q = args.q[size_t(group) * args.head_dim + c];
    squares += q * q;
  }
  return kRotatedNoise / 2 * squares * std::pow(norm * args.scale, 2);
}

}  // namespace

void ScanCodesRef(const CodeScan& args) {
  CheckArguments(args);
  const int head_dim = args.head_dim;
  std::vector<float> keys(size_t(kCodePlaneTokens) * head_dim);
  std::vector<std::vector<double>> logits(args.group);
  for (int p = 0; p < args.plane_count; ++p) {
    DecodeCodePlane(args.kind, args.planes[p], head_dim, keys.data());
    for (int g = 0; g < args.group; ++g) {
      float* block_max =
          args.block_max + g * args.row_stride + size_t(p) * kCodePlaneBlocks;
      for (int t = 0; t < kCodePlaneTokens; ++t) {
        double dot = 0;
        for (int c = 0; c < head_dim; ++c) {
          dot += double{args.q[size_t(g) * head_dim + c]} *
                 keys[size_t(t) * head_dim + c];
        }
        logits[g].push_back(dot * args.scale - NoiseOf(args, p, g, t));
        if (args.logits != nullptr) {
          args.logits[g * args.logit_stride +
                      size_t(p) * kCodePlaneTokens + t] =
              static_cast<float>(logits[g].back());
        }
        float& most = block_max[t / kScoreBlockTokens];
        const float logit = static_cast<float>(logits[g].back());
        most = t % kScoreBlockTokens == 0 ? logit : std::max(most, logit);
      }
    }
  }
  if (args.lse == nullptr) return;
  for (int g = 0; g < args.group; ++g) {
    args.lse[g] = -std::numeric_limits<float>::infinity();
    if (logits[g].empty()) continue;
    const double top = *std::max_element(logits[g].begin(), logits[g].end());
    double sum = 0;
    for (double logit : logits[g]) sum += std::exp(logit - top);
    args.lse[g] = static_cast<float>(top + std::log(sum));
  }
}

}  // namespace forecache
