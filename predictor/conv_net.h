// The network of the policy `conv`, and the file that its weights come in.
//
// It looks at the last `window` rows of one (layer, KV head) as at a picture,
// rows by blocks: a 3x3 convolution, ReLU, a 3x3 convolution, ReLU, the mean
// over the rows, and one weight a channel give each block's score at the next
// token.  Convolutions pad with zeros on all sides.  (arXiv 2502.04077 has 64
// rows and 16 and 32 channels.)
//
// The file, little-endian: ConvFileHeader; f32 conv1 [channels1][3][3], its
// bias [channels1], conv2 [channels2][channels1][3][3], its bias [channels2],
// conv3 [channels2], its bias [1]; CRC32C of everything before, u32.
// Of a 3x3 kernel, the first index is time, oldest first.
#ifndef FORECACHE_PREDICTOR_CONV_NET_H_
#define FORECACHE_PREDICTOR_CONV_NET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "predictor/predictor.h"
#include "predictor/row_ring.h"

namespace forecache {

inline constexpr uint32_t kConvMagic = 0x56434346;  // "FCCV"
inline constexpr uint32_t kConvVersion = 1;
inline constexpr int kConvWindowMin = 8;
inline constexpr int kConvWindowMax = 64;
inline constexpr int kConvChannelsMax = 64;  // and a multiple of 4

// What the network sees of a score, and answers with.
enum class ConvScale : uint32_t {
  kLinear = 0,     // the score itself
  kLogarithm = 1,  // its code (history.h) over the code of 1: about
                   // 1 + log2(score) / 30
};

struct ConvFileHeader {
  uint32_t magic = kConvMagic;
  uint32_t version = kConvVersion;
  uint32_t window = 0;
  uint32_t channels1 = 0;
  uint32_t channels2 = 0;
  uint32_t scale = 0;  // ConvScale
  uint32_t row_kind = 0;  // that it was trained on, RowKind: for people
  uint32_t unseen = 0;  // RowRing::Unseen: what a row says of such blocks
};
static_assert(sizeof(ConvFileHeader) == 32);

struct ConvNet {
  int window = 0;
  int channels1 = 0;
  int channels2 = 0;
  ConvScale scale = ConvScale::kLinear;
  RowKind row_kind = RowKind::kMax;
  RowRing::Unseen unseen = RowRing::Unseen::kZero;
  std::vector<float> conv1, bias1, conv2, bias2, conv3;
  float bias3 = 0;
};

// kDataLoss: truncated, too long, or its checksum is wrong; kInvalidArgument:
// no such file format, or sizes that this code does not run; kUnimplemented:
// another version.  The message says which.
absl::StatusOr<ConvNet> ParseConvNet(ByteView file);
// kNotFound as well.  "" is the network that this binary carries.
absl::StatusOr<ConvNet> LoadConvNet(const std::string& path);

// The file of `net`.
std::vector<std::byte> SerializeConvNet(const ConvNet& net);

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_CONV_NET_H_
