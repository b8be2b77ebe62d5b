// What clients asked of a store and were told, and whether a store that never
// lies could have told them that.
#ifndef FORECACHE_TESTS_JOURNAL_JOURNAL_H_
#define FORECACHE_TESTS_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/clock.h"

namespace forecache {

enum class JournalKind { kCommit, kRead };

enum class JournalResult {
  kOk,       // committed, and nobody had before; read, and it is right
  kHeld,     // of a commit: another's was there and stays
  kMiss,     // of a read: nothing was there
  kRefused,  // a typed error: nothing was done
  kUnknown,  // no answer came, or one that leaves open whether it was done
  kTorn,     // of a read: bytes that nobody put, or of two generations
};

// One operation on one key.  Every commit has a generation of its own, so the
// bytes that a read brings tell which commit they are from.
//
// Threads: a value.
struct JournalEntry {
  JournalKind kind = JournalKind::kRead;
  JournalResult result = JournalResult::kOk;
  int key = 0;
  int generation = 0;  // of a read: what it brought; meaningless unless kOk
  Nanos invoked = 0, returned = 0;
};

// The first lie of the journal, "" when there is none.  A key may be lost at
// any time (a store is a cache), but
// - bytes that are read were committed, whole, and not after the read;
// - a generation that another replaced does not return, whether the commit of
//   the other was acknowledged or a read has shown it.
std::string CheckJournal(const std::vector<JournalEntry>& journal);

}  // namespace forecache

#endif  // FORECACHE_TESTS_JOURNAL_JOURNAL_H_
