// The demo's text: a long passage with facts planted in it, the questions
// about them, and the passage's own continuation, held back.
#ifndef FORECACHE_DEMO_STORY_H_
#define FORECACHE_DEMO_STORY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace forecache::demo {

struct Fact {
  std::string sentence;  // as planted
  std::string question;  // a sentence for the model to complete
  std::string answer;    // must appear in the completion
};

struct Story {
  std::string text;  // with the facts in it
  std::vector<Fact> facts;
  std::string continuation;
};

inline constexpr int kStoryTokens = 7000;  // of the whole text, about
inline constexpr int kStoryTokensMin = 1000;

// Reads text.txt, facts.json and continuation.txt from `folder`.  Fewer than
// kStoryTokens: paragraphs without a fact are left out, evenly, until about
// `tokens` are left.  Errors name the file, or the limit of `tokens`.
absl::StatusOr<Story> LoadStory(const std::string& folder, int tokens);

// Whether a completion gives the fact's answer, upper or lower case.
bool Recalls(const Fact& fact, const std::string& completion);

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_STORY_H_
