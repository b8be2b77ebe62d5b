// The store daemon's flags.
#ifndef FORECACHE_KVSTORE_STORE_FLAGS_H_
#define FORECACHE_KVSTORE_STORE_FLAGS_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "common/limits.h"
#include "kvstore/eviction/policy.h"

namespace forecache {

// Threads: a value.
struct StoreFlags {
  std::string listen = "127.0.0.1:0";
  std::string metrics = "127.0.0.1:0";
  size_t dram_mib = 1024;
  bool prefault_dram = false;
  std::string transports = "auto";
  std::string transport_probe = "on";
  std::string ready_file;
  std::string probe = "codes";
  int probe_codes = 4;  // bits
  int scan_threads = 0;
  std::string eviction = kEvictionDefault;
  std::string log_level = "info";
  std::string store_id;       // default: store-<pid>
  std::string tenant_secret;  // file; default: random, or in --ssd-dir
  std::string ssd_dir;        // "": no SSD tier
  size_t ssd_mib = 4096;
  size_t ssd_write_mib_per_s = 0;
  size_t ssd_promote_mib_per_s = 0;
  size_t ssd_scrub_mib_per_s = kSsdScrubBytesPerSecond >> 20;
  int drain_seconds = kDrainTimeoutDefault / kSecond;
  bool enable_fault_injection = false;
  std::string tenants_file;
  std::string tls_cert, tls_key, tls_client_ca;
  std::string admin_listen = "127.0.0.1:0";
  std::string admin_token_file;
  bool insecure = false;
  bool insecure_allow_remote = false;
};

// Fills `flags` from the command line.  Returns -1 to go on, or the exit code:
// 0 after --help, 2 for wrong use, which it has told on stderr.
int ParseStoreFlags(int argc, char** argv, StoreFlags* flags);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_STORE_FLAGS_H_
