#include "bench/code_recall.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/block_scores.h"

namespace forecache {
namespace {

// Of one (layer, KV head): what scans write and blocks are ranked by.
struct Row {
  Row(int group, int blocks)
      : block_max(size_t(group) * blocks), lse(group), score(blocks) {}

  // score[b] = mean over heads of exp(block_max - lse).
  void MakeScores() {
    const size_t blocks = score.size();
    std::fill(score.begin(), score.end(), 0.0);
    for (size_t g = 0; g < lse.size(); ++g) {
      for (size_t b = 0; b < blocks; ++b) {
        score[b] += std::exp(double{block_max[g * blocks + b]} - lse[g]) /
                    static_cast<double>(lse.size());
      }
    }
  }

  std::vector<int> Top(int top) const {
    std::vector<int> order(score.size());
    std::iota(order.begin(), order.end(), 0);
    top = std::min<int>(top, order.size());
    std::partial_sort(order.begin(), order.begin() + top, order.end(),
                      [&](int a, int b) { return score[a] > score[b]; });
    order.resize(top);
    return order;
  }

  std::vector<float> block_max;
  std::vector<float> lse;
  std::vector<double> score;
};

ExactScores ExactArguments(const KeyCapture& capture, int layer, int query,
                           int head) {
  ExactScores args;
  args.keys = capture.Keys(layer, head);
  args.type = KvType::kF16;
  args.tokens = capture.tokens;
  args.head_dim = capture.head_dim;
  args.group = capture.group;
  args.q = capture.Queries(layer, query, head);
  args.scale = 1 / std::sqrt(static_cast<float>(capture.head_dim));
  return args;
}

// Mean over heads of each block's probability.
std::vector<double> BlockMass(ExactScores args, const std::vector<float>& lse) {
  const int blocks = args.tokens / kScoreBlockTokens;
  std::vector<double> mass(blocks);
  std::vector<float> most(args.group), block_lse(args.group);
  args.tokens = kScoreBlockTokens;
  args.block_max = most.data();
  args.row_stride = 1;
  args.lse = block_lse.data();
  for (int b = 0; b < blocks; ++b) {
    ExactScoresCpu(args);
    for (int g = 0; g < args.group; ++g) {
      mass[b] += std::exp(double{block_lse[g]} - lse[g]) / args.group;
    }
    args.keys += size_t{kScoreBlockTokens} * args.head_dim * kKvElementBytes;
  }
  return mass;
}

// The code planes of one (layer, KV head).
class CodedKeys {
 public:
  CodedKeys(const KeyCapture& capture, int layer, int head, CodeKind kind) {
    const size_t segment_bytes =
        size_t{kCodePlaneTokens} * capture.head_dim * kKvElementBytes;
    const int segments = capture.tokens / kCodePlaneTokens;
    for (int s = 0; s < segments; ++s) {
      memory_.push_back(MakeAligned(CodePlaneBytes(kind, capture.head_dim)));
      EncodeCodePlane(kind, capture.Keys(layer, head) + s * segment_bytes,
                      KvType::kF16, capture.head_dim, memory_.back().get());
      planes_.push_back(memory_.back().get());
    }
    scan_.kind = kind;
    scan_.planes = planes_.data();
    scan_.plane_count = segments;
  }
  CodedKeys(const CodedKeys&) = delete;

  void Scan(const ExactScores& like, Row* row) {
    scan_.head_dim = like.head_dim;
    scan_.group = like.group;
    scan_.q = like.q;
    scan_.scale = like.scale;
    scan_.block_max = row->block_max.data();
    scan_.row_stride = row->score.size();
    scan_.lse = row->lse.data();
    ScanCodesCpu(scan_);
    row->MakeScores();
  }

 private:
  std::vector<AlignedBytes> memory_;
  std::vector<const std::byte*> planes_;
  CodeScan scan_;
};

void Compare(const Row& exact, const Row& codes,
             const std::vector<double>& mass, int top, CodeRecall* recall) {
  const std::vector<int> wanted = exact.Top(top), chosen = codes.Top(top);
  double best = 0, held = 0, common = 0;
  for (int block : wanted) best += mass[block];
  for (int block : chosen) {
    held += mass[block];
    common += std::count(wanted.begin(), wanted.end(), block);
  }
  recall->mass_share.push_back(held / best);
  recall->block_share.push_back(common / static_cast<double>(wanted.size()));
  for (size_t g = 0; g < exact.lse.size(); ++g) {
    recall->lse_error.push_back(double{codes.lse[g]} - exact.lse[g]);
  }
}

}  // namespace

double CodeRecall::Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

double CodeRecall::Percentile(std::vector<double> values, double percent) {
  const size_t at = static_cast<size_t>(
      percent / 100 * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[at];
}

CodeRecall MeasureCodeRecall(const KeyCapture& capture, CodeKind kind,
                             int top) {
  const int blocks = capture.tokens / kScoreBlockTokens;
  Row exact(capture.group, blocks), codes(capture.group, blocks);
  CodeRecall recall;
  for (int layer = 0; layer < capture.layers; ++layer) {
    for (int head = 0; head < capture.kv_heads; ++head) {
      CodedKeys coded(capture, layer, head, kind);
      for (int query = 0; query < capture.query_tokens; ++query) {
        ExactScores args = ExactArguments(capture, layer, query, head);
        args.block_max = exact.block_max.data();
        args.row_stride = blocks;
        args.lse = exact.lse.data();
        ExactScoresCpu(args);
        exact.MakeScores();
        coded.Scan(args, &codes);
        Compare(exact, codes, BlockMass(args, exact.lse), top, &recall);
      }
    }
  }
  return recall;
}

}  // namespace forecache
