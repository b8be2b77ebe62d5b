#include "bench/wire_tokens.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr int kModelLayers = 32;
constexpr int kLayersUnderWay = 4;  // as a worker that looks ahead
// Blocks of each (layer, KV head) that are resident: 2,048 tokens, a sixteenth
// of 32k.
constexpr size_t kBudgetBlocks = 128;
// How much of a query is the last token's.
constexpr float kDrift = 0.995f;
// All of a score's bits but the sign: scores are negative, so the smallest is
// the best.
constexpr uint32_t kMagnitude = 0x7fff;

}  // namespace

TokenRounds::TokenRounds(WireWorker* worker, const WireContext* context,
                         int blocks)
    : worker_(worker),
      context_(context),
      blocks_(blocks),
      budget_(std::min<size_t>(kBudgetBlocks, blocks / 2)),
      layers_(kModelLayers),
      ranking_(blocks) {
  const KvGeometry& geometry = context->session.geometry;
  for (Layer& layer : layers_) {
    layer.q = RandomQuery(geometry, &worker->rng());
    layer.resident.resize(size_t{1} * geometry.kv_heads * blocks);
  }
}

void TokenRounds::Drift() {
  const float noise = std::sqrt(1 - kDrift * kDrift);
  for (Layer& layer : layers_) {
    for (float& value : layer.q) {
      value = kDrift * value + noise * worker_->rng().Normal();
    }
  }
}

absl::StatusOr<TokenCost> TokenRounds::Next() {
  Drift();
  cost_ = {};
  // Other cases ran meanwhile: a group takes the pause for the stores' silence
  // unless it looks at them before they owe anything.
  worker_->client().Progress();
  const DataClientCounters before = worker_->client().counters();
  const uint64_t partial = worker_->client().group_counters().probes_partial;
  const Nanos start = Clock::Real()->Now();
  next_layer_ = 0;
  for (int i = 0; i < kLayersUnderWay; ++i) Probe();
  FC_RETURN_IF_ERROR(worker_->RunUntil([this] { return under_way_ == 0; }));
  cost_.time = Clock::Real()->Now() - start;
  const DataClientCounters& after = worker_->client().counters();
  cost_.bytes = after.wire_bytes_sent - before.wire_bytes_sent +
                after.wire_bytes_received - before.wire_bytes_received;
  cost_.partial =
      worker_->client().group_counters().probes_partial - partial;
  return cost_;
}

void TokenRounds::Probe() {
  if (next_layer_ == kModelLayers) return;
  const int layer = next_layer_++;
  const KvGeometry& geometry = context_->session.geometry;
  const float scale = 1.0f / std::sqrt(static_cast<float>(geometry.head_dim));
  ++under_way_;
  cost_.messages += 2 * worker_->client().members();
  const absl::Status status = worker_->client().Probe(
      context_->session, layer % geometry.layers, blocks_, scale,
      layers_[layer].q,
      [this, layer](const absl::StatusOr<ProbeResult>& result) {
        --under_way_;
        worker_->Fail(result.status());
        Probe();
        if (result.ok()) Choose(layer, *result);
      }).status();
  if (status.ok()) return;
  --under_way_;
  worker_->Fail(status);
}

void TokenRounds::Choose(int layer, const ProbeResult& result) {
  const KvGeometry& geometry = context_->session.geometry;
  std::vector<wire::FetchEntry> missing;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    ChooseHead(result, head, &layers_[layer], &missing);
  }
  if (missing.empty()) return;
  // Of each store that has some: about as many as if they were one.
  const size_t push = BlocksOfOnePush(geometry);
  const size_t stores = worker_->client().members();
  const size_t pushes = (missing.size() + push - 1) / push;
  cost_.misses += missing.size();
  cost_.messages += stores + std::max(stores, pushes);
  ++under_way_;
  const absl::Status status =
      worker_->StartFetch(*context_, layer % geometry.layers, missing,
                          [this] { --under_way_; });
  if (status.ok()) return;
  --under_way_;
  worker_->Fail(status);
}

void TokenRounds::ChooseHead(const ProbeResult& result, int kv_head,
                             Layer* layer,
                             std::vector<wire::FetchEntry>* missing) {
  const int group = context_->session.geometry.group;
  const uint16_t* rows =
      result.log_probability.data() + size_t{1} * kv_head * group * blocks_;
  for (int block = 0; block < blocks_; ++block) {
    uint32_t best = kMagnitude;
    for (int head = 0; head < group; ++head) {
      best = std::min(best, rows[head * blocks_ + block] & kMagnitude);
    }
    ranking_[block] = best << 16 | static_cast<uint32_t>(block);
  }
  std::nth_element(ranking_.begin(), ranking_.begin() + budget_,
                   ranking_.end());
  // By their places in the context, as a store gathers best.
  for (size_t i = 0; i < budget_; ++i) ranking_[i] &= 0xffff;
  std::sort(ranking_.begin(), ranking_.begin() + budget_);
  const size_t base = size_t{1} * kv_head * blocks_;
  std::vector<bool> chosen(blocks_);
  for (size_t i = 0; i < budget_; ++i) {
    const uint32_t block = ranking_[i];
    chosen[block] = true;
    if (layer->resident[base + block]) continue;
    missing->push_back({block, static_cast<uint16_t>(kv_head), 0, next_slot_++,
                        1});
  }
  std::copy(chosen.begin(), chosen.end(), layer->resident.begin() + base);
}

absl::Status MeasureTokens(const std::string& figure, TokenRounds* rounds,
                           int tokens, WireReport* report) {
  for (int i = 0; i < tokens; ++i) {
    FC_ASSIGN_OR_RETURN(const TokenCost cost, rounds->Next());
    report->AddTime(absl::StrCat("token_ms/", figure), "ms", 1e-6 * cost.time);
    report->AddTime(absl::StrCat("token_mib/", figure), "MiB",
                    static_cast<double>(cost.bytes) / (1 << 20));
    report->AddTime(absl::StrCat("token_messages/", figure), "messages",
                    static_cast<double>(cost.messages));
    report->AddTime(absl::StrCat("token_misses/", figure), "blocks",
                    static_cast<double>(cost.misses));
    report->AddTime(absl::StrCat("token_partial_probes/", figure), "probes",
                    static_cast<double>(cost.partial));
  }
  return absl::OkStatus();
}

}  // namespace forecache
