// Code planes on the cpu: the specification for now.
#include "kernels/block_scores.h"

namespace forecache {

void CodeScoresCpu(const CodeScores& args) { CodeScoresRef(args); }

void EncodeCodePlane(const std::byte* keys, KvType type, int head_dim,
                     std::byte* code_plane) {
  EncodeCodePlaneRef(keys, type, head_dim, code_plane);
}

}  // namespace forecache
