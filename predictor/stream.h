// The policy `stream`: sinks and the recent window are all there is.
#ifndef FORECACHE_PREDICTOR_STREAM_H_
#define FORECACHE_PREDICTOR_STREAM_H_

#include <string>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

// Chooses nothing: the floor that every other policy must beat.
//
// Threads: safe to call from any thread; it has no state.
class StreamPredictor : public Predictor {
 public:
  std::string Name() const override { return "stream"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override {}
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return false; }
  size_t HistoryBytes() const override { return 0; }
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_STREAM_H_
