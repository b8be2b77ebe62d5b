#include "tests/journal/journal.h"

#include <algorithm>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"

namespace forecache {
namespace {

constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

// When a generation came to the store: in [from, to], if at all.
struct Installed {
  Nanos from = 0;
  Nanos to = kNever;
  // Since when somebody knows that it came: a commit that was acknowledged, or
  // a read that has shown it.
  Nanos known = kNever;
};

using Generations = std::map<int, Installed>;

std::string Tell(const JournalEntry& read, const std::string& what) {
  return absl::StrCat("read of key ", read.key, " in [", read.invoked, ", ",
                      read.returned, "]: generation ", read.generation, " ",
                      what);
}

// What `read` says that cannot be; "" if nothing.
std::string CheckRead(const JournalEntry& read, const Generations& all) {
  const auto found = all.find(read.generation);
  if (found == all.end()) return Tell(read, "was never committed");
  const Installed& own = found->second;
  if (own.from > read.returned) return Tell(read, "was committed later");
  for (const auto& [generation, other] : all) {
    if (generation == read.generation) continue;
    if (other.from > own.to && other.known < read.invoked) {
      return Tell(read, absl::StrCat("is stale: ", generation,
                                     " had replaced it"));
    }
  }
  return "";
}

}  // namespace

std::string CheckJournal(const std::vector<JournalEntry>& journal) {
  std::map<int, Generations> keys;
  for (const JournalEntry& entry : journal) {
    if (entry.returned < entry.invoked) {
      return absl::StrCat("key ", entry.key,
                          ": returned before it was invoked");
    }
    if (entry.kind != JournalKind::kCommit) continue;
    const bool is_there = entry.result == JournalResult::kOk;
    if (!is_there && entry.result != JournalResult::kUnknown) continue;
    const Nanos end = is_there ? entry.returned : kNever;
    const Installed installed = {entry.invoked, end, end};
    if (!keys[entry.key].emplace(entry.generation, installed).second) {
      return absl::StrCat("key ", entry.key, ": generation ",
                          entry.generation, " was committed twice");
    }
  }
  for (const JournalEntry& entry : journal) {
    if (entry.kind != JournalKind::kRead) continue;
    if (entry.result == JournalResult::kTorn) {
      return Tell(entry, "is torn");
    }
    if (entry.result != JournalResult::kOk) continue;
    auto& generations = keys[entry.key];
    const auto found = generations.find(entry.generation);
    if (found == generations.end()) continue;  // told below
    Installed& shown = found->second;
    shown.to = std::min(shown.to, entry.returned);
    shown.known = std::min(shown.known, entry.returned);
  }
  for (const JournalEntry& entry : journal) {
    const bool tells = entry.kind == JournalKind::kRead &&
                       entry.result == JournalResult::kOk;
    if (!tells) continue;
    std::string lie = CheckRead(entry, keys[entry.key]);
    if (!lie.empty()) return lie;
  }
  return "";
}

}  // namespace forecache
