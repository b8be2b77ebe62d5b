// Small changes to an input, such as decoders trip over.
#ifndef FORECACHE_TESTS_FUZZ_MUTATOR_H_
#define FORECACHE_TESTS_FUZZ_MUTATOR_H_

#include <vector>

#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {

// One to eight changes to `input`: bits, bytes, fields with numbers at the edge
// of something, digits, ranges left out, doubled or taken from `others`.
// The same rng gives the same changes.
void Mutate(const std::vector<Bytes>& others, Bytes* input, Rng* rng);

}  // namespace forecache::fuzz

#endif  // FORECACHE_TESTS_FUZZ_MUTATOR_H_
