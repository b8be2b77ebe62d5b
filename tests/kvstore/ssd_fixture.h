// A StoreCore over a disk in memory that outlives it.
#ifndef FORECACHE_TESTS_KVSTORE_SSD_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_SSD_FIXTURE_H_

#include <memory>
#include <utility>
#include <vector>

#include "kvstore/ssd/testing/memory_disk.h"
#include "tests/kvstore/store_fixture.h"

namespace forecache {

// Nothing happens in the background: RunAll does what there is to do.
class SsdStoreFixture : public StoreFixture {
 protected:
  static constexpr size_t kExtentBytes = size_t{64} << 10;

  SsdStoreFixture() { Start(); }

  static StoreOptions Options() {
    StoreOptions options;
    options.dram_bytes = size_t{16} << 20;
    options.sessions_max = 8;
    options.tenant_secret = TenantSecret::FromPhrase("test");
    options.ssd.tier.capacity_bytes = size_t{16} << 20;
    options.ssd.tier.extent_bytes = kExtentBytes;
    options.ssd.scrub_bytes_per_second = 0;
    options.ssd.background = false;
    return options;
  }

  absl::Status TryStart(const StoreOptions& options) {
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    auto created = StoreCore::Create(options, &clock_, metrics_.get(),
                                     NewMemoryDisk(files_));
    if (created.ok()) store_ = *std::move(created);
    return created.status();
  }
  // What a new process does.
  void Start(const StoreOptions& options = Options()) {
    ASSERT_EQ(TryStart(options), absl::OkStatus());
  }

  void RunAll() {
    while (store_->RunSsd()) {
    }
  }

  // Opens a session over `context`, fetches all that is cached, compares it:
  // wrong bytes fail the test.  Returns how many tokens were cached, and came;
  // less than 0: minus the blocks that were refused.
  int ReadBack(const TestContext& context) {
    NewSession opened = Open(context);
    SessionSnapshot session = *store_->Snapshot(opened.id);
    const int blocks = opened.cached_tokens / kBlockTokens;
    Gatherer gatherer;
    std::vector<std::byte> payload(kPushBytesMax);
    int refused = 0;
    for (int layer = 0; layer < context.geometry().layers; ++layer) {
      std::vector<wire::FetchEntry> entries =
          AllEntries(context.geometry(), blocks);
      for (wire::FetchEntry& entry : entries) entry.layer = layer;
      for (size_t next = 0; next < entries.size();) {
        PackedPush push = store_->Gather(
            session, std::span(entries).subspan(next), &gatherer, payload);
        refused += Refused(context, layer, push, payload);
        next += push.entries;
      }
    }
    store_->CloseSession(opened.id);
    return refused == 0 ? opened.cached_tokens : -refused;
  }

  // Blocks of a push that did not come.
  static int Refused(const TestContext& context, int layer,
                     const PackedPush& push, ByteView payload) {
    const size_t part = context.geometry().PartBytes();
    int refused = 0;
    size_t at = push.table_bytes;
    for (size_t i = 0; i < push.entries; ++i) {
      wire::PushEntry entry;
      std::memcpy(&entry, payload.data() + i * sizeof(entry), sizeof(entry));
      if (entry.status != static_cast<uint16_t>(wire::BlockStatus::kOk)) {
        ++refused;
        continue;
      }
      for (bool value : {false, true}) {
        EXPECT_TRUE(std::ranges::equal(
            payload.subspan(at, part),
            context.Part(layer, entry.kv_head, entry.block, value)))
            << "WRONG BYTES: layer " << layer << ", block " << entry.block;
        at += part;
      }
    }
    return refused;
  }

  std::shared_ptr<MemoryFiles> files_ = std::make_shared<MemoryFiles>();
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_SSD_FIXTURE_H_
