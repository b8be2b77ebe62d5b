#include "kvstore/tenant_reload.h"

#include <vector>

#include "common/log.h"

namespace forecache {

absl::Status TenantReload::Reload() {
  if (path_.empty()) return absl::OkStatus();
  const auto configs = file_.Load();
  absl::Status status = configs.status();
  if (status.ok()) {
    const auto ended = store_->ConfigureTenants(*configs);
    status = ended.status();
    if (status.ok()) {
      for (const TenantId tenant : *ended) data_plane_->Uninvite(tenant);
      store_->metrics().tenant_loads->Add();
      LogInfo("tenants loaded", {{"file", path_},
                                 {"tenants", configs->size()},
                                 {"removed_or_changed", ended->size()}});
      return status;
    }
  }
  store_->metrics().tenant_loads_refused->Add();
  LogError("tenants file refused: what was loaded before stays",
           {{"file", path_}, {"why", status.message()}});
  return status;
}

}  // namespace forecache
