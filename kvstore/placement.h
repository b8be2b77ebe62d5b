// Which store of a group a segment is put to.
//
// The placement is the worker's alone: it decides where new segments go.  What
// is there already is found where it lies, since each store says at a session's
// start what it holds.  So a changed member list misplaces nothing; it only
// sends new segments elsewhere.
#ifndef FORECACHE_KVSTORE_PLACEMENT_H_
#define FORECACHE_KVSTORE_PLACEMENT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace forecache {

// Who is in the group.  Static now; a later epoch is a later list.
//
// Threads: a value.
struct MemberList {
  uint32_t epoch = 0;
  std::vector<std::string> names;  // stable and different: "host:port"
};

// Keys of the segments of a context for which at least the first block's
// tokens are given, so that a segment has its place before its first block is
// put.  Equal prefixes have equal keys, whoever computes them.  Not secret and
// not an identity: a collision costs balance only.
std::vector<uint64_t> PlacementKeys(std::span<const int32_t> tokens);

// Rendezvous hashing: each member draws a number for each key, and the largest
// draw wins.  When a member leaves, only its segments move.
//
// Threads: a value.
class Placement {
 public:
  // REQUIRES: members.names is not empty.
  explicit Placement(MemberList members);

  // All members, the best first.  A segment goes to the first one that lives;
  // R copies would go to the first R.
  std::vector<int> Rank(uint64_t key) const;

  uint32_t epoch() const { return members_.epoch; }
  int size() const { return static_cast<int>(seeds_.size()); }

 private:
  MemberList members_;
  std::vector<uint64_t> seeds_;  // of the names
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PLACEMENT_H_
