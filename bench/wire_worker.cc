#include "bench/wire_worker.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/half.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr size_t kSlotsBytes = size_t{32} << 20;
constexpr size_t kSlotBytes = size_t{8} << 10;
constexpr size_t kRandomValues = size_t{2} << 20;
// Where a part may start among the random values: aligned like a plane.
constexpr size_t kValuesStep = 32;
constexpr Nanos kWireTimeout = 60 * kSecond;
constexpr int kPutsUnderWay = 4;
constexpr int kVocabulary = 50000;

}  // namespace

size_t BlocksOfOnePush(const KvGeometry& geometry) {
  return kPushBytesMax / (sizeof(wire::PushEntry) + geometry.BlockBytes());
}

WireWorker::WireWorker(const std::vector<std::string>& stores)
    : sessions_({.epoch = 1, .names = stores}),
      rng_(7),
      slots_(kSlotsBytes),
      control_(stores, &sessions_) {}

absl::StatusOr<std::unique_ptr<WireWorker>> WireWorker::Connect(
    const std::vector<std::string>& stores, const UcxOptions& options) {
  std::unique_ptr<WireWorker> worker(new WireWorker(stores));
  FC_ASSIGN_OR_RETURN(worker->transport_, OpenUcxTransport(options));
  worker->client_ = std::make_unique<StoreGroup>(
      worker->transport_.get(), Clock::Real(), &worker->sessions_);
  // A store that is lost ends the benchmark, so nobody asks for it again.
  FC_RETURN_IF_ERROR(worker->control_.Start(
      "wire_bench",
      {.connect =
           [self = worker.get()](int member, const StoreAddress& address) {
             return self->ConnectStore(member, address);
           },
       .drop = [](int, const absl::Status&) {},
       .set_on_lost = [](const std::function<void(int)>&) {}}));
  return worker;
}

absl::Status WireWorker::ConnectStore(int member,
                                      const StoreAddress& address) {
  bool connected = false;
  FC_RETURN_IF_ERROR(
      client_->Connect(member, address, [&](const absl::Status& status) {
        Fail(status);
        connected = true;
      }));
  return RunUntil([&] { return connected; });
}

absl::StatusOr<WireContext> WireWorker::Fill(const KvGeometry& geometry,
                                             int tokens) {
  if (values_.empty()) {
    values_.resize(kRandomValues);
    for (uint16_t& value : values_) {
      value = FloatToKv(geometry.type, rng_.Normal());
    }
  }
  // A token more, so that all of the context is a prefix.
  std::vector<int32_t> ids(tokens + 1);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng_.Below(kVocabulary));
  const ModelFingerprint model{"00ff", "bench", geometry, 10000.0f};
  FC_ASSIGN_OR_RETURN(const OpenedSession opened,
                      control_.OpenSession(model, ids, "wire_bench"));
  const WireContext context{opened.handle, tokens / kBlockTokens};
  FC_RETURN_IF_ERROR(PutAll(context));
  for (int segment = 0; segment < tokens / kSegmentTokens; ++segment) {
    FC_RETURN_IF_ERROR(control_.SealSegment(
        context.session, segment,
        std::span(ids).first(size_t{1} * (segment + 1) * kSegmentTokens)));
  }
  return context;
}

absl::Status WireWorker::PutAll(const WireContext& context) {
  int under_way = 0;
  for (int first = 0; first < context.blocks; first += kSegmentBlocks) {
    for (int layer = 0; layer < context.session.geometry.layers; ++layer) {
      FC_RETURN_IF_ERROR(
          RunUntil([&] { return under_way < kPutsUnderWay; }));
      ++under_way;
      FC_RETURN_IF_ERROR(client_->PutBlocks(
          context.session, layer, first, kSegmentBlocks,
          RandomPayload(context.session.geometry),
          [this, &under_way](const absl::Status& status) {
            Fail(status);
            --under_way;
          }));
    }
  }
  return RunUntil([&] { return under_way == 0; });
}

std::vector<std::byte> WireWorker::RandomPayload(const KvGeometry& geometry) {
  const size_t elements = geometry.PartBytes() / sizeof(uint16_t);
  const auto part = [&](int, int) {
    const size_t starts = (values_.size() - elements) / kValuesStep;
    return reinterpret_cast<const std::byte*>(
        &values_[rng_.Below(starts) * kValuesStep]);
  };
  return PackPutPayload(geometry, kSegmentBlocks, part, part);
}

std::vector<wire::FetchEntry> WireWorker::RandomBlocks(
    const WireContext& context, size_t count) {
  std::vector<wire::FetchEntry> entries(count);
  for (wire::FetchEntry& entry : entries) {
    entry.block = static_cast<uint32_t>(rng_.Below(context.blocks));
    entry.kv_head = static_cast<uint16_t>(
        rng_.Below(context.session.geometry.kv_heads));
    entry.slot = next_slot_++;
  }
  // As a prefetcher sends them: what lies together, together.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.block < b.block;
  });
  return entries;
}

absl::Status WireWorker::StartFetch(
    const WireContext& context, int layer,
    const std::vector<wire::FetchEntry>& entries, std::function<void()> done) {
  return client_
      ->Fetch(context.session, layer, entries, this,
              [this, done = std::move(done)](const absl::Status& status) {
                Fail(status);
                done();
              })
      .status();
}

absl::StatusOr<Nanos> WireWorker::TimeFetch(
    const WireContext& context, int layer,
    const std::vector<wire::FetchEntry>& entries) {
  bool ended = false;
  const Nanos start = Clock::Real()->Now();
  FC_RETURN_IF_ERROR(
      StartFetch(context, layer, entries, [&ended] { ended = true; }));
  FC_RETURN_IF_ERROR(RunUntil([&ended] { return ended; }));
  return Clock::Real()->Now() - start;
}

absl::Status WireWorker::RunUntil(const std::function<bool()>& done) {
  const Nanos deadline = Clock::Real()->Now() + kWireTimeout;
  while (!done() && failure_.ok()) {
    if (client_->Progress() > 0) continue;
    if (Clock::Real()->Now() > deadline) {
      return absl::DeadlineExceededError("the store is silent");
    }
  }
  return failure_;
}

void WireWorker::OnBlock(int, const wire::PushEntry& entry, ByteView k,
                         ByteView v) {
  // Blocks of the bench are at most a slot: see kSlotBytes.
  std::byte* slot =
      slots_.data() + (entry.slot % (kSlotsBytes / kSlotBytes)) * kSlotBytes;
  std::memcpy(slot, k.data(), k.size());
  std::memcpy(slot + k.size(), v.data(), v.size());
}

void WireWorker::OnBlockFailed(int layer, const wire::FetchEntry& entry,
                               const absl::Status& why) {
  Fail(Annotate(why, absl::StrCat("layer ", layer, ", KV head ", entry.kv_head,
                                  ", block ", entry.block)));
}

void FetchStream::Start() {
  for (int i = 0; i < window_; ++i) Next();
}

void FetchStream::Next() {
  const KvGeometry& geometry = context_->session.geometry;
  ++under_way_;
  const absl::Status status = worker_->StartFetch(
      *context_, static_cast<int>(worker_->rng().Below(geometry.layers)),
      worker_->RandomBlocks(*context_, blocks_per_fetch_), [this] {
        --under_way_;
        bytes_ +=
            blocks_per_fetch_ * context_->session.geometry.BlockBytes();
        if (!stopped_) Next();
      });
  if (status.ok()) return;
  --under_way_;
  worker_->Fail(status);
}

absl::StatusOr<double> StreamRate(const std::vector<FetchStream*>& streams,
                                  double seconds) {
  const Nanos start = Clock::Real()->Now();
  const Nanos end = start + static_cast<Nanos>(seconds * kSecond);
  for (FetchStream* stream : streams) stream->Start();
  bool idle = false;
  while (!idle) {
    idle = true;
    const bool over = Clock::Real()->Now() >= end;
    for (FetchStream* stream : streams) {
      if (over) stream->Stop();
      stream->worker()->client().Progress();
      // Only what failed: it does not wait.
      FC_RETURN_IF_ERROR(stream->worker()->RunUntil([] { return true; }));
      idle = idle && stream->idle();
    }
  }
  double bytes = 0;
  for (FetchStream* stream : streams) bytes += stream->bytes();
  return bytes / (1e-9 * (Clock::Real()->Now() - start));
}

}  // namespace forecache
