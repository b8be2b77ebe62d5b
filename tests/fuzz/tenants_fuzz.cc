// kvstore/tenants/tenants_file.h: the configuration of tenants.
#include <set>
#include <string>

#include "common/check.h"
#include "kvstore/tenants/tenants_file.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {

std::vector<Bytes> Seeds() {
  const std::string hash(64, 'a');
  const std::string texts[] = {
      R"({"domains": [{"name": "public", "secret": "known to all of them",
          "ssd": {"ceiling_bytes": 5}}],
          "tenants": [{"name": "acme", "secret": "sixteen bytes, or more",
          "token_sha256": ")" + hash + R"(", "certificate_name": "worker",
          "dram": {"floor_bytes": 1, "ceiling_bytes": 2},
          "bandwidth_share": 3, "probe_share": 4,
          "reads": ["public"], "writes": ["public"]}]})",
      R"({"tenants": [{"name": "b", "secret": "sixteen bytes, of another",
          "certificate_name": "b"}]})"};
  return ToSeeds(texts);
}

void Repair(Bytes*, Rng*) {}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  const auto parsed = ParseTenants(
      std::string(reinterpret_cast<const char*>(data), size),
      "/nonexistent");
  if (!parsed.ok()) return 0;
  std::set<std::string> names;
  for (const TenantConfig& tenant : *parsed) {
    FC_CHECK(!tenant.name.empty() && names.insert(tenant.name).second);
    FC_CHECK(tenant.bandwidth_share > 0 && tenant.probe_share > 0);
  }
  return 0;
}
