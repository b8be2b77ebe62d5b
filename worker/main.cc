// The worker daemon.

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_join.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/ready_file.h"
#include "common/status.h"
#include "common/tls.h"
#include "kvstore/client/group_control.h"
#include "transport/probed_transport.h"
#include "transport/ucx_transport.h"
#include "worker/options.h"
#include "worker/worker_service.h"

namespace forecache {
namespace {

constexpr int kExitWrongUse = 2;
constexpr int kExitMissing = 3;

int ExitCode(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? kExitWrongUse : kExitMissing;
}

// What answers callers; null: no TLS.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(
    const WorkerOptions& options) {
  const bool insecure = options.insecure || options.insecure_allow_remote;
  if (!options.tls_cert.empty() || !options.tls_key.empty()) {
    if (insecure) {
      return absl::InvalidArgumentError("--insecure: contradicts --tls-cert");
    }
    if (options.tls_key.empty() || options.tls_cert.empty() ||
        options.tls_client_ca.empty()) {
      return absl::InvalidArgumentError(
          "--tls-cert: give --tls-key and --tls-client-ca as well: callers "
          "are known by their certificates");
    }
    return TlsServer({options.tls_cert, options.tls_key, options.tls_client_ca},
                     /*clients_must=*/true);
  }
  if (!insecure) {
    return absl::InvalidArgumentError(
        "no credentials: give --tls-cert, --tls-key and --tls-client-ca "
        "(docs/SECURITY.md), or --insecure to serve this host only, without "
        "TLS");
  }
  for (const auto& [flag, address] :
       {std::pair{"--listen", options.listen},
        std::pair{"--metrics", options.metrics}}) {
    if (IsLoopback(address) || options.insecure_allow_remote) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        flag, ": ", address, " is reachable from other hosts, and --insecure "
        "is for this host only. Take 127.0.0.1, or give --tls-cert, --tls-key "
        "and --tls-client-ca instead of --insecure"));
  }
  return grpc::InsecureServerCredentials();
}

absl::StatusOr<std::unique_ptr<ProbedTransport>> MakeTransport(
    const WorkerOptions& options, Metrics* metrics) {
  UcxOptions ucx;
  if (options.transports != "auto") ucx.transports = options.transports;
  FC_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport,
                      OpenUcxTransport(ucx));
  return std::make_unique<ProbedTransport>(
      std::move(transport),
      ProbedTransportOptions{.probe = options.transport_probe == "on",
                             .metrics = metrics});
}

// A store is connected when the way to it is measured, too: so that no request
// meets the probe.
GroupDataPlane ThenMeasured(GroupDataPlane data_plane,
                            ProbedTransport* transport) {
  data_plane.connect = [connect = std::move(data_plane.connect), transport](
                           int member, const StoreAddress& address) {
    FC_RETURN_IF_ERROR(connect(member, address));
    transport->AwaitSettled(2 * kTransportProbeTimeout);
    return absl::OkStatus();
  };
  return data_plane;
}

// Everything a worker is made of, in the order in which it must go away.
struct Daemon {
  WorkerOptions options;
  Metrics metrics;
  int metrics_port = 0;
  std::unique_ptr<ModelRuntime> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<GroupSessions> sessions;
  std::unique_ptr<DataPlaneThread> data_plane;
  std::unique_ptr<GroupControl> control;
  std::unique_ptr<HostArena> arena;
  std::unique_ptr<HostArena> staging;
  std::unique_ptr<WorkCrew> crew;
  std::unique_ptr<WorkerMetrics> worker_metrics;
  std::unique_ptr<Generator> generator;
  std::unique_ptr<RequestQueue> queue;
  std::unique_ptr<WorkerService> service;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::unique_ptr<grpc::Server> server;
  WorkerParts parts;
};

absl::Status LoadModel(Daemon* d) {
  FC_ASSIGN_OR_RETURN(
      d->model, LoadGgmlModel({.path = d->options.model,
                               .max_chunk_tokens = kPrefillChunkTokens,
                               .prefill_threads = d->options.prefill_threads,
                               .decode_threads = d->options.decode_threads,
                               .prefill_weights =
                                   d->options.prefill_weights == "bf16"
                                       ? PrefillWeights::kBf16
                                       : PrefillWeights::kAsStored}));
  FC_ASSIGN_OR_RETURN(d->tokenizer, LoadTokenizer(d->options.model));
  const ModelConfig& config = d->model->config();
  d->parts.fingerprint = {.weights_digest = config.weights_digest,
                          .architecture = config.architecture,
                          .geometry = {.layers = config.layers,
                                       .kv_heads = config.kv_heads,
                                       .head_dim = config.head_dim,
                                       .group = config.group(),
                                       .type = KvType::kF16},
                          .rope_base = config.rope_base};
  LogInfo("model", {{"file", d->options.model},
                    {"name", config.name},
                    {"layers", config.layers},
                    {"query_heads", config.query_heads},
                    {"kv_heads", config.kv_heads},
                    {"head_dim", config.head_dim},
                    {"context", config.context_tokens},
                    {"kv_bytes_per_token", d->parts.geometry().TokenBytes()}});
  return d->parts.geometry().Validate();
}

absl::Status MakeArenas(Daemon* d) {
  const KvGeometry& geometry = d->parts.geometry();
  const int64_t slots =
      (int64_t{d->options.arena_mib} << 20) / geometry.BlockBytes();
  FC_ASSIGN_OR_RETURN(d->arena,
                      HostArena::Create(geometry, static_cast<int>(slots)));
  FC_ASSIGN_OR_RETURN(
      d->staging,
      HostArena::Create(geometry,
                        PrefillStream::StagingSlots(
                            geometry, d->model->config().context_tokens)));
  LogInfo("arena", {{"kind", "host"},
                    {"why", "no CUDA arena in this build"},
                    {"slots", d->arena->slots()},
                    {"bytes", d->arena->slots() * geometry.BlockBytes()},
                    {"staging_bytes",
                     d->staging->slots() * geometry.BlockBytes()}});
  return absl::OkStatus();
}

absl::Status ConnectStores(Daemon* d) {
  // A static member list: its epoch is the first and only one.
  d->sessions = std::make_unique<GroupSessions>(
      MemberList{.epoch = 1, .names = d->options.stores});
  FC_ASSIGN_OR_RETURN(std::unique_ptr<ProbedTransport> transport,
                      MakeTransport(d->options, &d->metrics));
  ProbedTransport* const probed = transport.get();
  StoreCredentialFlags flags = d->options.store;
  flags.insecure = d->options.insecure;
  FC_ASSIGN_OR_RETURN(const StoreCredentials credentials,
                      LoadStoreCredentials(flags, d->options.stores));
  d->data_plane = std::make_unique<DataPlaneThread>(
      std::move(transport), Clock::Real(), d->sessions.get());
  d->control = std::make_unique<GroupControl>(d->options.stores,
                                              d->sessions.get(), credentials);
  FC_RETURN_IF_ERROR(Annotate(
      d->control->Start(d->options.name,
                        ThenMeasured(d->data_plane->ForControl(), probed)),
      "--store"));
  LogInfo("stores", {{"stores", absl::StrJoin(d->options.stores, ",")},
                     {"transport", d->data_plane->transport_name()},
                     {"asked_for", d->options.transports}});
  return absl::OkStatus();
}

// Of all stores, in their order.
std::string StoreIds(const GroupControl& control) {
  std::vector<std::string> ids;
  for (int m = 0; m < control.members(); ++m) {
    ids.push_back(control.address(m).store_id);
  }
  return absl::StrJoin(ids, ",");
}

absl::Status Serve(Daemon* d) {
  d->parts.model = d->model.get();
  d->parts.control = d->control.get();
  d->parts.data_plane = d->data_plane.get();
  d->parts.arena = d->arena.get();
  d->parts.staging = d->staging.get();
  d->parts.crew = d->crew.get();
  d->generator = std::make_unique<Generator>(d->parts, d->tokenizer.get(),
                                             d->worker_metrics.get(),
                                             Clock::Real());
  d->queue = std::make_unique<RequestQueue>();
  d->service = std::make_unique<WorkerService>(
      d->parts, StoreIds(*d->control), d->generator.get(), d->queue.get(),
      d->worker_metrics.get());
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  builder.AddListeningPort(d->options.listen, d->credentials, &port);
  builder.RegisterService(d->service.get());
  d->server = builder.BuildAndStart();
  if (d->server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("--listen: cannot listen on ", d->options.listen,
                     ": is the port in use? Port 0 takes a free one"));
  }
  const auto with_port = [](const std::string& address, int port) {
    return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  };
  const Ready ready{.grpc = with_port(d->options.listen, port),
                    .metrics = with_port(d->options.metrics, d->metrics_port)};
  if (d->options.tls_cert.empty()) {
    LogWarning("INSECURE: no TLS, and whoever reaches the port may use it",
               {{"listen", ready.grpc}});
  }
  LogInfo("serving", {{"grpc", ready.grpc},
                      {"metrics", ready.metrics},
                      {"isa", KernelIsa()}});
  return WriteReadyFile(d->options.ready_file, ready);
}

absl::Status Start(Daemon* d) {
  FC_ASSIGN_OR_RETURN(d->credentials, ServerCredentialsOf(d->options));
  FC_ASSIGN_OR_RETURN(d->metrics_port, d->metrics.Serve(d->options.metrics));
  FC_RETURN_IF_ERROR(LoadModel(d));
  FC_RETURN_IF_ERROR(MakeArenas(d));
  FC_RETURN_IF_ERROR(ConnectStores(d));
  d->crew = std::make_unique<WorkCrew>(d->options.prefill_threads);
  d->worker_metrics = std::make_unique<WorkerMetrics>(&d->metrics);
  return Serve(d);
}

int Main(int argc, char** argv) {
  Daemon daemon;
  int exit_code = 0;
  if (!ParseWorkerOptions(argc, argv, &daemon.options, &exit_code)) {
    return exit_code;
  }
  InitLog("worker", ParseLogLevel(daemon.options.log_level));
  // Signals are taken by one sigwait below: block them in every thread.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const absl::Status started = Start(&daemon);
  if (!started.ok()) {
    std::fprintf(stderr, "worker: %s\n",
                 std::string(started.message()).c_str());
    return ExitCode(started);
  }
  int signal = 0;
  sigwait(&signals, &signal);
  LogInfo("stopping", {{"signal", signal}});
  daemon.server->Shutdown(std::chrono::system_clock::now() +
                          std::chrono::seconds(2));
  return 0;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
