// The GPU's DecodeAttention on all the cases.  Skipped without a GPU.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "common/check.h"
#include "gtest/gtest.h"
#include "kernels/attention.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/testing/data.h"

namespace forecache {
namespace {

template <typename T>
DeviceBuffer OnDevice(const std::vector<T>& items) {
  auto buffer = DeviceBuffer::CopyOf(AsBytes(std::span<const T>(items)));
  FC_CHECK_OK(buffer.status());
  return *std::move(buffer);
}

template <typename T>
std::vector<T> FromDevice(const DeviceBuffer& buffer, size_t count) {
  std::vector<T> items(count);
  FC_CHECK_OK(buffer.CopyOut(std::as_writable_bytes(std::span<T>(items))));
  return items;
}

// A case in device memory.  Slots are copied to an aligned stride: the GPU
// wants the V part at a multiple of 16 bytes.
class DeviceCase {
 public:
  DeviceCase(AttentionData& data, int group) : args_(data.Decode()) {
    const int head_dim = args_.memory.head_dim;
    const size_t part = size_t(kPageTokens) * head_dim * 2;
    std::vector<std::byte> packed;
    int next = 0;
    for (const PageTable& table : data.tables()) {
      std::vector<int32_t> slots;
      for (int page = 0; page < table.pages; ++page) {
        const std::byte* from =
            args_.memory.base +
            size_t(table.slots[page]) * args_.memory.slot_stride;
        packed.insert(packed.end(), from, from + part);
        from += args_.memory.v_offset;
        packed.insert(packed.end(), from, from + part);
        slots.push_back(next++);
      }
      slots_.push_back(OnDevice(slots));
      page_max_.push_back(
          OnDevice(std::vector<float>(size_t(table.pages) * group)));
      tables_.push_back({slots_.back().as<int32_t>(), table.pages,
                         table.last_page_tokens});
      page_max_rows_.push_back(page_max_.back().as<float>());
      pages_ = std::max(pages_, table.pages);
    }
    memory_ = OnDevice(packed);
    device_tables_ = OnDevice(tables_);
    device_page_max_ = OnDevice(page_max_rows_);
    q_ = OnDevice(std::vector<float>(data.q(), data.q() + data.out_size()));
    out_ = OnDevice(std::vector<float>(data.out_size(), 7.0f));
    lse_ = OnDevice(std::vector<float>(data.heads(), 7.0f));
    args_.memory.base = memory_.as<std::byte>();
    args_.memory.slot_stride = 2 * part;
    args_.memory.v_offset = part;
    args_.q = q_.as<float>();
    args_.tables = device_tables_.as<PageTable>();
    args_.out = out_.as<float>();
    args_.lse = lse_.as<float>();
    args_.page_max = device_page_max_.as<float*>();
  }

  const DecodeAttention& args() const { return args_; }
  int pages() const { return pages_; }
  std::vector<float> Out(size_t n) const { return FromDevice<float>(out_, n); }
  std::vector<float> Lse(size_t n) const { return FromDevice<float>(lse_, n); }
  std::vector<float> PageMax(int head, size_t n) const {
    return FromDevice<float>(page_max_[head], n);
  }

 private:
  DecodeAttention args_;
  int pages_ = 0;
  std::vector<PageTable> tables_;
  std::vector<float*> page_max_rows_;
  std::vector<DeviceBuffer> slots_;
  std::vector<DeviceBuffer> page_max_;
  DeviceBuffer memory_, device_tables_, device_page_max_, q_, out_, lse_;
};

class CudaAttentionTest : public testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override {
    const auto count = CudaDeviceCount();
    if (!count.ok()) GTEST_SKIP() << "no GPU: " << count.status().message();
  }

  void ExpectLikeSpecification(AttentionData& want, const DeviceCase& got) {
    DecodeAttentionRef(want.Decode());
    const double logit = 4e-6 + 4e-6 * want.logit_bound();
    const double value = 4 * logit * want.value_bound();
    const std::vector<float> out = got.Out(want.out_size());
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], want.out()[i], value) << i;
    }
    const std::vector<float> lse = got.Lse(want.heads());
    for (int h = 0; h < want.heads(); ++h) {
      if (std::isinf(want.lse()[h])) {
        ASSERT_EQ(lse[h], want.lse()[h]) << h;
      } else {
        ASSERT_NEAR(lse[h], want.lse()[h], 2 * logit) << h;
      }
    }
    for (int h = 0; h < want.kv_heads(); ++h) {
      const std::vector<float>& page_max = want.page_max(h);
      const std::vector<float> got_max = got.PageMax(h, page_max.size());
      for (size_t i = 0; i < page_max.size(); ++i) {
        ASSERT_NEAR(got_max[i], page_max[i], logit) << h << " " << i;
      }
    }
  }
};

TEST_P(CudaAttentionTest, ReferenceMatchesTheSpecification) {
  AttentionData data(GetParam());
  DeviceCase on_device(data, GetParam().group);
  FC_CHECK_OK(DecodeAttentionCudaRef(on_device.args(), {}));
  FC_CHECK_OK(CudaSynchronize());
  ExpectLikeSpecification(data, on_device);
}

TEST_P(CudaAttentionTest, MatchesTheSpecificationForAnySplits) {
  for (int splits : {1, 2, 7}) {
    AttentionData data(GetParam());
    DeviceCase on_device(data, GetParam().group);
    auto workspace = DeviceBuffer::Allocate(CudaWorkspaceBytes(
        data.kv_heads(), GetParam().group, GetParam().head_dim, splits));
    FC_CHECK_OK(workspace.status());
    CudaLaunch launch;
    launch.splits = splits;
    launch.workspace = workspace->as<void>();
    FC_CHECK_OK(DecodeAttentionCuda(on_device.args(), launch));
    FC_CHECK_OK(CudaSynchronize());
    ExpectLikeSpecification(data, on_device);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cuda, CudaAttentionTest, testing::ValuesIn(DecodeCases()),
    [](const testing::TestParamInfo<AttentionCase>& info) {
      return info.param.name;
    });

TEST(CudaLaunchTest, RefusesWhatItCannotRun) {
  DecodeAttention args;
  args.memory.head_dim = 64;
  args.group = 1;
  args.memory.v_offset = 6;
  EXPECT_EQ(DecodeAttentionCuda(args, {}).code(),
            absl::StatusCode::kInvalidArgument);
  args.memory.v_offset = 2048;
  CudaLaunch launch;
  launch.splits = 2;
  EXPECT_EQ(DecodeAttentionCuda(args, launch).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CudaLaunchTest, SplitsFillTheGpuButKeepPagesTogether) {
  EXPECT_EQ(CudaSplits(3, 3, 0, 132), 1);
  EXPECT_EQ(CudaSplits(3, 3, 27, 132), 6);
  EXPECT_EQ(CudaSplits(8, 4, 32768, 132), 33);
  EXPECT_EQ(CudaSplits(400, 4, 32768, 132), 1);
}

}  // namespace
}  // namespace forecache
