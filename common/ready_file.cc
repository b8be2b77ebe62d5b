#include "common/ready_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace forecache {

absl::Status WriteReadyFile(const std::string& path, const Ready& ready) {
  if (path.empty()) return absl::OkStatus();
  const std::string part = path + ".part";
  std::ofstream file(part);
  file << nlohmann::json{{"pid", getpid()},
                         {"grpc", ready.grpc},
                         {"metrics", ready.metrics},
                         {"admin", ready.admin}}
              .dump()
       << "\n";
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat(
        "--ready-file: cannot write ", path, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace forecache
