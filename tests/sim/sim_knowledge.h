// What the simulation knows of a store from its answers.
#ifndef FORECACHE_TESTS_SIM_SIM_KNOWLEDGE_H_
#define FORECACHE_TESTS_SIM_SIM_KNOWLEDGE_H_

#include <bitset>
#include <cstddef>

#include "kvstore/client/data_client.h"
#include "kvstore/geometry.h"

namespace forecache {

inline constexpr int kContexts = 6;
inline constexpr int kSegments = 3;
inline constexpr size_t kSessionsAtOnce = 5;

// What a session's owner knows of one segment.
//
// Threads: a value.
struct SegmentKnown {
  std::bitset<kSegmentBlocks> put[2];  // by layer, acknowledged
  bool sealed = false;                 // here, or held at the start
};

// What a session's owner knows of it.
//
// Threads: a value.
struct SessionKnown {
  SessionHandle handle;
  int context = 0;
  SegmentKnown segments[kSegments];
};

// What the world knows of one segment of a context.
//
// Threads: a value.
struct Stored {
  bool sealed = false;   // by anyone, ever
  bool durable = false;  // was called so
  bool damaged = false;  // a bit of it was flipped
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_SIM_SIM_KNOWLEDGE_H_
