// Tokenizer by libllama, of which only the vocabulary is loaded.
#include <mutex>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/status.h"
#include "llama.h"
#include "worker/model/ggml_log.h"
#include "worker/model/gguf_file.h"
#include "worker/model/tokenizer.h"

namespace forecache {
namespace {

struct ModelDeleter {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
using ModelPtr = std::unique_ptr<llama_model, ModelDeleter>;

// libllama's vocabulary is immutable once loaded.
//
// Threads: safe to call from any thread.
class LlamaTokenizer : public Tokenizer {
 public:
  explicit LlamaTokenizer(ModelPtr model)
      : model_(std::move(model)), vocab_(llama_model_get_vocab(model_.get())) {}

  std::vector<int32_t> Encode(std::string_view text,
                              bool parse_special) const override;
  std::string Decode(std::span<const int32_t> tokens) const override;
  bool IsEndOfText(int32_t token) const override;
  int vocabulary() const override { return llama_vocab_n_tokens(vocab_); }
  absl::StatusOr<std::string> ApplyChatTemplate(
      std::span<const ChatMessage> messages) const override;

 private:
  const ModelPtr model_;
  const llama_vocab* const vocab_;
};

std::vector<int32_t> LlamaTokenizer::Encode(std::string_view text,
                                            bool parse_special) const {
  FC_CHECK(text.size() <= kPromptBytesMax) << text.size();
  // No token is shorter than a byte, but a vocabulary may put a space before
  // the text.
  std::vector<int32_t> tokens(text.size() + 2);
  const int32_t count = llama_tokenize(
      vocab_, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
      static_cast<int32_t>(tokens.size()), /*add_special=*/false,
      parse_special);
  FC_CHECK(count >= 0) << count << " tokens for " << text.size() << " bytes";
  tokens.resize(count);
  return tokens;
}

std::string LlamaTokenizer::Decode(std::span<const int32_t> tokens) const {
  std::string text;
  // Token by token: llama_detokenize may trim spaces, which makes the text of
  // two halves differ from the whole.
  for (const int32_t token : tokens) {
    FC_CHECK(token >= 0 && token < vocabulary()) << "token " << token;
    char piece[256];
    int32_t bytes = llama_token_to_piece(vocab_, token, piece, sizeof(piece),
                                         /*lstrip=*/0, /*special=*/true);
    if (bytes >= 0) {
      text.append(piece, bytes);
      continue;
    }
    std::string longer(-bytes, '\0');
    bytes = llama_token_to_piece(vocab_, token, longer.data(), -bytes, 0, true);
    FC_CHECK(bytes == static_cast<int32_t>(longer.size())) << bytes;
    text += longer;
  }
  return text;
}

bool LlamaTokenizer::IsEndOfText(int32_t token) const {
  return token >= 0 && token < vocabulary() &&
         llama_vocab_is_eog(vocab_, token);
}

absl::StatusOr<std::string> LlamaTokenizer::ApplyChatTemplate(
    std::span<const ChatMessage> messages) const {
  const char* chat_template = llama_model_chat_template(model_.get(), nullptr);
  if (chat_template == nullptr) {
    return absl::FailedPreconditionError("the model has no chat template");
  }
  std::vector<llama_chat_message> chat;
  size_t bytes = 0;
  for (const ChatMessage& message : messages) {
    chat.push_back({message.role.c_str(), message.content.c_str()});
    bytes += message.role.size() + message.content.size();
  }
  if (bytes > kPromptBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a conversation of ", bytes, " bytes; the limit is ",
                     kPromptBytesMax));
  }
  std::string prompt(bytes + 1024, '\0');
  for (int attempt = 0; attempt < 2; ++attempt) {
    const int32_t needed = llama_chat_apply_template(
        chat_template, chat.data(), chat.size(), /*add_ass=*/true,
        prompt.data(), static_cast<int32_t>(prompt.size()));
    if (needed < 0) {
      return absl::UnimplementedError(
          "the model's chat template is none that libllama knows");
    }
    const bool fits = static_cast<size_t>(needed) <= prompt.size();
    prompt.resize(needed);
    if (fits) return prompt;
  }
  return absl::InternalError("libllama changed its mind on a prompt's length");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const std::string& path) {
  // libllama doesn't look at the tensors here; a cut file should be told
  // from a good one all the same.
  FC_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file,
                      GgufFile::Open(path));
  static std::once_flag backend_once;
  std::call_once(backend_once, [] { llama_backend_init(); });
  GgmlErrors errors;
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  ModelPtr model(llama_model_load_from_file(path.c_str(), params));
  if (model == nullptr) {
    return file->Damaged(
        absl::StrCat("its vocabulary does not load: ", errors.Text()));
  }
  return std::make_unique<LlamaTokenizer>(std::move(model));
}

}  // namespace forecache
