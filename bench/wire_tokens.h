// What one decoded token asks of the store: every layer's probe, the choice
// of its blocks, and the fetch of those that are not resident.
#ifndef FORECACHE_BENCH_WIRE_TOKENS_H_
#define FORECACHE_BENCH_WIRE_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/wire_cases.h"
#include "bench/wire_report.h"
#include "bench/wire_worker.h"

namespace forecache {

// Of one token, or of several added up.
struct TokenCost {
  Nanos time = 0;
  uint64_t bytes = 0;     // headers and payloads, both ways
  uint64_t messages = 0;  // both ways
  uint64_t misses = 0;    // blocks fetched
  uint64_t partial = 0;   // probes that lack a store's part
};

// Rounds of a model of 32 layers, of which four are asked for at any time.
// Where a context has fewer, its layers are used by turns: what is scanned and
// fetched is the same amount, of fewer bytes.  The queries drift from token to
// token, so that the choice does.
//
// Threads: the worker's.
// Lifetime: worker and context outlive it.
class TokenRounds {
 public:
  TokenRounds(WireWorker* worker, const WireContext* context, int blocks);
  TokenRounds(const TokenRounds&) = delete;
  TokenRounds& operator=(const TokenRounds&) = delete;

  absl::StatusOr<TokenCost> Next();

 private:
  struct Layer {
    std::vector<float> q;
    std::vector<bool> resident;  // [kv_heads][blocks]
  };

  void Drift();
  // The next layer, if there is one.
  void Probe();
  void Choose(int layer, const ProbeResult& result);
  void ChooseHead(const ProbeResult& result, int kv_head, Layer* layer,
                  std::vector<wire::FetchEntry>* missing);

  WireWorker* const worker_;
  const WireContext* const context_;
  const int blocks_;
  const size_t budget_;
  std::vector<Layer> layers_;
  std::vector<uint32_t> ranking_;
  uint32_t next_slot_ = 0;
  int next_layer_ = 0;  // to be probed
  int under_way_ = 0;
  TokenCost cost_;
};

// One repeat of token_ms, token_mib, token_messages, token_misses and
// token_partial_probes; the
// rounds go on where the last repeat left off.
absl::Status MeasureTokens(const std::string& figure, TokenRounds* rounds,
                           int tokens, WireReport* report);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_TOKENS_H_
