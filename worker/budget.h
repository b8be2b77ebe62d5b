// How much of a context a session may have resident.
#ifndef FORECACHE_WORKER_BUDGET_H_
#define FORECACHE_WORKER_BUDGET_H_

#include <cstddef>
#include <vector>

#include "kvstore/geometry.h"
#include "predictor/budget_profile.h"

namespace forecache {

// How many blocks, and which are always there.
//
// Threads: a value.
struct Budget {
  // Of each (layer, KV head), sinks and recent included, and what places on
  // loan take.
  int blocks = 0;
  // Where the budget is not the same everywhere: blocks of each, [layers *
  // kv_heads], `blocks` on average and never below the floor.  Else empty.
  std::vector<int> of_head;
  int sinks = 1;
  int recent = 3;  // blocks before the one being filled
  // Of the chosen blocks, those that a correction chooses, some layers ahead,
  // with an estimate of the very token's query; the others are chosen one
  // token ahead.
  int corrected = 0;
  // Corrections hold their places for a few layers only.  Lent: those places
  // go round, and every head keeps all of its own blocks beside them.
  bool lends = false;
  // The least probability that is worth a correction: the mean over a KV
  // head's query heads of each one's largest in the block.
  float correction_floor = 0;
  // Above 0: blocks that move a token, of each (layer, KV head), on average.
  // It steers the floor instead, and a block that is here keeps its place
  // until another's score is better by a share of that floor.
  double traffic_target = 0;

  // Sinks, recent window and the block being filled.
  int Floor() const { return sinks + recent + 1; }
  // Of a (layer, KV head), by layer * kv_heads + kv_head.
  int BlocksOf(size_t head) const {
    return of_head.empty() ? blocks : of_head[head];
  }
};

// Fills in `of_head` for a context of `context_blocks`: by the profile, unless
// that is null, less what is set apart for lending.
void SpreadBudget(const KvGeometry& geometry, int context_blocks,
                  const BudgetProfile* profile, Budget* budget);

}  // namespace forecache

#endif  // FORECACHE_WORKER_BUDGET_H_
