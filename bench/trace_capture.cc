// Writes what attention looked like: the rows that predictors are trained on
// (predictor/train/) and compared by.
//
// The model reads a text with exact attention; of the last `steps` tokens, the
// row of every (layer, KV head) is written, by block maximum and by block mass.
//
// The file: one line of JSON ({"kinds", "layers", "kv_heads", "steps",
// "blocks", ...}), then little-endian codes (predictor/history.h)
// [kind][layer][kv_head][step][block], kind 0 the maximum, 1 the mass.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "common/check.h"
#include "common/half.h"
#include "common/limits.h"
#include "common/status.h"
#include "kernels/attention.h"
#include "nlohmann/json.hpp"
#include "predictor/history.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

#if defined(__x86_64__)
#define FC_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FC_CLONES
#endif

namespace forecache {
namespace {

struct CaptureOptions {
  std::string model, text, out;
  size_t skip_bytes = 0;
  int tokens = 7168;
  int steps = 512;
};

constexpr int kChunkTokens = 512;
constexpr int kKinds = 2;

// logits[t] = scale * q.keys[t], of `tokens` rows of `dim` channels.
FC_CLONES void Logits(const float* q, const float* keys, int tokens, int dim,
                      float scale, float* logits) {
  for (int t = 0; t < tokens; ++t) {
    const float* key = keys + size_t{1} * t * dim;
    float sums[16] = {0};
    for (int c = 0; c < dim; c += 16) {
      for (int i = 0; i < 16; ++i) sums[i] += q[c + i] * key[c + i];
    }
    float sum = 0;
    for (const float partial : sums) sum += partial;
    logits[t] = sum * scale;
  }
}

// What kernels want their memory aligned to.
struct alignas(64) CacheLine {
  uint16_t elements[32];
};

// One layer's keys and values: [kv_head][tokens][dim], keys then values, with
// an f32 copy of the keys.
struct LayerKv {
  std::vector<CacheLine> lines;
  std::vector<float> keys;

  uint16_t* kv() { return lines.data()->elements; }
  size_t plane() const { return keys.size(); }  // elements of all the keys
};

// Threads: one thread at a time.
class Capture {
 public:
  Capture(ModelRuntime* model, const CaptureOptions& options)
      : model_(model),
        config_(model->config()),
        options_(options),
        blocks_((options.tokens + kBlockTokens - 1) / kBlockTokens),
        padded_(size_t{1} * blocks_ * kBlockTokens),
        layers_(config_.layers),
        codes_(size_t{1} * kKinds * RowsOfKind() * blocks_) {
    for (LayerKv& layer : layers_) {
      const size_t plane = size_t{1} * config_.kv_heads * padded_;
      layer.lines.resize(2 * plane * config_.head_dim / 32);
      layer.keys.resize(plane * config_.head_dim);
    }
  }

  absl::Status Run(std::span<const int32_t> tokens) {
    for (int at = 0; at < options_.tokens; at += kChunkTokens) {
      const int count = std::min(kChunkTokens, options_.tokens - at);
      FC_RETURN_IF_ERROR(Pass(tokens.subspan(at, count), at));
      std::cerr << "\r" << at + count << " tokens" << std::flush;
    }
    std::cerr << "\n";
    return absl::OkStatus();
  }

  const std::vector<uint16_t>& codes() const { return codes_; }
  int blocks() const { return blocks_; }

 private:
  size_t RowsOfKind() const {
    return size_t{1} * config_.layers * config_.kv_heads * options_.steps;
  }

  absl::Status Pass(std::span<const int32_t> tokens, int position) {
    const int count = static_cast<int>(tokens.size());
    absl::StatusOr<LayerQkv> qkv = model_->Begin(tokens, position);
    for (int layer = 0;; ++layer) {
      FC_RETURN_IF_ERROR(qkv.status());
      Keep(layer, position, count, *qkv);
      for (int row = 0; row < count; ++row) {
        const int step =
            position + row - (options_.tokens - options_.steps);
        if (step >= 0) WriteRows(layer, step, position + row, row, *qkv);
      }
      Attend(layer, position, count, *qkv);
      if (layer + 1 == config_.layers) break;
      qkv = model_->Next(attention_);
    }
    return model_->Finish(attention_, LogitRows::kNone).status();
  }

  size_t At(int kv_head, int position) const {
    return (size_t{1} * kv_head * padded_ + position) * config_.head_dim;
  }

  void Keep(int layer, int position, int count, const LayerQkv& qkv) {
    LayerKv& kept = layers_[layer];
    const size_t values = kept.plane();
    const int dim = config_.head_dim;
    for (int row = 0; row < count; ++row) {
      for (int head = 0; head < config_.kv_heads; ++head) {
        const size_t from = (size_t{1} * row * config_.kv_heads + head) * dim;
        const size_t to = At(head, position + row);
        for (int c = 0; c < dim; ++c) {
          kept.kv()[to + c] = FloatToF16(qkv.k[from + c]);
          kept.kv()[values + to + c] = FloatToF16(qkv.v[from + c]);
          kept.keys[to + c] = F16ToFloat(kept.kv()[to + c]);
        }
      }
    }
  }

  void Attend(int layer, int position, int count, const LayerQkv& qkv) {
    LayerKv& kept = layers_[layer];
    const int pages = (position + count + kBlockTokens - 1) / kBlockTokens;
    std::vector<std::vector<int32_t>> slots(config_.kv_heads);
    std::vector<PageTable> tables;
    for (int head = 0; head < config_.kv_heads; ++head) {
      for (int p = 0; p < pages; ++p) slots[head].push_back(head * blocks_ + p);
      tables.push_back({slots[head].data(), pages,
                        position + count - (pages - 1) * kBlockTokens});
    }
    attention_.resize(qkv.q.size());
    const ChunkAttention args{
        .memory = {.base = reinterpret_cast<const std::byte*>(kept.kv()),
                   .slot_stride = size_t{2} * kBlockTokens * config_.head_dim,
                   .v_offset = 2 * kept.plane(),
                   .type = KvType::kF16,
                   .head_dim = config_.head_dim},
        .kv_heads = config_.kv_heads,
        .group = config_.group(),
        .queries = count,
        .first_position = position,
        .q = qkv.q.data(),
        .scale = Scale(),
        .tables = tables.data(),
        .out = attention_.data()};
    ChunkAttentionCpu(args, 0, 1);
  }

  float Scale() const {
    return 1 / std::sqrt(static_cast<float>(config_.head_dim));
  }

  // The row of one token, averaged over the query heads of a KV head.
  void WriteRows(int layer, int step, int position, int row,
                 const LayerQkv& qkv) {
    const int group = config_.group(), tokens = position + 1;
    std::vector<float> logits(padded_), largest(blocks_), mass(blocks_);
    for (int head = 0; head < config_.kv_heads; ++head) {
      std::fill(largest.begin(), largest.end(), 0.0f);
      std::fill(mass.begin(), mass.end(), 0.0f);
      for (int j = 0; j < group; ++j) {
        const size_t q_head =
            size_t{1} * row * config_.query_heads + head * group + j;
        Logits(qkv.q.data() + q_head * config_.head_dim,
               layers_[layer].keys.data() + At(head, 0), tokens,
               config_.head_dim, Scale(), logits.data());
        AddProbabilities(tokens, group, &logits, &largest, &mass);
      }
      const size_t at =
          ((size_t{1} * layer * config_.kv_heads + head) * options_.steps +
           step) *
          blocks_;
      for (int b = 0; b < blocks_; ++b) {
        codes_[at + b] = EncodeScore(largest[b]);
        codes_[RowsOfKind() * blocks_ + at + b] = EncodeScore(mass[b]);
      }
    }
  }

  static void AddProbabilities(int tokens, int group,
                               std::vector<float>* logits,
                               std::vector<float>* largest,
                               std::vector<float>* mass) {
    const float high =
        *std::max_element(logits->begin(), logits->begin() + tokens);
    float sum = 0;
    for (int t = 0; t < tokens; ++t) {
      sum += (*logits)[t] = std::exp((*logits)[t] - high);
    }
    const float share = 1 / (sum * static_cast<float>(group));
    for (int first = 0; first < tokens; first += kBlockTokens) {
      const int end = std::min(first + kBlockTokens, tokens);
      float top = 0, total = 0;
      for (int t = first; t < end; ++t) {
        top = std::max(top, (*logits)[t]);
        total += (*logits)[t];
      }
      (*largest)[first / kBlockTokens] += top * share;
      (*mass)[first / kBlockTokens] += total * share;
    }
  }

  ModelRuntime* const model_;
  const ModelConfig& config_;
  const CaptureOptions options_;
  const int blocks_;
  const size_t padded_;
  std::vector<LayerKv> layers_;
  std::vector<uint16_t> codes_;
  std::vector<float> attention_;
};

// The file from `skip_bytes` on; the lines of a .jsonl file become questions
// with their answers.
std::string ReadText(const CaptureOptions& options) {
  std::ifstream file(options.text);
  FC_CHECK(file.good()) << "no file " << options.text;
  std::ostringstream text;
  if (options.text.ends_with(".jsonl")) {
    for (std::string line; std::getline(file, line);) {
      const auto item = nlohmann::json::parse(line);
      text << "Question: " << item["question"].get<std::string>()
           << "\nAnswer: " << item["answer"].get<std::string>() << "\n\n";
    }
  } else {
    text << file.rdbuf();
  }
  const std::string all = text.str();
  const size_t first = std::min(options.skip_bytes, all.size());
  return all.substr(first, size_t{16} * options.tokens);
}

absl::Status Write(const CaptureOptions& options, const ModelConfig& config,
                   const Capture& capture) {
  std::ofstream out(options.out, std::ios::binary);
  out << nlohmann::json{{"kinds", {"max", "mass"}},
                        {"layers", config.layers},
                        {"kv_heads", config.kv_heads},
                        {"steps", options.steps},
                        {"blocks", capture.blocks()},
                        {"model", config.weights_digest},
                        {"tokens", options.tokens},
                        {"skip_bytes", options.skip_bytes}}
             .dump()
      << "\n";
  const auto& codes = capture.codes();
  out.write(reinterpret_cast<const char*>(codes.data()),
            static_cast<std::streamsize>(codes.size() * sizeof(codes[0])));
  out.close();
  if (out.fail()) return absl::DataLossError("cannot write " + options.out);
  return absl::OkStatus();
}

absl::Status CaptureTrace(const CaptureOptions& options) {
  auto tokenizer = LoadTokenizer(options.model);
  FC_RETURN_IF_ERROR(tokenizer.status());
  auto model = LoadGgmlModel({.path = options.model,
                              .max_chunk_tokens = kChunkTokens,
                              .prefill_threads = 1,
                              .prefill_weights = PrefillWeights::kBf16});
  FC_RETURN_IF_ERROR(model.status());
  const auto tokens = (*tokenizer)->Encode(ReadText(options), false);
  if (static_cast<int>(tokens.size()) < options.tokens) {
    return absl::InvalidArgumentError("the text is shorter than --tokens");
  }
  Capture capture(model->get(), options);
  FC_RETURN_IF_ERROR(capture.Run(tokens));
  return Write(options, (*model)->config(), capture);
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) {
  forecache::CaptureOptions options;
  CLI::App flags("Captures attention rows of a text.");
  flags.add_option("--model", options.model, "a GGUF file")->required();
  flags.add_option("--text", options.text, "a text, or .jsonl")->required();
  flags.add_option("--out", options.out, "the trace")->required();
  flags.add_option("--skip-bytes", options.skip_bytes, "of the text");
  flags.add_option("--tokens", options.tokens, "of the context");
  flags.add_option("--steps", options.steps, "rows, of the last tokens");
  CLI11_PARSE(flags, argc, argv);
  const absl::Status status = forecache::CaptureTrace(options);
  if (status.ok()) return 0;
  std::cerr << status.ToString() << "\n";
  return 1;
}
