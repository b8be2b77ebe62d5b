// What codes of keys are worth on a real model's keys, and what they cost.
//
// The text runs through the model with exact attention; then each (layer, KV
// head)'s keys are coded, and the queries of the last tokens rank blocks by
// codes and by keys.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "bench/code_recall.h"
#include "bench/harness.h"
#include "bench/key_capture.h"
#include "bench/scan_cases.h"
#include "kernels/isa.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

namespace forecache {
namespace {

constexpr int kTopBlocks = 24;
constexpr int kQuerySpan = 256;
constexpr int kQueryStep = 32;

struct Options {
  std::string text;
  int tokens = 6400;  // 24 segments, and the queries behind them
};

void RecordShares(const std::string& name, const std::vector<double>& shares,
                  Harness* harness) {
  harness->Record({.name = name,
                   .unit = "share",
                   .higher_is_better = true,
                   .samples = shares});
  harness->Note(name + " mean", CodeRecall::Mean(shares));
  harness->Note(name + " worst 5 % begin at",
                CodeRecall::Percentile(shares, 5));
}

absl::Status AddRecall(const Options& options, Harness* harness) {
  std::ifstream file(options.text, std::ios::binary);
  if (!file) {
    return absl::NotFoundError("no text '" + options.text + "': --text FILE");
  }
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  auto tokenizer = LoadTokenizer(harness->model());
  if (!tokenizer.ok()) return tokenizer.status();
  auto model = LoadGgmlModel({.path = harness->model(),
                              .prefill_threads = 1,
                              .prefill_weights = PrefillWeights::kBf16});
  if (!model.ok()) return model.status();
  std::vector<int32_t> tokens = (*tokenizer)->Encode(text, false);
  const size_t wanted = harness->smoke() ? 512 + kQuerySpan : options.tokens;
  if (tokens.size() < wanted) {
    return absl::InvalidArgumentError(
        options.text + " has " + std::to_string(tokens.size()) +
        " tokens, --tokens is " + std::to_string(wanted));
  }
  tokens.resize(wanted);
  const auto capture =
      CaptureKeys(model->get(), tokens, kQuerySpan, kQueryStep);
  if (!capture.ok()) return capture.status();
  harness->Note("blocks", capture->tokens / kScoreBlockTokens);
  harness->Note("chosen blocks", kTopBlocks);
  for (const CodeKind kind : {CodeKind::k4Bit, CodeKind::k2BitRotated}) {
    const CodeRecall recall = MeasureCodeRecall(*capture, kind, kTopBlocks);
    const std::string bits = kind == CodeKind::k4Bit ? "4" : "2";
    RecordShares("code_recall{bits=" + bits + "}", recall.mass_share, harness);
    RecordShares("code_block_recall{bits=" + bits + "}", recall.block_share,
                 harness);
    harness->Note("log-sum-exp error, " + bits + " bits",
                  CodeRecall::Mean(recall.lse_error));
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Harness harness("codes");
  Options options;
  harness.flags().add_option("--text", options.text, "the text to run");
  harness.flags().add_option("--tokens", options.tokens, "its first tokens");
  if (auto code = harness.Parse(argc, argv)) return *code;
  harness.Note("isa", KernelIsa());
  if (const absl::Status status = AddRecall(options, &harness); !status.ok()) {
    std::fprintf(stderr, "codes_bench: %s\n", status.ToString().c_str());
    return 1;
  }
  AddScanCases(harness);
  harness.Run();
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
