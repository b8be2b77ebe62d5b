#include "transport/ucx_region.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "transport/ucx_address.h"
#include "transport/ucx_context.h"

namespace forecache::ucx_internal {
namespace {

// Threads: its owner's.
class UcxRegion : public MemoryRegion {
 public:
  UcxRegion(ucp_context_h context, ucp_mem_h memory, MutableBytes bytes,
            std::string remote_key)
      : context_(context),
        memory_(memory),
        bytes_(bytes),
        remote_key_(std::move(remote_key)) {}
  ~UcxRegion() override { ucp_mem_unmap(context_, memory_); }
  MutableBytes bytes() const override { return bytes_; }
  std::string RemoteKey() const override { return remote_key_; }

 private:
  const ucp_context_h context_;
  const ucp_mem_h memory_;
  const MutableBytes bytes_;
  const std::string remote_key_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryRegion>> RegisterRegion(
    ucp_context_h context, MutableBytes memory) {
  if (memory.empty()) return absl::InvalidArgumentError("an empty region");
  ucp_mem_map_params_t params = {};
  params.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = memory.data();
  params.length = memory.size();
  ucp_mem_h mapped = nullptr;
  FC_RETURN_IF_ERROR(FromUcs(ucp_mem_map(context, &params, &mapped),
                             absl::StrCat("registering ", memory.size(),
                                          " bytes (see ulimit -l)")));
  void* rkey = nullptr;
  size_t size = 0;
  const ucs_status_t status = ucp_rkey_pack(context, mapped, &rkey, &size);
  if (status != UCS_OK) {
    ucp_mem_unmap(context, mapped);
    return FromUcs(status, "packing a remote key");
  }
  const UcxRemoteKey key = {reinterpret_cast<uint64_t>(memory.data()),
                            memory.size(),
                            std::string(static_cast<char*>(rkey), size)};
  ucp_rkey_buffer_release(rkey);
  return std::make_unique<UcxRegion>(context, mapped, memory, key.Pack());
}

}  // namespace forecache::ucx_internal
