#include "bench/wire_cases.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace forecache {
namespace {

// A Llama of 8B parameters, but for its layers.
constexpr KvGeometry Llama8b(int layers) {
  return {.layers = layers,
          .kv_heads = 8,
          .head_dim = 128,
          .group = 4,
          .type = KvType::kBF16};
}

constexpr size_t kGatherBlocks = 128;  // K and V part of each: 256 of 4 KiB
constexpr size_t kGetBytes = size_t{64} << 10;
constexpr size_t kStreamBytes = size_t{8} << 20;  // under way
constexpr double kMilli = 1e-6;  // of a nanosecond

}  // namespace

WireSizes WireSizesFor(bool smoke) {
  if (!smoke) return {};
  return {.gather_tokens = 512,
          .small_tokens = 512,
          .tokens_8k = 512,
          .tokens_32k = 1024,
          .tokens_128k = 2048,
          .layers_32k = 2,
          .layers_128k = 2,
          .gathers = 3,
          .gets = 3,
          .probes = 3,
          .corrections = 3,
          .tokens = 1,
          .stream_seconds = 0.01};
}

absl::StatusOr<WireContexts> FillContexts(const WireSizes& sizes,
                                          WireWorker* worker) {
  FC_ASSIGN_OR_RETURN(WireContexts contexts, FillLongContexts(sizes, worker));
  KvGeometry geometry = Llama8b(1);
  FC_ASSIGN_OR_RETURN(contexts.gather,
                      worker->Fill(geometry, sizes.gather_tokens));
  geometry.head_dim = 64;
  FC_ASSIGN_OR_RETURN(contexts.small,
                      worker->Fill(geometry, sizes.small_tokens));
  return contexts;
}

absl::StatusOr<WireContexts> FillLongContexts(const WireSizes& sizes,
                                              WireWorker* worker) {
  WireContexts contexts;
  FC_ASSIGN_OR_RETURN(
      contexts.upto_32k,
      worker->Fill(Llama8b(sizes.layers_32k), sizes.tokens_32k));
  FC_ASSIGN_OR_RETURN(
      contexts.upto_128k,
      worker->Fill(Llama8b(sizes.layers_128k), sizes.tokens_128k));
  return contexts;
}

std::vector<WireLength> WireLengths(const WireContexts& contexts,
                                    const WireSizes& sizes) {
  return {{"8k", &contexts.upto_32k, sizes.tokens_8k / kBlockTokens},
          {"32k", &contexts.upto_32k, sizes.tokens_32k / kBlockTokens},
          {"128k", &contexts.upto_128k, sizes.tokens_128k / kBlockTokens}};
}

std::vector<float> RandomQuery(const KvGeometry& geometry, Rng* rng) {
  std::vector<float> q(size_t{1} * geometry.kv_heads * geometry.group *
                       geometry.head_dim);
  for (float& value : q) value = rng->Normal();
  return q;
}

absl::Status MeasureGathers(const WirePath& path, const WireContexts& contexts,
                            const WireSizes& sizes, WireReport* report) {
  const WireContext& context = contexts.gather;
  const size_t get_blocks = kGetBytes / context.session.geometry.BlockBytes();
  struct Case {
    const char* figure;
    size_t blocks;
    int calls;
  };
  for (const Case& one : {Case{"gather_256x4k", kGatherBlocks, sizes.gathers},
                          Case{"get_64k", get_blocks, sizes.gets}}) {
    BenchFigure times;
    for (int i = 0; i < one.calls; ++i) {
      const auto entries = path.worker->RandomBlocks(context, one.blocks);
      FC_ASSIGN_OR_RETURN(const Nanos took,
                          path.worker->TimeFetch(context, 0, entries));
      times.samples.push_back(kMilli * took);
    }
    const std::string figure = one.figure;
    if (figure == "get_64k") {
      report->AddTime(absl::StrCat("get_64k_p50_ms/", path.name), "ms",
                      times.Median());
      report->AddTime(absl::StrCat("get_64k_p99_ms/", path.name), "ms",
                      times.Percentile(99));
    } else {
      report->AddTime(absl::StrCat(figure, "_ms/", path.name), "ms",
                      times.Median());
    }
  }
  return absl::OkStatus();
}

absl::Status MeasureFetchRates(const WirePath& path,
                               const WireContexts& contexts,
                               const WireSizes& sizes, WireReport* report) {
  const WireContext& small = contexts.small;
  const WireContext& large = contexts.upto_128k;
  const size_t block = large.session.geometry.BlockBytes();
  struct Case {
    const char* name;
    const WireContext* context;
    size_t blocks;  // of one fetch
  };
  const Case cases[] = {
      {"4k", &small, BlocksOfOnePush(small.session.geometry)},
      {"8k", &large, BlocksOfOnePush(large.session.geometry)},
      {"64k", &large, (size_t{64} << 10) / block},
      {"1m", &large, (size_t{1} << 20) / block}};
  for (const Case& one : cases) {
    const size_t bytes =
        one.blocks * one.context->session.geometry.BlockBytes();
    FetchStream stream(path.worker.get(), one.context, one.blocks,
                       static_cast<int>(kStreamBytes / bytes));
    FC_ASSIGN_OR_RETURN(const double rate,
                        StreamRate({&stream}, sizes.stream_seconds));
    report->AddRate(absl::StrCat("fetch_gbps/", one.name, "/", path.name),
                    "GB/s", 1e-9 * rate);
  }
  return absl::OkStatus();
}

absl::Status MeasureProbes(const WirePath& path, const WireContexts& contexts,
                           const WireSizes& sizes, WireReport* report) {
  WireWorker* worker = path.worker.get();
  for (const WireLength& length : WireLengths(contexts, sizes)) {
    const KvGeometry& geometry = length.context->session.geometry;
    const std::vector<float> q = RandomQuery(geometry, &worker->rng());
    const float scale = 1.0f / std::sqrt(static_cast<float>(geometry.head_dim));
    BenchFigure times;
    for (int i = 0; i < sizes.probes; ++i) {
      bool ended = false;
      const Nanos start = Clock::Real()->Now();
      FC_RETURN_IF_ERROR(worker->client().Probe(
          length.context->session, i % geometry.layers, length.blocks, scale,
          q, [&](const absl::StatusOr<ProbeResult>& result) {
            worker->Fail(result.status());
            ended = true;
          }).status());
      FC_RETURN_IF_ERROR(worker->RunUntil([&] { return ended; }));
      times.samples.push_back(kMilli * (Clock::Real()->Now() - start));
    }
    report->AddTime(absl::StrCat("probe_p50_ms/", length.name, "/", path.name),
                    "ms", times.Median());
  }
  return absl::OkStatus();
}

}  // namespace forecache
