#include "worker/options.h"

#include <CLI/CLI.hpp>

#include <set>

#include "common/limits.h"

namespace forecache {
namespace {

void AddFlags(CLI::App* app, WorkerOptions* o) {
  app->add_option("--model", o->model, "GGUF file of a Llama-family model")
      ->required();
  app->add_option("--store", o->stores,
                  "host:port of a store's gRPC; several, repeated or with "
                  "commas, share each context")
      ->delimiter(',')
      ->required();
  app->add_option("--listen", o->listen,
                  "host:port for gRPC; port 0 takes a free one")
      ->capture_default_str();
  app->add_option("--metrics", o->metrics,
                  "host:port for Prometheus; port 0 takes a free one")
      ->capture_default_str();
  app->add_option("--arena-mib", o->arena_mib,
                  "fast memory for resident KV blocks, in MiB")
      ->capture_default_str()
      ->check(CLI::Range(1, kArenaMibMax));
  app->add_option("--prefill-threads", o->prefill_threads,
                  "threads of a prefill")
      ->capture_default_str()
      ->check(CLI::Range(1, kThreadsMax));
  app->add_option("--decode-threads", o->decode_threads,
                  "threads of a decoded token")
      ->capture_default_str()
      ->check(CLI::Range(1, kThreadsMax));
  app->add_option("--prefill-weights", o->prefill_weights,
                  "bf16: a second, faster copy for prefill; stored: none")
      ->capture_default_str()
      ->check(CLI::IsMember({"bf16", "stored"}));
  app->add_option("--transports", o->transports,
                  "auto, tcp or shm: what the data plane may use")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "tcp", "shm"}));
  app->add_option("--transport-probe", o->transport_probe,
                  "on: measure the way to each store when it connects, and "
                  "take the fastest")
      ->capture_default_str()
      ->check(CLI::IsMember({"on", "off"}));
  app->add_option("--name", o->name, "for logs, here and at the store")
      ->capture_default_str();
  app->add_option("--ready-file", o->ready_file,
                  "written as JSON once the worker serves");
  app->add_option("--log-level", o->log_level, "debug, info, warning, error")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
}

void AddSecurity(CLI::App* app, WorkerOptions* o) {
  app->add_option("--store-token-file", o->store.token_file,
                  "file with the bearer token that the stores know")
      ->check(CLI::ExistingFile);
  app->add_option("--store-ca", o->store.ca,
                  "PEM: who signs the stores' certificates")
      ->check(CLI::ExistingFile);
  app->add_option("--store-cert", o->store.certificate,
                  "PEM: the certificate to show to the stores")
      ->check(CLI::ExistingFile);
  app->add_option("--store-key", o->store.key, "PEM: its key")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-cert", o->tls_cert,
                  "PEM: the certificate chain to show to callers")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-key", o->tls_key, "PEM: its key")
      ->check(CLI::ExistingFile);
  app->add_option("--tls-client-ca", o->tls_client_ca,
                  "PEM: who signs the certificates of callers, who must show "
                  "one")
      ->check(CLI::ExistingFile);
  app->add_flag("--insecure", o->insecure,
                "do without TLS and credentials: to be reached from this host "
                "only, and to stores on this host without --store-ca");
  app->add_flag("--insecure-allow-remote", o->insecure_allow_remote,
                "the same for every host that reaches this one");
}

// A group has at most kStoresMax members, each once.
void CheckStores(const std::vector<std::string>& stores) {
  const std::set<std::string> different(stores.begin(), stores.end());
  if (different.size() != stores.size()) {
    throw CLI::ValidationError("--store", "names a store twice");
  }
  if (stores.size() > kStoresMax) {
    throw CLI::ValidationError(
        "--store", "names more than " + std::to_string(kStoresMax) +
                       " stores");
  }
}

}  // namespace

bool ParseWorkerOptions(int argc, char** argv, WorkerOptions* options,
                        int* exit_code) {
  CLI::App app(
      "A Forecache decode worker: runs the model, holds a bounded part of the "
      "KV, and has the store push what the next token needs.",
      "worker");
  AddFlags(&app, options);
  AddSecurity(&app, options);
  try {
    app.parse(argc, argv);
    CheckStores(options->stores);
  } catch (const CLI::ParseError& error) {
    *exit_code = app.exit(error) == 0 ? 0 : 2;
    return false;
  }
  return true;
}

}  // namespace forecache
