// What a prediction costs: one row observed and one answer given, for one
// (layer, KV head), beside the plain network where the policy has one.
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "common/check.h"
#include "common/rng.h"
#include "predictor/conv.h"
#include "predictor/conv_net.h"
#include "predictor/conv_plain.h"
#include "predictor/history.h"
#include "predictor/predictor.h"

namespace forecache {
namespace {

constexpr int kGroup = 3;
constexpr Predictor::Shape kShape = {
    .layers = 1, .kv_heads = 1, .group = kGroup, .head_dim = 64};

std::vector<int> Lengths(const Harness& harness) {
  if (harness.smoke()) return {40};
  return {512, 2048, 8192};
}

std::vector<float> RandomRow(int blocks, Rng* rng) {
  std::vector<float> row(size_t{1} * kGroup * blocks);
  for (float& p : row) {
    p = 0.1f * static_cast<float>(rng->Uniform() * rng->Uniform());
  }
  return row;
}

// The paper's shape; what the weights are does not matter for the time.
ConvNet PaperNet(Rng* rng) {
  const auto weights = [rng](size_t count) {
    std::vector<float> w(count);
    for (float& x : w) x = 0.1f * rng->Normal();
    return w;
  };
  return {.window = 64,
          .channels1 = 16,
          .channels2 = 32,
          .conv1 = weights(9 * 16),
          .bias1 = weights(16),
          .conv2 = weights(9 * 16 * 32),
          .bias2 = weights(32),
          .conv3 = weights(32)};
}

// One network's steps over one context.
//
// Threads: one thread at a time.
class ConvSteps {
 public:
  ConvSteps(const ConvNet& net, int blocks)
      : net_(net), window_(net), blocks_(blocks), sums_(blocks),
        scores_(blocks) {
    Rng rng(1);
    for (int row = 0; row <= net.window; ++row) {
      rows_.emplace_back(blocks);
      for (uint16_t& code : rows_.back()) {
        code = EncodeScore(static_cast<float>(rng.Uniform()) * 0.01f);
      }
    }
    Whole();
  }

  // The window turns around its rows.
  void Step() {
    first_ = (first_ + 1) % rows_.size();
    window_.Advance(Pointers(0), blocks_, blocks_, sums_.data(),
                    scores_.data());
    KeepAlive(scores_[0]);
  }
  void Whole() {
    window_.Evaluate(Pointers(1), blocks_, sums_.data(), scores_.data());
    KeepAlive(scores_[0]);
  }
  void Plain() {
    KeepAlive(PlainConvScores<float>(net_, Pointers(1), blocks_)[0]);
  }

 private:
  std::vector<const uint16_t*> Pointers(size_t skip) const {
    std::vector<const uint16_t*> rows;
    for (size_t i = skip; i < rows_.size(); ++i) {
      rows.push_back(rows_[(first_ + i) % rows_.size()].data());
    }
    return rows;
  }

  const ConvNet net_;
  ConvWindow window_;
  const int blocks_;
  std::vector<std::vector<uint16_t>> rows_;
  size_t first_ = 0;
  std::vector<double> sums_;
  std::vector<float> scores_;
};

void AddNetwork(const std::string& name, const ConvNet& net,
                Harness& harness) {
  const ConvWindow window(net);
  for (const int blocks : Lengths(harness)) {
    const std::string at = "/" + std::to_string(blocks);
    const auto steps = std::make_shared<ConvSteps>(net, blocks);
    harness.Note(name + at,
                 {{"step_flops", window.AdvanceFlops() * blocks},
                  {"whole_flops", window.EvaluateFlops() * blocks},
                  {"less_work",
                   window.EvaluateFlops() / window.AdvanceFlops()}});
    harness.Add({.name = name + "_step" + at, .call = [steps] {
                   steps->Step();
                 }});
    harness.Add({.name = name + "_whole" + at, .call = [steps] {
                   steps->Whole();
                 }});
    if (blocks > 512) continue;  // seconds
    harness.Add({.name = name + "_plain" + at, .call = [steps] {
                   steps->Plain();
                 }});
  }
}

// A policy's whole turn: a row observed, a 16th of the context chosen.
void AddPolicy(const std::string& name, Harness& harness) {
  for (const int blocks : Lengths(harness)) {
    auto made = MakePredictor({.name = name, .shape = kShape});
    FC_CHECK(made.ok()) << made.status().ToString();
    const std::shared_ptr<Predictor> predictor = *std::move(made);
    Rng rng(2);
    const auto row = std::make_shared<std::vector<float>>(
        RandomRow(blocks, &rng));
    const auto query = std::make_shared<std::vector<float>>(
        size_t{1} * kGroup * kShape.head_dim, 0.1f);
    const std::vector<float> keys(size_t{16} * kShape.head_dim, 0.3f);
    for (int b = 0; b < blocks; ++b) predictor->ObserveKeys(0, 0, b, keys);
    const auto choices = std::make_shared<std::vector<BlockChoice>>();
    harness.Add({.name = name + "/" + std::to_string(blocks), .call = [=] {
                   predictor->ObserveQuery(0, 0, *query);
                   predictor->Observe(
                       0, 0, {.probabilities = *row, .blocks = blocks});
                   predictor->Predict(0, 0, {1, blocks - 3}, blocks / 16,
                                      choices.get());
                 }});
  }
}

int Main(int argc, char** argv) {
  Harness harness("predictor");
  if (auto code = harness.Parse(argc, argv)) return *code;
  harness.Note("threads", 1);
  Rng rng(3);
  AddNetwork("conv_paper", PaperNet(&rng), harness);
  const auto ours = LoadConvNet("");
  FC_CHECK(ours.ok()) << ours.status().ToString();
  AddNetwork("conv_ours", *ours, harness);
  for (const std::string& name : PredictorNames()) AddPolicy(name, harness);
  harness.Run();
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
