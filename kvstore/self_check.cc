#include "kvstore/self_check.h"

#include <optional>

#include "common/clock.h"
#include "common/status.h"

namespace forecache {

absl::Status CheckDataPlane(std::unique_ptr<Transport> transport,
                            const StoreAddress& store) {
  DataClient client(transport.get(), Clock::Real());
  std::optional<absl::Status> hello;
  FC_RETURN_IF_ERROR(client.Connect(
      store, [&](const absl::Status& answer) { hello = answer; }));
  while (!hello) {
    if (client.Progress() == 0) client.Wait(kConnectTimeout);
  }
  return Annotate(*hello, "the store's own data plane");
}

}  // namespace forecache
