// The worker daemon's flags.  A flag is a field here is a row in the README.
#ifndef FORECACHE_WORKER_OPTIONS_H_
#define FORECACHE_WORKER_OPTIONS_H_

#include <string>
#include <vector>

#include "kvstore/client/store_credentials.h"

namespace forecache {

// Threads: a value.
struct WorkerOptions {
  std::string model;                          // --model
  std::vector<std::string> stores;            // --store
  std::string listen = "127.0.0.1:0";         // --listen
  std::string metrics = "127.0.0.1:0";        // --metrics
  bool insecure = false;                      // --insecure
  bool insecure_allow_remote = false;         // --insecure-allow-remote
  std::string tls_cert, tls_key;              // --tls-cert, --tls-key
  std::string tls_client_ca;                  // --tls-client-ca
  StoreCredentialFlags store;                 // --store-ca and so on
  int arena_mib = 256;                        // --arena-mib
  int prefill_threads = 2;                    // --prefill-threads
  int decode_threads = 1;                     // --decode-threads
  std::string prefill_weights = "bf16";       // --prefill-weights
  std::string transports = "auto";            // --transports
  std::string transport_probe = "on";         // --transport-probe
  std::string name = "worker";                // --name
  std::string ready_file;                     // --ready-file
  std::string log_level = "info";             // --log-level
};

// Parses the command line.  Returns true and fills `options`, or false with
// the exit code: 0 after --help, 2 after wrong use (already explained).
bool ParseWorkerOptions(int argc, char** argv, WorkerOptions* options,
                        int* exit_code);

}  // namespace forecache

#endif  // FORECACHE_WORKER_OPTIONS_H_
