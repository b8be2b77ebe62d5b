#include "predictor/conv_net.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "common/crc32c.h"
#include "common/status.h"
#include "predictor/conv_builtin.h"

namespace forecache {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr int kTaps = 9;

size_t Parameters(const ConvFileHeader& header) {
  const size_t one = header.channels1, two = header.channels2;
  return kTaps * one + one + kTaps * one * two + two + two + 1;
}

bool IsChannels(uint32_t channels) {
  return channels >= 4 && channels <= kConvChannelsMax && channels % 4 == 0;
}

absl::Status CheckHeader(const ConvFileHeader& header) {
  if (header.magic != kConvMagic) {
    return absl::InvalidArgumentError("not a file of conv weights");
  }
  if (header.version != kConvVersion) {
    return absl::UnimplementedError(
        absl::StrCat("conv weights of version ", header.version,
                     ", but this program reads ", kConvVersion));
  }
  if (header.window < kConvWindowMin || header.window > kConvWindowMax ||
      !IsChannels(header.channels1) || !IsChannels(header.channels2) ||
      header.scale > 1 || header.row_kind > 1 || header.unseen > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "conv weights for ", header.window, " rows, ", header.channels1,
        " and ", header.channels2, " channels, scale ", header.scale,
        ", rows of kind ", header.row_kind, " and ", header.unseen,
        ", but may be ", kConvWindowMin, " to ", kConvWindowMax,
        " rows and 4 to ", kConvChannelsMax, " channels by fours"));
  }
  return absl::OkStatus();
}

// Takes the next `count` floats.
std::vector<float> Take(size_t count, const std::byte** at) {
  std::vector<float> floats(count);
  std::memcpy(floats.data(), *at, count * sizeof(float));
  *at += count * sizeof(float);
  return floats;
}

bool AllFinite(const std::vector<float>& floats) {
  return std::all_of(floats.begin(), floats.end(),
                     [](float x) { return std::isfinite(x); });
}

}  // namespace

absl::StatusOr<ConvNet> ParseConvNet(ByteView file) {
  ConvFileHeader header;
  uint32_t crc;
  if (file.size() < sizeof(header) + sizeof(crc)) {
    return absl::DataLossError(
        absl::StrCat("conv weights are truncated: ", file.size(), " bytes"));
  }
  std::memcpy(&header, file.data(), sizeof(header));
  FC_RETURN_IF_ERROR(CheckHeader(header));
  const size_t size =
      sizeof(header) + Parameters(header) * sizeof(float) + sizeof(crc);
  if (file.size() != size) {
    return absl::DataLossError(absl::StrCat(
        "conv weights are ", file.size() < size ? "truncated" : "too long",
        ": ", file.size(), " bytes of ", size));
  }
  std::memcpy(&crc, file.data() + size - sizeof(crc), sizeof(crc));
  if (crc != Crc32c(file.first(size - sizeof(crc)))) {
    return absl::DataLossError("conv weights are corrupt: wrong checksum");
  }
  ConvNet net{.window = static_cast<int>(header.window),
              .channels1 = static_cast<int>(header.channels1),
              .channels2 = static_cast<int>(header.channels2),
              .scale = static_cast<ConvScale>(header.scale),
              .row_kind = static_cast<RowKind>(header.row_kind),
              .unseen = static_cast<RowRing::Unseen>(header.unseen)};
  const size_t one = header.channels1, two = header.channels2;
  const std::byte* at = file.data() + sizeof(header);
  net.conv1 = Take(kTaps * one, &at);
  net.bias1 = Take(one, &at);
  net.conv2 = Take(kTaps * one * two, &at);
  net.bias2 = Take(two, &at);
  net.conv3 = Take(two, &at);
  net.bias3 = Take(1, &at)[0];
  if (!AllFinite(net.conv1) || !AllFinite(net.bias1) ||
      !AllFinite(net.conv2) || !AllFinite(net.bias2) ||
      !AllFinite(net.conv3) || !std::isfinite(net.bias3)) {
    return absl::InvalidArgumentError("conv weights are not all finite");
  }
  return net;
}

absl::StatusOr<ConvNet> LoadConvNet(const std::string& path) {
  if (path.empty()) return ParseConvNet(BuiltinConvFile());
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) {
    return absl::NotFoundError(absl::StrCat("no conv weights at ", path));
  }
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  auto net = ParseConvNet(AsBytes(std::span<const char>(bytes)));
  if (!net.ok()) return Annotate(net.status(), path);
  return net;
}

std::vector<std::byte> SerializeConvNet(const ConvNet& net) {
  const ConvFileHeader header{
      .window = static_cast<uint32_t>(net.window),
      .channels1 = static_cast<uint32_t>(net.channels1),
      .channels2 = static_cast<uint32_t>(net.channels2),
      .scale = static_cast<uint32_t>(net.scale),
      .row_kind = static_cast<uint32_t>(net.row_kind),
      .unseen = static_cast<uint32_t>(net.unseen)};
  std::vector<std::byte> file;
  const auto append = [&file](ByteView bytes) {
    file.insert(file.end(), bytes.begin(), bytes.end());
  };
  append(AsBytes(header));
  for (const auto* floats :
       {&net.conv1, &net.bias1, &net.conv2, &net.bias2, &net.conv3}) {
    append(AsBytes(std::span<const float>(*floats)));
  }
  append(AsBytes(net.bias3));
  const uint32_t crc = Crc32c(file);
  append(AsBytes(crc));
  return file;
}

}  // namespace forecache
