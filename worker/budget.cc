#include "worker/budget.h"

#include <algorithm>

#include "worker/model/model_runtime.h"

namespace forecache {
namespace {

// Layers whose corrections hold places at once: the one at work, and those
// whose queries are estimated already.
constexpr int kLayersCorrecting = kQueryAheadLayers + 1;

// What even a head that seems to need nothing may choose.
constexpr int kLeastChosen = 2;

}  // namespace

void SpreadBudget(const KvGeometry& geometry, int context_blocks,
                  const BudgetProfile* profile, Budget* budget) {
  const int heads = geometry.layers * geometry.kv_heads;
  if (budget->blocks >= context_blocks) return;
  const int on_loan = budget->lends ? kLayersCorrecting * geometry.kv_heads *
                                          budget->corrected
                                    : 0;
  const int total =
      std::max(heads * budget->blocks - on_loan, heads * budget->Floor());
  const int least = budget->Floor() + kLeastChosen;
  if (profile != nullptr && heads * least < total) {
    budget->of_head = profile->ShareOut(total, context_blocks, least);
  } else if (on_loan > 0) {
    budget->of_head.assign(heads, total / heads);
  }
}

}  // namespace forecache
