// Errors are absl::Status.  These two macros pass one on to the caller.
#ifndef FORECACHE_COMMON_STATUS_H_
#define FORECACHE_COMMON_STATUS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace forecache {

// The same code, with `context` before the message: what was being done.
inline absl::Status Annotate(const absl::Status& status,
                             const std::string& context) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(context, ": ", status.message()));
}

}  // namespace forecache

#define FC_RETURN_IF_ERROR(expression)                 \
  do {                                                 \
    absl::Status fc_status = (expression);             \
    if (!fc_status.ok()) return fc_status;             \
  } while (false)

#define FC_STATUS_CONCAT_(a, b) a##b
#define FC_STATUS_CONCAT(a, b) FC_STATUS_CONCAT_(a, b)

// FC_ASSIGN_OR_RETURN(auto file, Open(path));
#define FC_ASSIGN_OR_RETURN(left, expression) \
  FC_ASSIGN_OR_RETURN_(FC_STATUS_CONCAT(fc_or_, __LINE__), left, expression)
#define FC_ASSIGN_OR_RETURN_(result, left, expression) \
  auto result = (expression);                          \
  if (!result.ok()) return std::move(result).status(); \
  left = std::move(result).value()

#endif  // FORECACHE_COMMON_STATUS_H_
