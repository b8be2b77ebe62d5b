#include "common/tls.h"

#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file) bytes << file.rdbuf();
  if (!file || bytes.str().empty()) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  }
  if (bytes.str().size() > kPemBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": more than ", kPemBytesMax, " bytes"));
  }
  return bytes.str();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsServer(
    const TlsFiles& files, bool clients_must) {
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  grpc::SslServerCredentialsOptions::PemKeyCertPair own;
  FC_ASSIGN_OR_RETURN(own.private_key, ReadPem(files.key));
  FC_ASSIGN_OR_RETURN(own.cert_chain, ReadPem(files.certificate));
  options.pem_key_cert_pairs.push_back(std::move(own));
  if (!files.authorities.empty()) {
    FC_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(files.authorities));
    options.client_certificate_request =
        clients_must
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsClient(
    const TlsFiles& files) {
  grpc::SslCredentialsOptions options;
  FC_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(files.authorities));
  if (!files.certificate.empty()) {
    FC_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(files.certificate));
    FC_ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(files.key));
  }
  return grpc::SslCredentials(options);
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  FC_ASSIGN_OR_RETURN(const std::string bytes, ReadPem(path));
  std::string secret(absl::StripAsciiWhitespace(bytes));
  if (secret.empty()) {
    return absl::NotFoundError(absl::StrCat(path, ": is empty"));
  }
  return secret;
}

bool IsLoopback(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (host == "localhost" || host == "::1") return true;
  // An address, and not a name that only begins like one.
  return absl::StartsWith(host, "127.") &&
         host.find_first_not_of("0123456789.") == std::string::npos;
}

}  // namespace forecache
