// The store's end of the control plane (gRPC): see proto/store.proto.
#ifndef FORECACHE_KVSTORE_STORE_SERVICE_H_
#define FORECACHE_KVSTORE_STORE_SERVICE_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "kvstore/data_plane.h"
#include "kvstore/store.h"
#include "proto/store.grpc.pb.h"

namespace forecache {

struct StoreServiceOptions {
  std::string store_id;
  // Lets StoreAdmin.CorruptBlock work.  For tests only.
  bool fault_injection = false;
  // Whether who shows no credential is the tenant "default".
  bool anonymous = false;
  // What StoreAdmin wants to be shown, and Stats where tenants are not
  // anonymous, since it tells of all of them; empty: nothing.
  std::string admin_token;
  // What StoreAdmin.Drain does; nothing: by the default time.
  std::function<void(std::optional<Nanos> timeout)> drain;
};

// Translates: checks what the fields' types cannot say, calls StoreCore, and
// turns absl::Status into gRPC's.
//
// Threads: safe to call from any thread.
// Lifetime: the store and the data plane outlive it.
class StoreService : public v1::KvStore::Service {
 public:
  StoreService(StoreCore* store, DataPlane* data_plane,
               const StoreServiceOptions& options);

  grpc::Status Attach(grpc::ServerContext* context,
                      const v1::AttachRequest* request,
                      v1::AttachReply* reply) override;
  grpc::Status OpenSession(grpc::ServerContext* context,
                           const v1::OpenSessionRequest* request,
                           v1::OpenSessionReply* reply) override;
  grpc::Status CloseSession(grpc::ServerContext* context,
                            const v1::CloseSessionRequest* request,
                            v1::CloseSessionReply* reply) override;
  grpc::Status LookupPrefix(grpc::ServerContext* context,
                            const v1::LookupPrefixRequest* request,
                            v1::LookupPrefixReply* reply) override;
  grpc::Status SealSegment(grpc::ServerContext* context,
                           const v1::SealSegmentRequest* request,
                           v1::SealSegmentReply* reply) override;
  grpc::Status PutBlocks(grpc::ServerContext* context,
                         const v1::PutBlocksRequest* request,
                         v1::PutBlocksReply* reply) override;
  grpc::Status Stats(grpc::ServerContext* context,
                     const v1::StatsRequest* request,
                     v1::StatsReply* reply) override;

 private:
  // Who calls, by its credential.
  absl::StatusOr<TenantRef> Caller(const grpc::ServerContext& context) const;
  bool Resumed(const v1::OpenSessionRequest& request, TenantId caller,
               v1::OpenSessionReply* reply);
  uint32_t LeaseMs() const;

  StoreCore* const store_;
  DataPlane* const data_plane_;
  const StoreServiceOptions options_;
  const Nanos started_;
};

// Threads: safe to call from any thread.
// Lifetime: the store outlives it.
class StoreAdminService : public v1::StoreAdmin::Service {
 public:
  StoreAdminService(StoreCore* store, const StoreServiceOptions& options)
      : store_(store), options_(options) {}

  grpc::Status CorruptBlock(grpc::ServerContext* context,
                            const v1::CorruptBlockRequest* request,
                            v1::CorruptBlockReply* reply) override;
  grpc::Status Drain(grpc::ServerContext* context,
                     const v1::DrainRequest* request,
                     v1::DrainReply* reply) override;

 private:
  StoreCore* const store_;
  const StoreServiceOptions options_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_STORE_SERVICE_H_
