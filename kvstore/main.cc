// The store daemon.
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/ready_file.h"
#include "common/status.h"
#include "common/tls.h"
#include "kernels/block_scores.h"
#include "kvstore/daemon_loop.h"
#include "kvstore/data_plane.h"
#include "kvstore/self_check.h"
#include "kvstore/ssd/uring_disk.h"
#include "kvstore/store.h"
#include "kvstore/store_flags.h"
#include "kvstore/store_service.h"
#include "kvstore/tenant_reload.h"
#include "transport/probed_transport.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr int kDone = 0;
constexpr int kSomethingMissing = 3;
// The service name of readiness in grpc.health.v1.Health.
constexpr char kReadyService[] = "ready";
constexpr Nanos kShutdownGrace = 2 * kSecond;
constexpr Nanos kFlushGrace = 10 * kSecond;
constexpr char kSecretFile[] = "secret";  // of --ssd-dir

int Fail(const absl::Status& status) {
  std::cerr << "store: " << status.message() << "\n";
  return kSomethingMissing;
}

// The secret that is kept beside the segments whose ids it keys.
absl::StatusOr<TenantSecret> KeptSecret(Disk* disk) {
  FC_RETURN_IF_ERROR(disk->Lock());
  auto kept = disk->ReadFile(kSecretFile);
  TenantSecret secret = TenantSecret::Random();
  const size_t size = secret.bytes.size();
  if (absl::IsNotFound(kept.status())) {
    std::string bytes(size, 0);
    std::memcpy(bytes.data(), secret.bytes.data(), size);
    FC_RETURN_IF_ERROR(disk->WriteFile(kSecretFile, bytes));
    return secret;
  }
  FC_RETURN_IF_ERROR(kept.status());
  if (kept->size() != size) {
    return absl::DataLossError(absl::StrCat(
        disk->Name(), ": '", kSecretFile, "' has ", kept->size(),
        " bytes, must have ", size, ": without it the segments are lost"));
  }
  std::memcpy(secret.bytes.data(), kept->data(), size);
  return secret;
}

absl::StatusOr<TenantSecret> LoadTenantSecret(const std::string& path,
                                              Disk* disk) {
  if (path.empty() && disk != nullptr) return KeptSecret(disk);
  if (path.empty()) return TenantSecret::Random();
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file || bytes.str().size() < 16) {
    return absl::NotFoundError(absl::StrCat(
        "--tenant-secret-file ", path, ": need a file of 16 bytes or more"));
  }
  return TenantSecret::FromPhrase(bytes.str());
}

absl::StatusOr<std::unique_ptr<Transport>> OpenTransport(
    const StoreFlags& flags, Metrics* metrics) {
  UcxOptions options;
  if (flags.transports != "auto") options.transports = flags.transports;
  auto transport = OpenUcxTransport(options);
  if (transport.ok()) {
    return std::make_unique<ProbedTransport>(
        *std::move(transport),
        ProbedTransportOptions{.probe = flags.transport_probe == "on",
                               .metrics = metrics});
  }
  return Annotate(transport.status(),
                  absl::StrCat("--transports ", flags.transports));
}

// Says to gRPC's health checks whether work should come; that the process lives
// is the empty service name's answer, as long as the server runs.
void SetReady(grpc::Server* server, bool ready) {
  server->GetHealthCheckService()->SetServingStatus(kReadyService, ready);
}

// What was recovered is known when the store exists; what is left is whether
// the data plane answers.
absl::Status CheckReady(const StoreFlags& flags, DataPlane* data_plane) {
  UcxOptions options;
  if (flags.transports != "auto") options.transports = flags.transports;
  FC_ASSIGN_OR_RETURN(auto transport, OpenUcxTransport(options));
  FC_ASSIGN_OR_RETURN(const HelloGrant grant,
                      data_plane->Invite(kDefaultTenant));
  return CheckDataPlane(std::move(transport),
                        {.data_plane = data_plane->Address(),
                         .epoch = data_plane->epoch(),
                         .grant = grant});
}

// A server and where it listens.
struct ControlPlane {
  std::unique_ptr<grpc::Server> server;
  std::string address;  // with the port that was chosen
};

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> CredentialsOf(
    const StoreFlags& flags) {
  if (flags.tls_cert.empty()) return grpc::InsecureServerCredentials();
  return TlsServer({flags.tls_cert, flags.tls_key, flags.tls_client_ca},
                   /*clients_must=*/false);
}

absl::StatusOr<ControlPlane> Listen(
    const std::string& flag, const std::string& listen,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,
    grpc::Service* service) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  // A second store on the same port must fail, not share it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  builder.SetMaxSendMessageSize(kGrpcMessageBytesMax);
  builder.AddListeningPort(listen, credentials, &port);
  builder.RegisterService(service);
  ControlPlane control;
  control.server = builder.BuildAndStart();
  if (control.server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen,
                     ": is the port in use, are certificate and key a pair? "
                     "choose another port with ", flag));
  }
  control.address =
      absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
  SetReady(control.server.get(), false);
  return control;
}

void LogChoices(const StoreFlags& flags, const StoreCore& store,
                const std::string& grpc, const std::string& metrics) {
  LogInfo("serving", {{"grpc", grpc},
                      {"metrics", metrics},
                      {"transports", flags.transports},
                      {"ucx", UcxVersion()},
                      {"probe", flags.probe},
                      {"probe_codes", flags.probe_codes},
                      {"scan_threads", flags.scan_threads},
                      {"eviction", flags.eviction},
                      {"isa", KernelIsa()},
                      {"dram_mib", flags.dram_mib},
                      {"prefault_dram", flags.prefault_dram},
                      {"ssd_dir", flags.ssd_dir},
                      {"ssd_mib", flags.ssd_dir.empty() ? 0 : flags.ssd_mib},
                      {"huge_pages", store.arena().huge_pages()}});
  if (flags.tls_cert.empty()) {
    LogWarning(
        "INSECURE: no TLS, and whoever reaches the port may use the store",
        {{"listen", flags.listen},
         {"tenants", flags.tenants_file.empty() ? "everybody is 'default'"
                                                : flags.tenants_file},
         {"reach", IsLoopback(flags.listen) ? "this host only"
                                            : "OTHER HOSTS TOO"}});
  }
  if (flags.transports != "shm") {
    LogInfo("data plane listens on the network devices that UCX chose, without "
            "encryption; it hears whoever attached on the control plane");
  }
  if (flags.enable_fault_injection) {
    LogWarning("FAULT INJECTION is enabled: blocks can be damaged on demand");
  }
}

absl::StatusOr<StoreServiceOptions> ServiceOptionsOf(const StoreFlags& flags) {
  StoreServiceOptions options;
  options.store_id = flags.store_id.empty() ? absl::StrCat("store-", getpid())
                                            : flags.store_id;
  options.fault_injection = flags.enable_fault_injection;
  options.anonymous = flags.tls_cert.empty();
  if (flags.admin_token_file.empty()) return options;
  auto token = ReadSecretFile(flags.admin_token_file);
  if (!token.ok()) return Annotate(token.status(), "--admin-token-file");
  options.admin_token = *std::move(token);
  return options;
}

absl::StatusOr<std::unique_ptr<StoreCore>> OpenStore(const StoreFlags& flags,
                                                     Metrics* metrics) {
  std::unique_ptr<Disk> disk;
  if (!flags.ssd_dir.empty()) {
    auto opened = OpenUringDisk(flags.ssd_dir);
    if (!opened.ok()) return Annotate(opened.status(), "--ssd-dir");
    disk = *std::move(opened);
  }
  StoreOptions options;
  FC_ASSIGN_OR_RETURN(options.tenant_secret,
                      LoadTenantSecret(flags.tenant_secret, disk.get()));
  options.dram_bytes = flags.dram_mib << 20;
  options.prefault_dram = flags.prefault_dram;
  options.eviction = flags.eviction;
  options.probe_source =
      flags.probe == "exact" ? ProbeSource::kExact : ProbeSource::kCodes;
  options.code_kind =
      flags.probe_codes == 4 ? CodeKind::k4Bit : CodeKind::k2BitRotated;
  options.ssd.tier.capacity_bytes = flags.ssd_mib << 20;
  options.ssd.write_bytes_per_second = flags.ssd_write_mib_per_s << 20;
  options.ssd.promote_bytes_per_second = flags.ssd_promote_mib_per_s << 20;
  options.ssd.scrub_bytes_per_second = flags.ssd_scrub_mib_per_s << 20;
  return StoreCore::Create(options, Clock::Real(), metrics, std::move(disk));
}

// Whom it serves may end; nobody new is let in.
void Shutdown(ControlPlane* control) {
  if (control->server == nullptr) return;
  control->server->Shutdown(std::chrono::system_clock::now() +
                            std::chrono::nanoseconds(kShutdownGrace));
}

// Before any thread starts, so that all of them inherit it.
void BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

int Run(const StoreFlags& flags) {
  BlockSignals();
  Metrics metrics;
  auto metrics_port = metrics.Serve(flags.metrics);
  if (!metrics_port.ok()) return Fail(metrics_port.status());
  auto store = OpenStore(flags, &metrics);
  if (!store.ok()) return Fail(store.status());
  auto transport = OpenTransport(flags, &metrics);
  if (!transport.ok()) return Fail(transport.status());
  DataPlane data_plane(store->get(), *std::move(transport),
                       {.scan_threads = flags.scan_threads,
                        .ssd_threads =
                            flags.ssd_dir.empty() ? 0 : kSsdReadThreads});
  TenantReload tenants(flags.tenants_file, store->get(), &data_plane);
  absl::Status loaded = tenants.Reload();
  if (!loaded.ok()) return Fail(Annotate(loaded, "--tenants-file"));
  grpc::Server* server = nullptr;
  DaemonLoop loop(store->get(),
                  {.drain_timeout = flags.drain_seconds * kSecond,
                   .on_drain = [&] { SetReady(server, false); },
                   .on_tick = [&] { tenants.Poll(); },
                   .on_hangup = [&] { tenants.Reload().IgnoreError(); }});

  auto service_options = ServiceOptionsOf(flags);
  if (!service_options.ok()) return Fail(service_options.status());
  service_options->drain = [&](auto timeout) { loop.RequestDrain(timeout); };
  StoreService service(store->get(), &data_plane, *service_options);
  StoreAdminService admin(store->get(), *service_options);
  data_plane.Start();
  auto credentials = CredentialsOf(flags);
  if (!credentials.ok()) return Fail(credentials.status());
  auto control = Listen("--listen", flags.listen, *credentials, &service);
  if (!control.ok()) return Fail(control.status());
  ControlPlane admin_control;
  if (service_options->anonymous || !service_options->admin_token.empty()) {
    auto listening =
        Listen("--admin-listen", flags.admin_listen, *credentials, &admin);
    if (!listening.ok()) return Fail(listening.status());
    admin_control = *std::move(listening);
  }
  server = control->server.get();
  absl::Status ready = CheckReady(flags, &data_plane);
  if (!ready.ok()) return Fail(ready);
  SetReady(server, true);

  const std::string metrics_address =
      absl::StrCat(flags.metrics.substr(0, flags.metrics.rfind(':')), ":",
                   *metrics_port);
  LogChoices(flags, **store, control->address, metrics_address);
  ready = WriteReadyFile(flags.ready_file, {.grpc = control->address,
                                            .metrics = metrics_address,
                                            .admin = admin_control.address});
  if (!ready.ok()) return Fail(ready);
  loop.Run();
  Shutdown(&admin_control);
  Shutdown(&*control);
  data_plane.Stop();
  if (!(*store)->FlushSsd(kFlushGrace)) {
    LogWarning("stopped before all sealed segments were on SSD");
  }
  return kDone;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) {
  forecache::StoreFlags flags;
  int code = forecache::ParseStoreFlags(argc, argv, &flags);
  if (code >= 0) return code;
  forecache::InitLog("store", forecache::ParseLogLevel(flags.log_level));
  return forecache::Run(flags);
}
