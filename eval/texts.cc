#include "eval/texts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/rng.h"
#include "common/status.h"
#include "nlohmann/json.hpp"

namespace forecache::eval {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBytesPerToken = 8;     // more than any of the texts needs
constexpr size_t kNovelStart = 200'000;  // behind the contents and the names
constexpr size_t kFactsStart = 600'000;
constexpr size_t kNeedleStart = 1'000'000;
constexpr int kNeedleDepths = 10;
constexpr int kRecallFacts = 16;
constexpr uint64_t kRecallSeed = 3;

absl::StatusOr<std::string> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(path.string(), ": not there"));
  }
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

absl::StatusOr<std::string> ReadShared(const TextOptions& options,
                                       const std::string& name) {
  if (options.data.empty()) {
    return absl::NotFoundError(absl::StrCat(
        name, ": needs the shared texts: --data names their folder"));
  }
  return ReadFile(fs::path(options.data) / "text" / name);
}

// `text` as a prompt and its continuation, `options.tokens` in all from the
// beginning, or from the end.
absl::StatusOr<Case> Cut(const std::string& text, bool from_end,
                         const TextOptions& options,
                         const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens = tokenizer.Encode(text, false);
  if (static_cast<int>(tokens.size()) < options.tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", tokens.size(), " tokens, ",
                     options.tokens, " are asked for"));
  }
  if (from_end) tokens.erase(tokens.begin(), tokens.end() - options.tokens);
  tokens.resize(options.tokens);
  const auto all = std::span<const int32_t>(tokens);
  const size_t prompt = options.tokens - options.decoded;
  return Case{.prompt = tokenizer.Decode(all.first(prompt)),
              .forced = tokenizer.Decode(all.subspan(prompt))};
}

absl::StatusOr<std::string> Novel(const TextOptions& options, size_t start) {
  FC_ASSIGN_OR_RETURN(std::string novel,
                      ReadShared(options, "war_and_peace.txt"));
  return novel.substr(std::min(start, novel.size()),
                      kBytesPerToken * options.tokens);
}

// The first `tokens` tokens of the novel at `start`.
absl::StatusOr<std::string> Prose(const TextOptions& options, size_t start,
                                  int tokens, const Tokenizer& tokenizer) {
  FC_ASSIGN_OR_RETURN(const std::string novel, Novel(options, start));
  const std::vector<int32_t> all = tokenizer.Encode(novel, false);
  const size_t count = std::min<size_t>(all.size(), std::max(tokens, 0));
  return tokenizer.Decode(std::span(all).first(count));
}

// Puts `sentence` behind the first sentence that ends at or after `share` of
// `prose`.
void Plant(const std::string& sentence, double share, std::string* prose) {
  size_t at = prose->find(". ", static_cast<size_t>(share * prose->size()));
  if (at == std::string::npos) at = prose->rfind(". ");
  at = at == std::string::npos ? prose->size() : at + 2;
  prose->insert(at, absl::StrCat("\n\n", sentence, "\n\n"));
}

absl::StatusOr<std::string> Maths(const TextOptions& options) {
  FC_ASSIGN_OR_RETURN(const std::string lines,
                      ReadShared(options, "gsm8k_test.jsonl"));
  std::istringstream stream(lines);
  std::string text, line;
  while (std::getline(stream, line) &&
         text.size() < kBytesPerToken * options.tokens) {
    const auto one = nlohmann::json::parse(line, nullptr, false);
    if (one.is_discarded()) return absl::DataLossError("gsm8k_test.jsonl");
    absl::StrAppend(&text, text.empty() ? "" : "\n\n", "Question: ",
                    one.value("question", ""), "\nAnswer: ",
                    one.value("answer", ""));
  }
  return text;
}

absl::StatusOr<std::string> Code() {
  for (const auto& entry : fs::directory_iterator("/usr/lib")) {
    const fs::path path = entry.path() / "argparse.py";
    if (absl::StartsWith(entry.path().filename().string(), "python3") &&
        fs::exists(path)) {
      return ReadFile(path);
    }
  }
  return absl::NotFoundError("/usr/lib/python3*/argparse.py: not there");
}

absl::StatusOr<std::string> Recall(const TextOptions& options) {
  FC_ASSIGN_OR_RETURN(const std::string filler,
                      Novel(options, kNeedleStart));
  const std::vector<std::string> cities = {
      "Paris", "Tokyo", "Cairo", "Lima", "Oslo", "Delhi", "Quito", "Rome",
      "Dakar", "Seoul", "Kyiv", "Milan", "Perth", "Doha", "Accra", "Lyon"};
  Rng rng(kRecallSeed);
  std::vector<std::string> facts;
  for (const std::string& city : cities) {
    facts.push_back(absl::StrCat("The special magic number for ", city, " is ",
                                 100'000 + rng.Below(900'000), ".\n"));
  }
  // Fills a little more than the context: its beginning is cut off.
  const size_t part = size_t(29'000) * options.tokens / 7680 / kRecallFacts;
  std::string text;
  for (int i = 0; i < kRecallFacts; ++i) {
    absl::StrAppend(&text, filler.substr(i * part, part), "\n", facts[i]);
  }
  std::vector<int> order(kRecallFacts);
  for (int i = 0; i < kRecallFacts; ++i) order[i] = i;
  for (int i = kRecallFacts - 1; i > 0; --i) {
    std::swap(order[i], order[rng.Below(i + 1)]);
  }
  for (const int i : order) {
    absl::StrAppend(&text, "\nQuestion: What is the special magic number for ",
                    cities[i], "?\nAnswer: ", facts[i]);
  }
  return text;
}

absl::StatusOr<Text> Facts(const TextOptions& options,
                           const Tokenizer& tokenizer) {
  FC_ASSIGN_OR_RETURN(const std::string file, ReadFile(options.facts));
  const auto facts = nlohmann::json::parse(file, nullptr, false);
  if (!facts.is_array() || facts.empty()) {
    return absl::DataLossError(absl::StrCat(options.facts, ": not a list"));
  }
  constexpr int kFactTokens = 40;
  const int count = static_cast<int>(facts.size());
  FC_ASSIGN_OR_RETURN(
      std::string prose,
      Prose(options, kFactsStart,
            options.tokens - options.decoded - count * kFactTokens,
            tokenizer));
  Case one;
  for (int i = count - 1; i >= 0; --i) {  // from the end: places stay
    Plant(facts[i].value("sentence", ""), (i + 0.5) / count, &prose);
  }
  for (const auto& fact : facts) {
    one.questions.push_back(
        {fact.value("question", ""), fact.value("answer", "")});
  }
  one.prompt = std::move(prose);
  return Text{"facts", {std::move(one)}};
}

absl::StatusOr<Text> Needle(const TextOptions& options,
                            const Tokenizer& tokenizer) {
  FC_ASSIGN_OR_RETURN(
      const std::string prose,
      Prose(options, kNeedleStart, options.tokens - options.decoded,
            tokenizer));
  Text text{"needle", {}};
  for (int i = 0; i < kNeedleDepths; ++i) {
    Case one{.prompt = prose};
    Plant("The secret ingredient of the innkeeper's soup is cardamom. Nobody "
          "else knew that the secret ingredient of the soup was cardamom.",
          (i + 0.5) / kNeedleDepths, &one.prompt);
    one.questions = {
        {"\n\nThe secret ingredient of the innkeeper's soup is", "cardamom"}};
    text.cases.push_back(std::move(one));
  }
  return text;
}

absl::StatusOr<std::string> Folder(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) {
    FC_ASSIGN_OR_RETURN(const std::string content, ReadFile(file));
    absl::StrAppend(&text, content, "\n");
  }
  return text;
}

}  // namespace

std::vector<std::string> TextNames() {
  return {"novel", "maths", "code", "recall", "facts", "needle"};
}

absl::StatusOr<Text> LoadText(const std::string& name,
                              const TextOptions& options,
                              const Tokenizer& tokenizer) {
  if (name == "facts") return Facts(options, tokenizer);
  if (name == "needle") return Needle(options, tokenizer);
  absl::StatusOr<std::string> text =
      name == "novel"    ? Novel(options, kNovelStart)
      : name == "maths"  ? Maths(options)
      : name == "code"   ? Code()
      : name == "recall" ? Recall(options)
      : fs::is_directory(name)
          ? Folder(name)
          : absl::StatusOr<std::string>(absl::InvalidArgumentError(
                absl::StrCat("--text: '", name, "' is neither a folder nor ",
                             "one of novel, maths, code, recall, facts, "
                             "needle")));
  FC_RETURN_IF_ERROR(text.status());
  FC_ASSIGN_OR_RETURN(Case one,
                      Cut(*text, name == "recall", options, tokenizer));
  return Text{name, {std::move(one)}};
}

}  // namespace forecache::eval
