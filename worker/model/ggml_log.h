// Where llama.cpp's and ggml's own log lines go.
//
// They speak freely on stderr unless told otherwise.  Here only their errors
// are kept: into the status of whoever asked, or else into our log.
#ifndef FORECACHE_WORKER_MODEL_GGML_LOG_H_
#define FORECACHE_WORKER_MODEL_GGML_LOG_H_

#include <string>

namespace forecache {

// Sends both libraries' errors to Log() and drops everything else.  Later
// calls do nothing.
//
// Threads: safe to call from any thread.
void SilenceGgmlLogs();

// While one lives, the errors of this thread are collected instead of logged:
// the caller says them in its status.  They do not nest.
//
// Threads: belongs to the thread that made it.
class GgmlErrors {
 public:
  GgmlErrors();
  ~GgmlErrors();
  GgmlErrors(const GgmlErrors&) = delete;
  GgmlErrors& operator=(const GgmlErrors&) = delete;

  // The errors so far in one line, or "no reason given".
  std::string Text() const;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_GGML_LOG_H_
