#include "bench/scan_cases.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "common/check.h"
#include "common/rng.h"
#include "kernels/code_scan.h"
#include "kernels/testing/data.h"
#include "kernels/testing/roofline.h"

namespace forecache {
namespace {

constexpr int kHeadDim = 128;
constexpr int kHeads = 4;
constexpr size_t kPlaneCovered = size_t{2} * kCodePlaneTokens * kHeadDim;
constexpr size_t kCovered = size_t{512} << 20;
constexpr size_t kSmokeCovered = size_t{1} << 20;
// Stays in a second-level cache, codes of four bits and all.
constexpr size_t kCachedCovered = size_t{2} << 20;
// A call scans a part of the planes, the next call the next part.
constexpr int kParts = 32;
constexpr int kCachedParts = 1;
constexpr size_t kHugePage = size_t{2} << 20;

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};

// Threads: one thread at a time.
class ScanPlanes {
 public:
  ScanPlanes(CodeKind kind, size_t covered, int parts) : kind_(kind) {
    const int planes = static_cast<int>(covered / kPlaneCovered);
    plane_bytes_ = (CodePlaneBytes(kind, kHeadDim) + 63) / 64 * 64;
    const size_t bytes =
        (planes * plane_bytes_ + kHugePage - 1) / kHugePage * kHugePage;
    memory_.reset(
        static_cast<std::byte*>(std::aligned_alloc(kHugePage, bytes)));
    FC_CHECK(memory_ != nullptr) << bytes;
    // As the store's arena; refused is as good as not there.
    madvise(memory_.get(), bytes, MADV_HUGEPAGE);
    for (int i = 0; i < planes; ++i) {
      std::byte* plane = memory_.get() + i * plane_bytes_;
      if (i == 0) {
        EncodeCodePlane(kind, keys_.keys.get(), KvType::kBF16, kHeadDim, plane);
      } else {
        std::memcpy(plane, memory_.get(), plane_bytes_);
      }
      order_.push_back(plane);
    }
    Rng rng(planes);
    for (int i = planes - 1; i > 0; --i) {
      std::swap(order_[i], order_[rng.Below(i + 1)]);
    }
    part_ = std::max(planes / parts, 1);
    block_max_.resize(size_t{kHeads} * part_ * kCodePlaneBlocks);
  }

  double part_covered() const {
    return static_cast<double>(part_) * kPlaneCovered;
  }

  void Scan(bool with_lse) {
    CodeScan scan;
    scan.kind = kind_;
    scan.head_dim = kHeadDim;
    scan.group = kHeads;
    scan.planes = NextPart();
    scan.plane_count = part_;
    scan.q = keys_.q.data();
    scan.scale = keys_.scale;
    scan.block_max = block_max_.data();
    scan.row_stride = size_t(part_) * kCodePlaneBlocks;
    scan.lse = with_lse ? lse_ : nullptr;
    ScanCodesCpu(scan);
  }

  void Read() {
    const std::byte* const* planes = NextPart();
    uint64_t sum = 0;
    for (int i = 0; i < part_; ++i) {
      sum += SumWords(reinterpret_cast<const uint64_t*>(planes[i]),
                      plane_bytes_ / 8);
    }
    KeepAlive(sum);
  }

 private:
  const std::byte* const* NextPart() {
    next_ += part_;
    if (next_ + part_ > static_cast<int>(order_.size())) next_ = 0;
    return order_.data() + next_;
  }

  const CodeKind kind_;
  const KeyPlane keys_{{"scan", kHeadDim, KvType::kBF16, kHeads}};
  size_t plane_bytes_ = 0;
  std::unique_ptr<std::byte[], FreeMemory> memory_;
  std::vector<const std::byte*> order_;
  int part_ = 0;
  int next_ = 0;
  std::vector<float> block_max_;
  float lse_[kHeads];
};

}  // namespace

std::string ScanCaseName(int bits, const std::string& variant) {
  return "scan_keys_gbps{bits=" + std::to_string(bits) + variant + "}";
}

void AddScanCases(Harness& harness) {
  const size_t covered = harness.smoke() ? kSmokeCovered : kCovered;
  for (const CodeKind kind : {CodeKind::k4Bit, CodeKind::k2BitRotated}) {
    const int bits = kind == CodeKind::k4Bit ? 4 : 2;
    auto planes = std::make_shared<ScanPlanes>(kind, covered, kParts);
    const double work = planes->part_covered() * 1e-9;
    const std::string roofline =
        "read of " + std::to_string(bits) + "-bit codes";
    harness.AddRoofline(roofline, "GB/s", work, [planes] { planes->Read(); });
    for (const bool lse : {true, false}) {
      harness.Add({.name = ScanCaseName(bits, lse ? "" : ",lse=no"),
                   .unit = "GB/s",
                   .work = work,
                   .roofline = roofline,
                   .call = [planes, lse] { planes->Scan(lse); }});
    }
    auto cached = std::make_shared<ScanPlanes>(
        kind, std::min(covered, kCachedCovered), kCachedParts);
    harness.Add({.name = ScanCaseName(bits, ",cached=yes"),
                 .unit = "GB/s",
                 .work = cached->part_covered() * 1e-9,
                 .call = [cached] { cached->Scan(/*with_lse=*/true); }});
  }
}

}  // namespace forecache
