// How much of the next token's attention each policy would have kept: plays a
// trace (bench/trace_capture.cc) through the policies, open loop.
//
// For each token and (layer, KV head): of the mass of the blocks that can be
// chosen (no sinks, no recent window), the share in the chosen ones; the mean
// over all but the first tokens.  A policy that wants no probe sees the true
// probabilities of what was attended.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/check.h"
#include "common/limits.h"
#include "nlohmann/json.hpp"
#include "predictor/history.h"
#include "predictor/predictor.h"

namespace forecache {
namespace {

constexpr int kSinks = 1, kRecent = 3;
constexpr int kWarmUpSteps = 64;

struct Trace {
  int layers = 0, kv_heads = 0, steps = 0, blocks = 0, tokens = 0;
  std::vector<uint16_t> codes;  // [kind][layer][kv_head][step][block]

  const uint16_t* Row(int kind, int layer, int head, int step) const {
    const size_t row =
        ((size_t{1} * kind * layers + layer) * kv_heads + head) * steps + step;
    return codes.data() + row * blocks;
  }
};

Trace ReadTrace(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  FC_CHECK(file.good()) << "no trace " << path;
  std::string line;
  std::getline(file, line);
  const auto header = nlohmann::json::parse(line);
  Trace trace{.layers = header["layers"],
              .kv_heads = header["kv_heads"],
              .steps = header["steps"],
              .blocks = header["blocks"],
              .tokens = header["tokens"]};
  const size_t rows = size_t{2} * trace.layers * trace.kv_heads * trace.steps;
  trace.codes.resize(rows * trace.blocks);
  file.read(reinterpret_cast<char*>(trace.codes.data()),
            static_cast<std::streamsize>(trace.codes.size() * 2));
  FC_CHECK(file.good()) << "truncated: " << path;
  return trace;
}

// The sums of one policy over one trace.
struct Outcome {
  double recall = 0, probes = 0, chosen = 0, changed = 0;
  int rows = 0;
};

// Plays one policy.
//
// Threads: one thread at a time.
class Player {
 public:
  Player(const Trace& trace, int kind, Predictor* policy, int share)
      : trace_(trace),
        kind_(kind),
        policy_(policy),
        count_(std::max(trace.blocks / share, 1)),
        chosen_(size_t{1} * trace.layers * trace.kv_heads) {}

  Outcome Play() {
    for (int step = 0; step < trace_.steps; ++step) {
      for (int layer = 0; layer < trace_.layers; ++layer) {
        // As in the worker: one probe serves all heads of a layer.
        const bool probe = policy_->WantsProbe(layer);
        for (int head = 0; head < trace_.kv_heads; ++head) {
          Token(step, layer, head, probe);
        }
      }
    }
    return outcome_;
  }

 private:
  int Position(int step) const { return trace_.tokens - trace_.steps + step; }

  void Token(int step, int layer, int head, bool probe) {
    auto& chosen = chosen_[size_t{1} * layer * trace_.kv_heads + head];
    const int now = Position(step) / kBlockTokens;
    const uint16_t* codes = trace_.Row(kind_, layer, head, step);
    scores_.resize(now + 1);
    std::transform(codes, codes + now + 1, scores_.begin(), DecodeScore);
    if (step >= kWarmUpSteps) {
      double all = 0, kept = 0;
      for (int b = kSinks; b < now - kRecent; ++b) all += scores_[b];
      for (const int32_t b : chosen) {
        if (b < now - kRecent) kept += scores_[b];
      }
      outcome_.recall += all > 0 ? kept / all : 1;
      outcome_.probes += probe ? 1 : 0;
      outcome_.chosen += static_cast<double>(chosen.size());
      ++outcome_.rows;
    }
    AttentionRow row{.probabilities = scores_,
                     .blocks = now + 1,
                     .kind = kind_ == 0 ? RowKind::kMax : RowKind::kMass};
    if (!probe) {
      seen_.clear();
      for (int b = 0; b < kSinks; ++b) seen_.push_back(b);
      for (const int32_t b : chosen) {
        if (b < now - kRecent) seen_.push_back(b);
      }
      for (int b = now - kRecent; b <= now; ++b) seen_.push_back(b);
      row.seen = seen_;
    }
    policy_->Observe(layer, head, row);
    const int next = (Position(step) + 1) / kBlockTokens;
    policy_->Predict(layer, head, {kSinks, next - kRecent}, count_, &choices_);
    fresh_.clear();
    for (const BlockChoice& choice : choices_) fresh_.push_back(choice.block);
    std::sort(fresh_.begin(), fresh_.end());
    if (step >= kWarmUpSteps) {
      for (const int32_t b : fresh_) {
        const bool had = std::binary_search(chosen.begin(), chosen.end(), b);
        outcome_.changed += had ? 0 : 1;
      }
    }
    chosen = fresh_;
  }

  const Trace& trace_;
  const int kind_;
  Predictor* const policy_;
  const int count_;
  std::vector<std::vector<int32_t>> chosen_;
  Outcome outcome_;
  std::vector<float> scores_;
  std::vector<int32_t> seen_, fresh_;
  std::vector<BlockChoice> choices_;
};

// NAME, NAME+adaptive:SHARE, recycled:STEPS or ema:ALPHA.
PredictorOptions ParsePolicy(const std::string& spec, const Trace& trace) {
  PredictorOptions options{
      .shape = {.layers = trace.layers, .kv_heads = trace.kv_heads,
                .group = 1}};
  const size_t plus = spec.find("+adaptive:");
  const std::string policy = spec.substr(0, plus);
  if (plus != std::string::npos) {
    options.adaptive = true;
    options.adaptive_share = std::stof(spec.substr(spec.find(':', plus) + 1));
  }
  const size_t colon = policy.find(':');
  options.name = policy.substr(0, colon);
  if (colon != std::string::npos) {
    const std::string value = policy.substr(colon + 1);
    if (options.name == "recycled") options.recycled_steps = std::stoi(value);
    if (options.name == "ema") options.ema_alpha = std::stof(value);
  }
  return options;
}

int Main(int argc, char** argv) {
  CLI::App flags("Plays a trace through policies.");
  std::string path, kind = "mass";
  std::vector<std::string> specs = {"last"};
  std::vector<int> shares = {16, 32};
  flags.add_option("--trace", path, "of trace_capture")->required();
  flags.add_option("--kind", kind, "of the rows: max or mass");
  flags.add_option("--policies", specs,
                   "NAME, NAME+adaptive:SHARE, recycled:STEPS, ema:ALPHA")
      ->delimiter(',');
  flags.add_option("--shares", shares, "1/n of the blocks may be chosen")
      ->delimiter(',');
  CLI11_PARSE(flags, argc, argv);
  const Trace trace = ReadTrace(path);
  std::printf("%-24s %6s %8s %8s %8s %8s\n", "policy", "blocks", "recall",
              "probes", "chosen", "changed");
  for (const std::string& spec : specs) {
    for (const int share : shares) {
      const auto policy = MakePredictor(ParsePolicy(spec, trace));
      FC_CHECK(policy.ok()) << policy.status().ToString();
      const Outcome sum =
          Player(trace, kind == "max" ? 0 : 1, policy->get(), share).Play();
      std::printf("%-24s %6s %8.4f %8.3f %8.2f %8.2f\n", spec.c_str(),
                  ("1/" + std::to_string(share)).c_str(),
                  sum.recall / sum.rows, sum.probes / sum.rows,
                  sum.chosen / sum.rows, sum.changed / sum.rows);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
