// transport/ucx_address.h: addresses and remote keys that peers hand out.
#include <string_view>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "transport/ucx_address.h"

namespace forecache::fuzz {
namespace {

Bytes OfString(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace

std::vector<Bytes> Seeds() {
  ucx_internal::UcxAddress address = ucx_internal::LocalAddress();
  address.id = 5;  // the same in every run
  address.host_id = 6;
  address.pid = 7;
  address.host_name = "host";
  address.worker = std::string(60, 'w');
  const ucx_internal::UcxRemoteKey key{4096, 1 << 20, std::string(30, 'k')};
  return {OfString(address.Pack()), OfString(key.Pack())};
}

void Repair(Bytes*, Rng*) {}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache::ucx_internal;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto address = UcxAddress::Parse(bytes);
  if (address.ok()) {
    FC_CHECK(address->id != 0 && !address->worker.empty());
    FC_CHECK(address->Pack() == bytes);
  }
  const auto key = UcxRemoteKey::Parse(bytes);
  if (key.ok()) FC_CHECK(key->Pack() == bytes);
  return 0;
}
