// Assertions that stay on in production.
//
// FC_CHECK is for a caller's bug: the process says where and why, and aborts.
// The world's faults (a peer, a disk, an input) are absl::Status, never this.
#ifndef FORECACHE_COMMON_CHECK_H_
#define FORECACHE_COMMON_CHECK_H_

#include <sstream>
#include <string>

namespace forecache::check_internal {

// Prints file, line, condition and message to stderr, then aborts.
[[noreturn]] void Fail(const char* file, int line, const char* condition,
                       const std::string& message);

// Collects the message streamed behind a failed check.
class Failure {
 public:
  Failure(const char* file, int line, const char* condition)
      : file_(file), line_(line), condition_(condition) {}
  [[noreturn]] ~Failure() { Fail(file_, line_, condition_, message_.str()); }
  std::ostream& stream() { return message_; }

 private:
  const char* file_;
  int line_;
  const char* condition_;
  std::ostringstream message_;
};

}  // namespace forecache::check_internal

// FC_CHECK(n < limit) << "n=" << n;
#define FC_CHECK(condition)                              \
  while (!(condition)) [[unlikely]]                      \
  ::forecache::check_internal::Failure(__FILE__, __LINE__, #condition).stream()

// REQUIRES: `expression` is an absl::Status that must be OK here.
#define FC_CHECK_OK(expression)                                     \
  do {                                                              \
    auto fc_check_status = (expression);                            \
    FC_CHECK(fc_check_status.ok()) << fc_check_status.ToString();   \
  } while (false)

#endif  // FORECACHE_COMMON_CHECK_H_
