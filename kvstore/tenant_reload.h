// Keeps a running store's tenants as their file says.
#ifndef FORECACHE_KVSTORE_TENANT_RELOAD_H_
#define FORECACHE_KVSTORE_TENANT_RELOAD_H_

#include <string>

#include "absl/status/status.h"
#include "kvstore/data_plane.h"
#include "kvstore/store.h"
#include "kvstore/tenants/tenants_file.h"

namespace forecache {

// Threads: one thread, the daemon's main one.
// Lifetime: the store and the data plane outlive it.
class TenantReload {
 public:
  // An empty path: there is no file, and nothing to do.
  TenantReload(const std::string& path, StoreCore* store, DataPlane* data_plane)
      : path_(path), file_(path), store_(store), data_plane_(data_plane) {}

  // Takes the file as it is.  A bad one changes nothing: it is logged, counted
  // and returned.
  absl::Status Reload();
  // Reloads when the file is another than the last time, good or bad.
  void Poll() {
    if (!path_.empty() && file_.Changed()) Reload().IgnoreError();
  }

 private:
  const std::string path_;
  TenantsFile file_;
  StoreCore* const store_;
  DataPlane* const data_plane_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANT_RELOAD_H_
