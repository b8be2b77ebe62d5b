// The texts of the evaluation: contexts whose end is known, and questions whose
// answers are.
#ifndef FORECACHE_EVAL_TEXTS_H_
#define FORECACHE_EVAL_TEXTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/model/tokenizer.h"

namespace forecache::eval {

struct Question {
  std::string question;  // decoded after the context
  std::string answer;    // must appear in the completion, upper or lower case
};

// One context.
struct Case {
  std::string prompt;
  std::string forced;  // its true continuation, may be empty
  std::vector<Question> questions;
};

struct Text {
  std::string name;
  std::vector<Case> cases;
};

struct TextOptions {
  std::string data;   // folder with the shared texts, "" without
  std::string facts;  // file of facts to plant
  int tokens = 7680;  // of a context, its continuation included
  int decoded = 256;  // of the continuation
};

// The names that LoadText knows: novel, maths, code, recall, facts, needle.
std::vector<std::string> TextNames();

// A text by its name, or made of the files of a folder (`name` is then a path).
// kNotFound says which file is missing; kInvalidArgument: no such name, or the
// text is shorter than asked for.
//
//   novel   prose: a public-domain novel
//   maths   many worked questions (gsm8k)
//   code    Python's own argparse module, as Debian ships it
//   recall  16 look-alike numbers in prose, asked for in random order: judged
//           by loss, as the prototype's keyvalue text
//   facts   16 facts of different kinds in prose, asked for by completion
//   needle  one sentence at 10 depths, asked for by completion
absl::StatusOr<Text> LoadText(const std::string& name,
                              const TextOptions& options,
                              const Tokenizer& tokenizer);

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_TEXTS_H_
