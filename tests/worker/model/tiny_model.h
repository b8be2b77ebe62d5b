// A tiny Llama GGUF file, for tests without the real model.
#ifndef FORECACHE_TESTS_WORKER_MODEL_TINY_MODEL_H_
#define FORECACHE_TESTS_WORKER_MODEL_TINY_MODEL_H_

#include <cstdint>
#include <string>

namespace forecache {

// What to write.  Change one field to make a file that must be refused.
struct TinyModel {
  std::string architecture = "llama";
  int layers = 2;
  int hidden = 64;
  int query_heads = 4;
  int kv_heads = 2;  // heads of 16
  int feed_forward = 96;
  int vocabulary = 50;
  int context_tokens = 128;
  uint64_t seed = 1;  // of the weights
  bool biases = false;
  bool untied_output = false;
  bool rope_factors = false;      // all 1: they change nothing
  std::string left_out_field;     // by its whole key
  std::string left_out_tensor;    // by its whole name
  std::string misshapen_tensor;   // one column too wide
  std::string rope_scaling;       // llama.rope.scaling.type
  int experts = 0;
};

// Writes the model, f32 weights, to `path`.
void WriteTinyModel(const TinyModel& model, const std::string& path);

}  // namespace forecache

#endif  // FORECACHE_TESTS_WORKER_MODEL_TINY_MODEL_H_
