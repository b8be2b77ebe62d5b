#include "bench/tenant_gauges.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr int kLooksMax = 10;
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(2200);

absl::StatusOr<std::string> Scrape(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(std::atoi(address.c_str() + colon + 1));
  inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  std::string reply;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string get =
        "GET /metrics HTTP/1.1\r\nHost: store\r\nConnection: close\r\n\r\n";
    if (write(fd, get.data(), get.size()) > 0) {
      char buffer[4096];
      for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
        reply.append(buffer, n);
      }
    }
  }
  close(fd);
  if (!reply.empty()) return reply;
  return absl::UnavailableError(absl::StrCat(address, ": no metrics"));
}

}  // namespace

absl::StatusOr<double> TenantHeldBytes(const std::string& address,
                                       const std::string& tenant) {
  FC_ASSIGN_OR_RETURN(const std::string metrics, Scrape(address));
  const std::string series =
      absl::StrCat("forecache_store_tenant_held_bytes{tenant=\"", tenant,
                   "\",tier=\"dram\"} ");
  const size_t at = metrics.find(series);
  if (at == std::string::npos) {
    return absl::NotFoundError(absl::StrCat(address, ": no ", series));
  }
  return std::strtod(metrics.c_str() + at + series.size(), nullptr);
}

absl::StatusOr<double> SettledHeldBytes(const std::string& address,
                                        const std::string& tenant) {
  double before = -1;
  for (int look = 0; look < kLooksMax; ++look) {
    FC_ASSIGN_OR_RETURN(const double held, TenantHeldBytes(address, tenant));
    if (held > 0 && held == before) return held;
    before = held;
    absl::SleepFor(kBetweenLooks);
  }
  return absl::DeadlineExceededError(
      absl::StrCat("tenant ", tenant, ": what it holds does not settle"));
}

}  // namespace forecache
