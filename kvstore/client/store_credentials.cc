#include "kvstore/client/store_credentials.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/tls.h"

namespace forecache {

absl::StatusOr<StoreCredentials> LoadStoreCredentials(
    const StoreCredentialFlags& flags, const std::vector<std::string>& stores) {
  StoreCredentials credentials;
  if (flags.certificate.empty() != flags.key.empty()) {
    return absl::InvalidArgumentError(
        "--store-cert and --store-key: give both or none");
  }
  if (!flags.token_file.empty()) {
    auto token = ReadSecretFile(flags.token_file);
    if (!token.ok()) return Annotate(token.status(), "--store-token-file");
    credentials.token = *std::move(token);
  }
  if (!flags.ca.empty()) {
    auto channel = TlsClient({flags.certificate, flags.key, flags.ca});
    if (!channel.ok()) return Annotate(channel.status(), "--store-ca");
    credentials.channel = *std::move(channel);
    return credentials;
  }
  if (!flags.insecure || !flags.certificate.empty()) {
    return absl::InvalidArgumentError(
        "--store-ca: give it, so that the stores are known by their "
        "certificates; or --insecure, when all of them are on this host and "
        "run so");
  }
  for (const std::string& store : stores) {
    if (IsLoopback(store)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--store: ", store, " is not on this host, and --insecure is for "
        "loopback only; give --store-ca instead"));
  }
  return credentials;
}

}  // namespace forecache
