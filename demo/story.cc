#include "demo/story.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status.h"

namespace forecache::demo {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

absl::StatusOr<std::vector<Fact>> ReadFacts(const std::string& path) {
  FC_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON list"));
  }
  std::vector<Fact> facts;
  for (const nlohmann::json& item : json) {
    facts.push_back({.sentence = item.value("sentence", ""),
                     .question = item.value("question", ""),
                     .answer = item.value("answer", "")});
    if (facts.back().question.empty() || facts.back().answer.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": fact ", facts.size(),
                       " lacks its question or its answer"));
    }
  }
  return facts;
}

bool HasFact(const std::string& paragraph, const std::vector<Fact>& facts) {
  return std::any_of(facts.begin(), facts.end(), [&](const Fact& fact) {
    return absl::StrContains(paragraph, fact.sentence);
  });
}

// Leaves out paragraphs without facts, spread evenly, until `bytes` are left.
std::string Shorten(const std::string& text, const std::vector<Fact>& facts,
                    size_t bytes) {
  const std::vector<std::string> paragraphs = absl::StrSplit(text, "\n\n");
  size_t fixed = 0, free = 0;
  for (const std::string& paragraph : paragraphs) {
    (HasFact(paragraph, facts) ? fixed : free) += paragraph.size() + 2;
  }
  const double keep =
      bytes <= fixed ? 0.0 : std::min(1.0, double(bytes - fixed) / free);
  std::vector<std::string> kept;
  double seen = 0, taken = 0;
  for (const std::string& paragraph : paragraphs) {
    if (!HasFact(paragraph, facts)) {
      seen += paragraph.size() + 2;
      if (taken + paragraph.size() / 2.0 > seen * keep) continue;
      taken += paragraph.size() + 2;
    }
    kept.push_back(paragraph);
  }
  return absl::StrJoin(kept, "\n\n");
}

}  // namespace

absl::StatusOr<Story> LoadStory(const std::string& folder, int tokens) {
  if (tokens < kStoryTokensMin || tokens > kStoryTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context: ", tokens, " is not in ", kStoryTokensMin,
                     "..", kStoryTokens));
  }
  Story story;
  FC_ASSIGN_OR_RETURN(story.text, ReadFile(folder + "/text.txt"));
  // The file's last line break is the file's; the text goes on without it.
  if (absl::EndsWith(story.text, "\n")) story.text.pop_back();
  FC_ASSIGN_OR_RETURN(story.facts, ReadFacts(folder + "/facts.json"));
  FC_ASSIGN_OR_RETURN(story.continuation,
                      ReadFile(folder + "/continuation.txt"));
  if (tokens < kStoryTokens) {
    story.text = Shorten(story.text, story.facts,
                         story.text.size() * tokens / kStoryTokens);
  }
  return story;
}

bool Recalls(const Fact& fact, const std::string& completion) {
  return absl::StrContains(absl::AsciiStrToLower(completion),
                           absl::AsciiStrToLower(fact.answer));
}

}  // namespace forecache::demo
