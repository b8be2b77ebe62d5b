// TLS for gRPC, from files of PEM, and what may do without.
#ifndef FORECACHE_COMMON_TLS_H_
#define FORECACHE_COMMON_TLS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace forecache {

// What a side shows of itself, and whom it believes.
//
// Threads: a value.
struct TlsFiles {
  std::string certificate;  // own chain; empty: none
  std::string key;
  std::string authorities;  // who signs the other side's certificates
};

// A server's side.  With authorities a client may show a certificate, which
// must be signed by one of them; `clients_must`: it has to.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsServer(
    const TlsFiles& files, bool clients_must);

// A client's side.  REQUIRES: authorities.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsClient(
    const TlsFiles& files);

// A short file's bytes, without blanks and line ends around them.
// kNotFound names the file.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path);

// Whether `address` ("host:port") is this host only.
bool IsLoopback(const std::string& address);

}  // namespace forecache

#endif  // FORECACHE_COMMON_TLS_H_
