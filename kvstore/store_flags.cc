#include "kvstore/store_flags.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/tls.h"
#include "kvstore/eviction/policy.h"

namespace forecache {
namespace {

constexpr int kWrongUse = 2;

std::string CheckAddress(const std::string& address) {
  size_t colon = address.rfind(':');
  std::string port =
      colon == std::string::npos ? "" : address.substr(colon + 1);
  bool digits = !port.empty() && port.size() <= 5 &&
                port.find_first_not_of("0123456789") == std::string::npos;
  if (colon == 0 || !digits || std::stoi(port) > 65535) {
    return "must be host:port, for example 127.0.0.1:7070";
  }
  return "";
}

void AddProbeFlags(CLI::App* app, StoreFlags* flags) {
  app->add_option("--probe", flags->probe,
                 "score sealed segments by their codes, or exact")
      ->check(CLI::IsMember({"codes", "exact"}))
      ->capture_default_str();
  app->add_option("--probe-codes", flags->probe_codes,
                 "bits of the codes that segments get: 4, or 2 rotated")
      ->check(CLI::IsMember({2, 4}))
      ->capture_default_str();
  app->add_option("--scan-threads", flags->scan_threads,
                 "threads that score blocks; 0: the data plane's own, best "
                 "with few cores")
      ->check(CLI::Range(0, kScanThreadsMax))
      ->capture_default_str();
}

void AddSecurity(CLI::App* app, StoreFlags* flags) {
  app->add_option("--tenants-file", flags->tenants_file,
                  "JSON: who may use the store, and what of it; read again on "
                  "SIGHUP and when it changes")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-cert", flags->tls_cert,
                  "PEM: the store's certificate chain")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-key", flags->tls_key, "PEM: its key")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-client-ca", flags->tls_client_ca,
                  "PEM: who signs the certificates of clients that show one")
      ->check(CLI::ExistingFile);
  app->add_option("--admin-listen", flags->admin_listen,
                  "gRPC address of the admin's calls")
      ->check(CheckAddress)
      ->capture_default_str();
  app->add_option("--admin-token-file", flags->admin_token_file,
                  "file with the admin's bearer token; without it there is no "
                  "admin port, but with --insecure")
      ->check(CLI::ExistingFile);
  app->add_flag("--insecure", flags->insecure,
                "no TLS: to be reached from this host only; without "
                "--tenants-file everybody is the tenant 'default'");
  app->add_flag("--insecure-allow-remote", flags->insecure_allow_remote,
                "the same for every host that reaches this one: for benches "
                "in network namespaces of their own");
}

void AddSsdFlags(CLI::App* app, StoreFlags* flags) {
  app->add_option("--ssd-dir", flags->ssd_dir,
                  "folder on an SSD where sealed segments are kept and found "
                  "again after a restart; default: memory only");
  app->add_option("--ssd-mib", flags->ssd_mib,
                  "most that --ssd-dir may take, in MiB")
      ->check(CLI::Range(size_t{8}, size_t{1} << 26))
      ->capture_default_str();
  app->add_option("--ssd-write-mib-per-s", flags->ssd_write_mib_per_s,
                  "bound of the writes to SSD; 0: none")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
  app->add_option("--ssd-promote-mib-per-s", flags->ssd_promote_mib_per_s,
                  "bound of what is copied from SSD to memory; 0: none")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
  app->add_option("--ssd-scrub-mib-per-s", flags->ssd_scrub_mib_per_s,
                  "how fast all segments on SSD are read and checked, again "
                  "and again; 0: never")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str();
}

bool ProbeFitsTiers(const StoreFlags& flags) {
  if (flags.ssd_dir.empty() || flags.probe != "exact") return true;
  std::cerr << "store: --probe exact reads keys from memory, and those of "
               "segments in --ssd-dir are not there: use --probe codes.\n";
  return false;
}

// What does not fit together; "" when all does.
std::string CheckSecurity(const StoreFlags& flags) {
  if (flags.tls_cert.empty() != flags.tls_key.empty()) {
    return "--tls-cert and --tls-key: give both or none";
  }
  const bool tls = !flags.tls_cert.empty();
  if (!flags.tls_client_ca.empty() && !tls) {
    return "--tls-client-ca: needs --tls-cert and --tls-key";
  }
  if (flags.insecure || flags.insecure_allow_remote) {
    if (tls) return "--insecure: contradicts --tls-cert";
    for (const auto& [flag, address] :
         {std::pair{"--listen", flags.listen},
          std::pair{"--metrics", flags.metrics},
          std::pair{"--admin-listen", flags.admin_listen}}) {
      if (IsLoopback(address) || flags.insecure_allow_remote) continue;
      return absl::StrCat(
          flag, " ", address, " is reachable from other hosts, and --insecure "
          "is for this host only. Listen on 127.0.0.1, or give --tls-cert, "
          "--tls-key and --tenants-file instead of --insecure");
    }
    return "";
  }
  if (!tls || flags.tenants_file.empty()) {
    return "no credentials: give --tls-cert, --tls-key and --tenants-file "
           "(docs/SECURITY.md), or --insecure to serve this host only, "
           "without TLS";
  }
  return "";
}

}  // namespace

int ParseStoreFlags(int argc, char** argv, StoreFlags* flags) {
  CLI::App app("A Forecache store: holds the KV blocks of contexts.", "store");
  app.add_option("--listen", flags->listen,
                 "gRPC address; port 0 picks a free one")
      ->check(CheckAddress)
      ->capture_default_str();
  app.add_option("--metrics", flags->metrics, "address of /metrics")
      ->check(CheckAddress)
      ->capture_default_str();
  app.add_option("--dram-mib", flags->dram_mib, "memory for blocks, in MiB")
      ->check(CLI::Range(size_t{1}, size_t{1} << 26))
      ->capture_default_str();
  app.add_flag("--prefault-dram", flags->prefault_dram,
               "take all of that memory at start, not as it fills: first puts "
               "are faster, and too little memory shows at once");
  app.add_option("--transports", flags->transports,
                 "data plane: auto, tcp or shm")
      ->check(CLI::IsMember({"auto", "tcp", "shm"}))
      ->capture_default_str();
  app.add_option("--transport-probe", flags->transport_probe,
                 "on: measure the way to each worker that measured its own, "
                 "and take the fastest")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--ready-file", flags->ready_file,
                 "written once the store serves: pid and addresses as JSON");
  AddProbeFlags(&app, flags);
  app.add_option("--eviction", flags->eviction,
                 "which segments go first when memory is short")
      ->check(CLI::IsMember(EvictionPolicyNames()))
      ->capture_default_str();
  app.add_option("--log-level", flags->log_level,
                 "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  app.add_option("--store-id", flags->store_id,
                 "name of this store; default: store-<pid>")
      ->check([](const std::string& id) {
        return id.size() <= 128 ? "" : std::string("at most 128 bytes");
      });
  app.add_option("--tenant-secret-file", flags->tenant_secret,
                 "file whose bytes key the segments' ids; default: random, "
                 "kept in --ssd-dir when there is one")
      ->check(CLI::ExistingFile);
  app.add_option("--drain-seconds", flags->drain_seconds,
                 "after SIGTERM, how long open sessions may go on")
      ->check(CLI::Range(Nanos{0}, kDrainTimeoutMax / kSecond))
      ->capture_default_str();
  AddSsdFlags(&app, flags);
  app.add_flag("--enable-fault-injection", flags->enable_fault_injection,
               "let StoreAdmin.CorruptBlock damage blocks; for tests");
  AddSecurity(&app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUse;
  }
  if (!ProbeFitsTiers(*flags)) return kWrongUse;
  const std::string wrong = CheckSecurity(*flags);
  if (wrong.empty()) return -1;
  std::cerr << "store: " << wrong << "\n";
  return kWrongUse;
}

}  // namespace forecache
