// The file that says which tenants a store has: docs/SECURITY.md.
#ifndef FORECACHE_KVSTORE_TENANTS_TENANTS_FILE_H_
#define FORECACHE_KVSTORE_TENANTS_TENANTS_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kvstore/secret.h"
#include "kvstore/segment_id.h"
#include "kvstore/tenants/tenant.h"

namespace forecache {

// A tenant or a sharing domain, as the file has it.
//
// Threads: a value.
struct TenantConfig {
  std::string name;
  bool is_domain = false;
  TenantSecret secret;
  TierQuota quotas[kStorageTiers];  // by StorageTier
  // Of tenants only.
  std::optional<Sha256Digest> token_sha256;
  std::string certificate_name;  // the subject's common name
  int bandwidth_share = 1;
  int probe_share = 1;
  std::vector<std::string> reads;   // domains whose segments it may find
  std::vector<std::string> writes;  // and those that it may add to as well
};

// kInvalidArgument names the line, or the field and its limit.  `folder` is
// where the files of secrets are that have no path of their own.
absl::StatusOr<std::vector<TenantConfig>> ParseTenants(
    const std::string& text, const std::string& folder);

// A file with tenants that may change while the store runs.
//
// Threads: one thread.
class TenantsFile {
 public:
  explicit TenantsFile(std::string path) : path_(std::move(path)) {}

  // Errors begin with the path.
  absl::StatusOr<std::vector<TenantConfig>> Load();
  // Whether it is another file, or changed, since the last Load.
  bool Changed() const;

 private:
  struct Version {
    uint64_t inode = 0;
    int64_t modified_ns = 0;
    int64_t bytes = -1;  // -1: no file
    bool operator==(const Version&) const = default;
  };
  Version Now() const;

  const std::string path_;
  Version loaded_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_TENANTS_FILE_H_
