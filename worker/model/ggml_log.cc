#include "worker/model/ggml_log.h"

#include <mutex>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "common/check.h"
#include "common/log.h"
#include "ggml.h"
#include "llama.h"

namespace forecache {
namespace {

struct ThreadErrors {
  bool collecting = false;
  bool last_was_error = false;  // a "continue" line goes where its head went
  std::string text;
};

thread_local ThreadErrors thread_errors;

void OnLine(ggml_log_level level, const char* text, void*) {
  ThreadErrors& errors = thread_errors;
  if (level != GGML_LOG_LEVEL_CONT) {
    errors.last_was_error = level == GGML_LOG_LEVEL_ERROR;
  }
  if (!errors.last_was_error) return;
  if (errors.collecting) {
    errors.text += text;
  } else {
    LogError("ggml error",
             {{"text", absl::StripAsciiWhitespace(absl::string_view(text))}});
  }
}

}  // namespace

void SilenceGgmlLogs() {
  static std::once_flag once;
  // llama_log_set sets ggml's callback too.
  std::call_once(once, [] { llama_log_set(OnLine, nullptr); });
}

GgmlErrors::GgmlErrors() {
  SilenceGgmlLogs();
  FC_CHECK(!thread_errors.collecting);
  thread_errors.collecting = true;
  thread_errors.text.clear();
}

GgmlErrors::~GgmlErrors() { thread_errors.collecting = false; }

std::string GgmlErrors::Text() const {
  const absl::string_view text =
      absl::StripAsciiWhitespace(thread_errors.text);
  if (text.empty()) return "no reason given";
  return absl::StrReplaceAll(text, {{"\n", "; "}});
}

}  // namespace forecache
