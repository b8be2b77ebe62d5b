// The shapes that every backend is tested and measured on, listed once.
#ifndef FORECACHE_KERNELS_TESTING_CASES_H_
#define FORECACHE_KERNELS_TESTING_CASES_H_

#include <string>
#include <vector>

#include "common/half.h"

namespace forecache {

inline constexpr KvType kF16 = KvType::kF16;
inline constexpr KvType kBF16 = KvType::kBF16;

// A decode step, or (with queries > 0) a chunk of a prefill whose last row sees
// all the tokens.
struct AttentionCase {
  std::string name;  // letters, digits and underscores
  int head_dim = 64;
  KvType type = KvType::kF16;
  int group = 1;
  std::vector<int> tokens;  // of each KV head; a chunk has all the same
  int queries = 0;
  float amplitude = 1;  // of the queries: large ones make a peaked softmax
  bool bench = false;   // measured, too; those of a smoke run are not
};

// A plane of keys to score.
struct ScoreCase {
  std::string name;
  int head_dim = 64;
  KvType type = KvType::kF16;
  int group = 1;
  int tokens = 256;  // code planes always have 256
  bool bench = false;
};

inline std::vector<AttentionCase> DecodeCases() {
  return {
      {"one_token", 64, kF16, 1, {1}},
      {"fifteen", 64, kF16, 2, {15}},
      {"sixteen", 64, kBF16, 3, {16}},
      {"seventeen", 64, kF16, 3, {17, 17}},
      {"thirty_one", 64, kBF16, 4, {31, 31}},
      {"no_pages", 64, kF16, 3, {0, 40, 0}},
      {"uneven_heads", 64, kF16, 3, {7, 300, 513, 16}},
      {"run_and_one", 64, kF16, 3, {512, 513, 511}},
      {"d16", 16, kF16, 5, {33, 100}},
      {"d80", 80, kF16, 2, {77, 600}},
      {"d96", 96, kBF16, 6, {129}},
      {"d128", 128, kF16, 4, {200, 1025}},
      {"d128_bf16", 128, kBF16, 7, {640}},
      {"d256", 256, kF16, 8, {90}},
      {"d48_group_32", 48, kBF16, 32, {70}},
      {"large_logits", 64, kF16, 3, {700, 31}, 0, 60},
      {"large_logits_bf16", 128, kBF16, 4, {700}, 0, 200},
      {"tiny_logits", 64, kF16, 3, {700}, 0, 1e-6f},
      {"sparse_d64", 64, kF16, 3, {432, 432, 432}, 0, 1, true},
      {"exact_d64", 64, kF16, 3, {7200, 7200, 7200}, 0, 1, true},
      {"exact_d64_bf16", 64, kBF16, 3, {7200, 7200, 7200}, 0, 1, true},
      {"exact_d128_gqa", 128, kF16, 4, {4096, 4096}, 0, 1, true},
      {"exact_d128_mha", 128, kF16, 1, {2048, 2048}, 0, 1, true},
  };
}

inline std::vector<AttentionCase> ChunkCases() {
  return {
      {"first_token", 64, kF16, 3, {1}, 1},
      {"from_zero", 64, kF16, 3, {37, 37}, 37},
      {"one_row_later", 64, kBF16, 3, {129, 129}, 1},
      {"tile_edge", 64, kF16, 1, {128}, 65},
      {"tile_edge_and_one", 64, kF16, 2, {129}, 64},
      {"group_5", 64, kF16, 5, {150}, 90},
      {"d16", 16, kBF16, 4, {100}, 33},
      {"d80", 80, kF16, 3, {140}, 50},
      {"d96", 96, kF16, 2, {95}, 95},
      {"d128", 128, kBF16, 4, {257}, 70},
      {"d256", 256, kF16, 8, {70}, 31},
      {"group_32", 64, kF16, 32, {66}, 20},
      {"large_logits", 64, kF16, 3, {300}, 80, 60},
      {"prefill_d64_early", 64, kF16, 3, {512}, 512, 1, true},
      {"prefill_d64_late", 64, kF16, 3, {6656}, 512, 1, true},
      {"prefill_d64_bf16", 64, kBF16, 3, {4096}, 512, 1, true},
      {"prefill_d128_gqa", 128, kF16, 4, {4096}, 256, 1, true},
  };
}

inline std::vector<ScoreCase> ExactScoreCases() {
  return {
      {"no_tokens", 64, kF16, 2, 0},
      {"one_token", 64, kF16, 1, 1},
      {"fifteen", 64, kBF16, 3, 15},
      {"seventeen", 80, kF16, 4, 17},
      {"thirty_one", 16, kBF16, 5, 31},
      {"run_and_one", 128, kF16, 8, 257},
      {"d256", 256, kBF16, 2, 100},
      {"group_32", 96, kF16, 32, 48},
      {"plane_d64", 64, kF16, 3, 4096, true},
      {"plane_d128_bf16", 128, kBF16, 4, 4096, true},
  };
}

inline std::vector<ScoreCase> CodeScoreCases() {
  return {
      {"d16", 16, kF16, 1},
      {"d48_bf16", 48, kBF16, 2},
      {"d80", 80, kF16, 3},
      {"d96_group_5", 96, kBF16, 5},
      {"d256_group_8", 256, kF16, 8},
      {"group_32", 64, kF16, 32},
      {"d64_group_3", 64, kF16, 3, 256, true},
      {"d128_group_4", 128, kBF16, 4, 256, true},
      {"d128_group_8", 128, kBF16, 8, 256, true},
  };
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_TESTING_CASES_H_
