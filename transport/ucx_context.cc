#include "transport/ucx_context.h"

#include <ucs/debug/log_def.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache::ucx_internal {
namespace {

struct Setting {
  const char* transport;  // UCX complains of what concerns none that it uses
  const char* name;
  const char* value;
};

constexpr char kAny[] = "";
constexpr char kShm[] = "shm";
constexpr char kTcp[] = "tcp";

// UCX guesses from its own table of devices; these were measured (see
// `./forecache bench transport`).
constexpr Setting kSettings[] = {
    // Without it UCX 1.13 drops shared memory from every endpoint that asks
    // to learn of its peer's death, and says nothing.
    {kShm, "MM_ERROR_HANDLING", "y"},
    // A process that is killed while it writes into our shared queue leaves a
    // hole there that we wait for ever at.  So what is large does not pass the
    // queue: by rendezvous the receiver fetches it from the sender's memory.
    {kAny, "RNDV_THRESH", "8k"},
    // A queue that is full when its reader dies can't be closed (UCX waits for
    // room in it): so let it hold more than a store has under way.
    {kShm, "MM_FIFO_SIZE", "512"},
    // The queue's elements each take a buffer of this pool when it starts.
    // With no more than that in one allocation, UCX leaves some without: the
    // peer then fails to attach to segment 0 ("shmat(shmid=0) failed").
    {kShm, "MM_RX_BUFS_GROW", "1024"},
    // Pieces of 8K, as UCX would have it, halve TCP's rate.
    {kTcp, "TX_SEG_SIZE", "256k"},
    {kTcp, "RX_SEG_SIZE", "256k"},
    // A copy more, but UCX 1.13 crashes when it closes an endpoint by force in
    // the middle of a TCP send without one: it completes the request twice.
    {kTcp, "ZCOPY_THRESH", "inf"},
    // How soon a peer's death on the same host shows.
    {kAny, "KEEPALIVE_INTERVAL", "1s"},
};

ucs_log_func_rc_t ForwardLog(const char*, unsigned, const char*,
                             ucs_log_level_t level,
                             const ucs_log_component_config_t*,
                             const char* format, va_list arguments) {
  if (level > UCS_LOG_LEVEL_WARN) return UCS_LOG_FUNC_RC_CONTINUE;
  char line[512];
  vsnprintf(line, sizeof(line), format, arguments);
  // One line for each request that a dead peer left; we have said it in one.
  if (absl::StrContains(line, "was not returned to mpool")) {
    return UCS_LOG_FUNC_RC_STOP;
  }
  Log(level == UCS_LOG_LEVEL_WARN ? LogLevel::kWarning : LogLevel::kError,
      "ucx", {{"message", line}});
  return UCS_LOG_FUNC_RC_STOP;
}

absl::Status Set(ucp_config_t* config, const std::string& name,
                 const std::string& value) {
  return FromUcs(ucp_config_modify(config, name.c_str(), value.c_str()),
                 absl::StrCat("UCX setting ", name, "=", value));
}

absl::Status Configure(ucp_config_t* config, const UcxOptions& options) {
  std::string chosen;
  for (const Setting& setting : kSettings) {
    if (options.transports != "all" &&
        !absl::StrContains(options.transports, setting.transport)) {
      continue;
    }
    // The operator's environment knows better.
    if (getenv(absl::StrCat("UCX_", setting.name).c_str()) != nullptr) continue;
    FC_RETURN_IF_ERROR(Set(config, setting.name, setting.value));
    absl::StrAppend(&chosen, setting.name, "=", setting.value, " ");
  }
  if (options.transports != "all") {
    FC_RETURN_IF_ERROR(Set(config, "TLS", options.transports));
  }
  if (options.net_devices != "all") {
    FC_RETURN_IF_ERROR(Set(config, "NET_DEVICES", options.net_devices));
  }
  for (const auto& [name, value] : options.settings) {
    FC_RETURN_IF_ERROR(Set(config, name, value));
    absl::StrAppend(&chosen, name, "=", value, " ");
  }
  LogInfo("ucx configured", {{"version", UcxVersion()},
                             {"transports", options.transports},
                             {"net_devices", options.net_devices},
                             {"settings", chosen}});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ucp_context_h> OpenContext(const UcxOptions& options) {
  static std::once_flag forwarded;
  std::call_once(forwarded, [] { ucs_log_push_handler(&ForwardLog); });

  ucp_config_t* config = nullptr;
  FC_RETURN_IF_ERROR(
      FromUcs(ucp_config_read(nullptr, nullptr, &config), "UCX configuration"));
  absl::Status configured = Configure(config, options);
  if (!configured.ok()) {
    ucp_config_release(config);
    return configured;
  }
  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.name = "forecache";
  ucp_context_h context = nullptr;
  const ucs_status_t status = ucp_init(&params, config, &context);
  ucp_config_release(config);
  FC_RETURN_IF_ERROR(FromUcs(
      status, absl::StrCat("opening UCX for transports ", options.transports,
                           " on devices ", options.net_devices)));
  return context;
}

absl::Status FromUcs(ucs_status_t status, const std::string& what) {
  const std::string message =
      absl::StrCat(what, ": ", ucs_status_string(status));
  switch (status) {
    case UCS_OK:
      return absl::OkStatus();
    case UCS_ERR_CANCELED:
      return absl::CancelledError(message);
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
      return absl::ResourceExhaustedError(message);
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
      return absl::InvalidArgumentError(message);
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_REJECTED:
    case UCS_ERR_ENDPOINT_TIMEOUT:
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_IO_ERROR:
    case UCS_ERR_SHMEM_SEGMENT:
    case UCS_ERR_NO_DEVICE:
    case UCS_ERR_NO_ELEM:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

// UCX 1.13 tells it only in the text it prints: the line of the lane that
// carries active messages reads "lane[0]:  4:posix/memory.0 ... am am_bw#0".
std::string EndpointTransport(ucp_ep_h endpoint) {
  char* text = nullptr;
  size_t size = 0;
  FILE* stream = open_memstream(&text, &size);
  if (stream == nullptr) return "unknown";
  ucp_ep_print_info(endpoint, stream);
  fclose(stream);
  std::string name = "unknown";
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text, size), '\n')) {
    if (!absl::StrContains(line, "lane[") || !absl::StrContains(line, " am ")) {
      continue;
    }
    if (absl::StrContains(line, ":tcp/")) {
      name = "tcp";
    } else if (absl::StrContains(line, ":posix/") ||
               absl::StrContains(line, ":sysv/") ||
               absl::StrContains(line, ":self/")) {
      name = "shm";
    } else {
      name = "rdma";
    }
    break;
  }
  free(text);
  return name;
}

}  // namespace forecache::ucx_internal

namespace forecache {

std::string UcxVersion() {
  unsigned major, minor, release;
  ucp_get_version(&major, &minor, &release);
  return absl::StrCat(major, ".", minor, ".", release);
}

}  // namespace forecache
