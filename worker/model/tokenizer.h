// Text to tokens and back, by libllama's vocabulary.
#ifndef FORECACHE_WORKER_MODEL_TOKENIZER_H_
#define FORECACHE_WORKER_MODEL_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace forecache {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// Threads: safe to call from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // No special tokens are added; with `parse_special`, those written in the
  // text ("<|im_start|>") become tokens.  Bytes that are not UTF-8 may come
  // back from Decode as U+FFFD; all other text comes back as it was.
  // REQUIRES: text.size() <= kPromptBytesMax.
  virtual std::vector<int32_t> Encode(std::string_view text,
                                      bool parse_special) const = 0;
  // The bytes of `tokens`, special ones as they are written; one token may be
  // part of a UTF-8 character.  The pieces of a whole are the whole's pieces:
  // Decode(a) + Decode(b) == Decode(a + b).
  // REQUIRES: each token is within the vocabulary.
  virtual std::string Decode(std::span<const int32_t> tokens) const = 0;
  virtual bool IsEndOfText(int32_t token) const = 0;
  virtual int vocabulary() const = 0;

  // The prompt of a conversation by the model's own chat template, open for
  // the assistant's answer: Encode it with parse_special.  kInvalidArgument:
  // longer than kPromptBytesMax; kFailedPrecondition: the model has no
  // template; kUnimplemented: libllama does not know it.
  virtual absl::StatusOr<std::string> ApplyChatTemplate(
      std::span<const ChatMessage> messages) const = 0;
};

// Errors as LoadGgmlModel.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const std::string& path);

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_TOKENIZER_H_
