// Journals that are true, and each way in which one may lie.
#include "tests/journal/journal.h"

#include <gtest/gtest.h>

namespace forecache {
namespace {

constexpr auto kOk = JournalResult::kOk;

JournalEntry Commit(int generation, Nanos invoked, Nanos returned,
                    JournalResult result = kOk) {
  return {JournalKind::kCommit, result, 7, generation, invoked, returned};
}
JournalEntry Read(int generation, Nanos invoked, Nanos returned,
                  JournalResult result = kOk) {
  return {JournalKind::kRead, result, 7, generation, invoked, returned};
}
void ExpectLie(const std::vector<JournalEntry>& journal,
               const std::string& part) {
  const std::string lie = CheckJournal(journal);
  EXPECT_NE(lie.find(part), std::string::npos) << "'" << lie << "'";
}

TEST(JournalTest, TrueJournals) {
  EXPECT_EQ(CheckJournal({}), "");
  EXPECT_EQ(CheckJournal({Commit(1, 10, 20), Read(1, 30, 40)}), "");
  // A cache may lose it at any time, and hold another then.
  EXPECT_EQ(CheckJournal({Commit(1, 10, 20), Read(1, 21, 22),
                          Read(0, 30, 40, JournalResult::kMiss),
                          Commit(2, 50, 60), Read(2, 70, 80)}),
            "");
  // Both at once: either may have come first.
  EXPECT_EQ(CheckJournal({Commit(1, 10, 40), Commit(2, 20, 30),
                          Read(1, 50, 60)}),
            "");
  // A read that began before the other commit ended may show the first.
  EXPECT_EQ(CheckJournal({Commit(1, 10, 20), Commit(2, 30, 40),
                          Read(1, 35, 60)}),
            "");
  // Its bytes show before it is acknowledged.
  EXPECT_EQ(CheckJournal({Commit(1, 10, 90), Read(1, 20, 30)}), "");
  // Never acknowledged, and done all the same, or late.
  EXPECT_EQ(CheckJournal({Commit(1, 10, 20, JournalResult::kUnknown),
                          Commit(2, 30, 40), Read(1, 50, 60)}),
            "");
}

TEST(JournalTest, ReadsWhatNobodyCommitted) {
  ExpectLie({Read(1, 30, 40)}, "never committed");
  ExpectLie({Commit(1, 10, 20), Read(2, 30, 40)}, "never committed");
  ExpectLie({Commit(1, 10, 20, JournalResult::kRefused), Read(1, 30, 40)},
            "never committed");
  ExpectLie({Commit(1, 10, 20, JournalResult::kHeld), Read(1, 30, 40)},
            "never committed");
  JournalEntry another = Commit(1, 10, 20);
  another.key = 8;
  ExpectLie({another, Read(1, 30, 40)}, "never committed");
}

TEST(JournalTest, ReadsBeforeTheCommit) {
  ExpectLie({Read(1, 10, 20), Commit(1, 30, 40)}, "committed later");
}

TEST(JournalTest, ReadsWhatWasReplaced) {
  ExpectLie({Commit(1, 10, 20), Commit(2, 30, 40), Read(1, 50, 60)}, "stale");
}

TEST(JournalTest, ReadsTheOldAfterTheNew) {
  // The second commit was never acknowledged, but a read has shown it.
  ExpectLie({Commit(1, 10, 20), Commit(2, 30, 35, JournalResult::kUnknown),
             Read(2, 40, 50), Read(1, 60, 70)},
            "stale");
  // The first was not, either.
  ExpectLie({Commit(1, 10, 20, JournalResult::kUnknown), Read(1, 22, 25),
             Commit(2, 30, 40), Read(1, 50, 60)},
            "stale");
}

TEST(JournalTest, ReadsTornBytes) {
  ExpectLie({Commit(1, 10, 20), Read(1, 30, 40, JournalResult::kTorn)}, "torn");
}

TEST(JournalTest, IsNoJournal) {
  ExpectLie({Commit(1, 20, 10)}, "returned before");
  ExpectLie({Commit(1, 10, 20), Commit(1, 30, 40)}, "committed twice");
}

}  // namespace
}  // namespace forecache
