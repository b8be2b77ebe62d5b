// Structured logs: one line an event, key=value fields, to stderr.
#ifndef FORECACHE_COMMON_LOG_H_
#define FORECACHE_COMMON_LOG_H_

#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace forecache {

// One key=value of a log line.  Any number or string will do as the value.
struct LogField {
  LogField(std::string_view key, const absl::AlphaNum& value)
      : key(key), value(value.Piece()) {}
  std::string_view key;
  std::string value;
};

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// From a flag: "debug", "info", "warning" or "error"; anything else is kInfo.
LogLevel ParseLogLevel(std::string_view name);

// Says which daemon this is, and from which level on it speaks.
void InitLog(std::string_view program, LogLevel level);

// Logs `event` (a short name in words) with its fields.
//
// Threads: safe to call from any thread.
void Log(LogLevel level, std::string_view event,
         std::initializer_list<LogField> fields = {});

inline void LogInfo(std::string_view event,
                    std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, event, fields);
}
inline void LogWarning(std::string_view event,
                       std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, event, fields);
}
inline void LogError(std::string_view event,
                     std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, event, fields);
}

}  // namespace forecache

#endif  // FORECACHE_COMMON_LOG_H_
