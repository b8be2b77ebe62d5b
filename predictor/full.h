// The policy `full`: everything in range, for dense attention and the
// reference that others are compared with.
#ifndef FORECACHE_PREDICTOR_FULL_H_
#define FORECACHE_PREDICTOR_FULL_H_

#include <string>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

// Chooses every block of the range, the latest first.  A caller who means all
// of them asks for at least as many as the range has: `count` binds here too.
//
// Threads: safe to call from any thread; it has no state.
class FullPredictor : public Predictor {
 public:
  std::string Name() const override { return "full"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override {}
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return false; }
  size_t HistoryBytes() const override { return 0; }
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_FULL_H_
