#include "bench/wire_corrections.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr int kMissingBlocks = 4;  // pushed for each KV head
constexpr int kLoadWindow = 8;     // fetches of a full push under way
// Of every two blocks one is resident.
constexpr uint64_t kResidentWord = 0x5555555555555555;

// Corrections of one context, one after the other.
//
// Threads: the worker's.
class Corrector : private CorrectSink {
 public:
  Corrector(WireWorker* worker, const WireLength& length, bool with_tail)
      : worker_(worker), length_(length), with_tail_(with_tail) {
    const KvGeometry& geometry = length.context->session.geometry;
    resident_.assign(size_t{1} * geometry.kv_heads *
                         wire::ResidentWords(length.blocks),
                     kResidentWord);
    slot_count_.assign(geometry.kv_heads, kMissingBlocks);
  }

  absl::StatusOr<Nanos> TimeOne(int layer);

 private:
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    worker_->sink()->OnBlock(layer, entry, k, v);
  }
  void OnSlotReturned(int, int kv_head, const wire::OfferedSlot&,
                      const absl::Status& why) override {
    worker_->Fail(why.ok() ? absl::InternalError(absl::StrCat(
                                 "a slot of KV head ", kv_head, " stays empty"))
                           : why);
  }
  void OnCorrected(const CorrectResult&) override {}

  WireWorker* const worker_;
  const WireLength length_;
  const bool with_tail_;
  std::vector<uint64_t> resident_;
  std::vector<uint32_t> slot_count_;
  uint32_t next_slot_ = 0;
};

absl::StatusOr<Nanos> Corrector::TimeOne(int layer) {
  const KvGeometry& geometry = length_.context->session.geometry;
  const std::vector<float> q = RandomQuery(geometry, &worker_->rng());
  std::vector<wire::OfferedSlot> slots(size_t{1} * geometry.kv_heads *
                                       kMissingBlocks);
  for (wire::OfferedSlot& slot : slots) slot = {next_slot_++, 1};
  CorrectRequest request;
  request.layer = layer;
  request.blocks = length_.blocks;
  request.scale = 1.0f / std::sqrt(static_cast<float>(geometry.head_dim));
  request.q = q;
  request.end = length_.blocks;
  request.wants_tail = with_tail_;
  request.resident = resident_;
  request.slot_count = slot_count_;
  request.slots = slots;
  bool ended = false;
  const Nanos start = Clock::Real()->Now();
  FC_RETURN_IF_ERROR(worker_->client()
                         .Correct(length_.context->session, request, this,
                                  [&](const absl::Status& status) {
                                    worker_->Fail(status);
                                    ended = true;
                                  })
                         .status());
  FC_RETURN_IF_ERROR(worker_->RunUntil([&] { return ended; }));
  return Clock::Real()->Now() - start;
}

absl::Status MeasureOne(const WirePath& path, const WireLength& length,
                        const std::string& figure, bool with_tail,
                        int corrections, WireReport* report) {
  Corrector corrector(path.worker.get(), length, with_tail);
  BenchFigure times;
  for (int i = 0; i < corrections; ++i) {
    FC_ASSIGN_OR_RETURN(
        const Nanos took,
        corrector.TimeOne(i % length.context->session.geometry.layers));
    times.samples.push_back(1e-6 * took);
  }
  report->AddTime(absl::StrCat(figure, "_p50_ms/", length.name), "ms",
                  times.Median());
  report->AddTime(absl::StrCat(figure, "_p99_ms/", length.name), "ms",
                  times.Percentile(99));
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureCorrections(const WirePath& path,
                                const WireContexts& contexts,
                                const WireSizes& sizes, WireReport* report) {
  const std::string figure = path.name == "shm" ? "correct" : "correct_tcp";
  for (const WireLength& length : WireLengths(contexts, sizes)) {
    FC_RETURN_IF_ERROR(
        MeasureOne(path, length, figure, false, sizes.corrections, report));
    FC_RETURN_IF_ERROR(MeasureOne(path, length, absl::StrCat(figure, "_tail"),
                                  true, sizes.corrections, report));
    FetchStream load(path.worker.get(), length.context,
                     BlocksOfOnePush(length.context->session.geometry),
                     kLoadWindow);
    load.Start();
    const absl::Status loaded =
        MeasureOne(path, length, absl::StrCat(figure, "_loaded"), false,
                   sizes.corrections, report);
    load.Stop();
    FC_RETURN_IF_ERROR(loaded);
    FC_RETURN_IF_ERROR(path.worker->RunUntil([&] { return load.idle(); }));
  }
  return absl::OkStatus();
}

}  // namespace forecache
