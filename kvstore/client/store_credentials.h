// What a worker shows to its stores.
#ifndef FORECACHE_KVSTORE_CLIENT_STORE_CREDENTIALS_H_
#define FORECACHE_KVSTORE_CLIENT_STORE_CREDENTIALS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace grpc {
class ChannelCredentials;
}

namespace forecache {

// As the flags say: --store-ca and so on.
//
// Threads: a value.
struct StoreCredentialFlags {
  std::string token_file;
  std::string ca;           // who signs the stores' certificates
  std::string certificate;  // the worker's own
  std::string key;
  bool insecure = false;  // without TLS; to stores on this host only
};

// Threads: a value.
struct StoreCredentials {
  std::shared_ptr<grpc::ChannelCredentials> channel;  // null: no TLS
  std::string token;                                  // empty: none
};

// Reads what the flags name.  kInvalidArgument when they do not fit together,
// or a store that is not on this host would be spoken to in the clear.
absl::StatusOr<StoreCredentials> LoadStoreCredentials(
    const StoreCredentialFlags& flags, const std::vector<std::string>& stores);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_STORE_CREDENTIALS_H_
