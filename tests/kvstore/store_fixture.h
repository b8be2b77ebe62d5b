// A StoreCore with a clock of its own, and what tests do with it.
#ifndef FORECACHE_TESTS_KVSTORE_STORE_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_STORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/check.h"
#include "common/metrics.h"
#include "common/testing/fake_clock.h"
#include "kvstore/store.h"
#include "tests/kvstore/context.h"

namespace forecache {

class StoreFixture : public ::testing::Test {
 protected:
  StoreFixture() { MakeStore(size_t{16} << 20); }

  // Arena bytes of a sealed segment.
  static size_t SealedBytes() {
    auto pages = [](size_t bytes) { return (bytes + 4095) / 4096 * 4096; };
    return pages(Segment::OpenBytes(kTestGeometry)) +
           pages(Segment::CodeBytes(kTestGeometry, kCodeKindDefault));
  }

  void MakeStore(size_t dram_bytes,
                 ProbeSource source = ProbeSource::kCodes,
                 CodeKind code_kind = kCodeKindDefault) {
    StoreOptions options;
    options.dram_bytes = dram_bytes;
    options.probe_source = source;
    options.code_kind = code_kind;
    options.sessions_max = 8;
    options.tenant_secret = TenantSecret::FromPhrase("test");
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(options, &clock_, metrics_.get());
  }

  NewSession Open(const TestContext& context) {
    auto opened = store_->OpenSession(TestModel(context.geometry()),
                                      context.tokens(), "test");
    FC_CHECK_OK(opened.status());
    return *opened;
  }

  absl::Status Put(uint64_t session, const TestContext& context, int layer,
                   int first, int count) {
    auto snapshot = store_->Snapshot(session);
    if (!snapshot.ok()) return snapshot.status();
    return store_->PutBlocks(*std::move(snapshot), layer, first, count,
                             context.PutPayload(layer, first, count));
  }

  // Puts one segment in all layers.
  absl::Status PutSegment(uint64_t session, const TestContext& context,
                          int segment) {
    for (int layer = 0; layer < context.geometry().layers; ++layer) {
      absl::Status status = Put(session, context, layer,
                                segment * kSegmentBlocks, kSegmentBlocks);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status PutAndSeal(uint64_t session, const TestContext& context,
                          int segment) {
    absl::Status status = PutSegment(session, context, segment);
    if (!status.ok()) return status;
    return store_
        ->SealSegment(session, segment, context.SegmentTokens(segment))
        .status();
  }

  // Opens a session, puts and seals all, closes.
  void Fill(const TestContext& context) {
    NewSession session = Open(context);
    for (int i = session.cached_tokens / kSegmentTokens;
         i < context.blocks() / kSegmentBlocks; ++i) {
      ASSERT_EQ(PutAndSeal(session.id, context, i), absl::OkStatus());
    }
    store_->CloseSession(session.id);
  }

  int Cached(const TestContext& context) {
    return *store_->LookupPrefix(TestModel(context.geometry()),
                                 context.tokens());
  }

  FakeClock clock_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<StoreCore> store_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_STORE_FIXTURE_H_
