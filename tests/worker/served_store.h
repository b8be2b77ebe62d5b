// A store's control and data plane, and a worker's way to put blocks there.
#ifndef FORECACHE_TESTS_WORKER_SERVED_STORE_H_
#define FORECACHE_TESTS_WORKER_SERVED_STORE_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "kvstore/store_service.h"
#include "tests/kvstore/group_fixture.h"
#include "worker/data_plane_thread.h"

namespace forecache {

// A store with both its doors, which keeps its port over its deaths.
struct ServedStore : TestStore {
  explicit ServedStore(Clock* clock, std::vector<TenantConfig> tenants = {})
      : TestStore(clock), tenants(std::move(tenants)) {
    Serve();
  }
  ~ServedStore() { server->Shutdown(); }

  void Serve() {
    if (!tenants.empty()) FC_CHECK_OK(core->ConfigureTenants(tenants).status());
    service = std::make_unique<StoreService>(
        core.get(), plane.get(),
        StoreServiceOptions{.store_id = "store", .anonymous = true});
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port),
                             grpc::InsecureServerCredentials(), &bound);
    builder.RegisterService(service.get());
    server = builder.BuildAndStart();
    FC_CHECK(server != nullptr && bound != 0) << port;
    port = bound;
  }
  // The process dies; `keep` says whether the sessions are there again after.
  void Restart(bool keep) {
    server->Shutdown();
    server = nullptr;
    keep ? Reconnect() : Revive();
    Serve();
  }

  const std::vector<TenantConfig> tenants;  // none: everybody is the default
  int port = 0;
  std::unique_ptr<StoreService> service;
  std::unique_ptr<grpc::Server> server;
};

// Puts the context's blocks from `first` on, of all layers.
inline absl::Status PutBlocksFrom(DataPlaneThread* data_plane,
                                  const SessionHandle& session,
                                  const TestContext& context, int first) {
  const int blocks = context.blocks() - first;
  absl::Status all;
  for (int layer = 0; layer < context.geometry().layers; ++layer) {
    absl::Notification ended;
    data_plane->Run([&] {
      absl::Status sent = data_plane->client()->PutBlocks(
          session, layer, first, blocks,
          context.PutPayload(layer, first, blocks),
          [&](const absl::Status& end) {
            all.Update(end);
            ended.Notify();
          });
      FC_CHECK_OK(sent);
    });
    ended.WaitForNotification();
  }
  return all;
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_WORKER_SERVED_STORE_H_
