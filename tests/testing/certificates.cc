#include "tests/testing/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>

#include "common/check.h"

namespace forecache {
namespace {

constexpr long kOneDay = 24 * 3600;

// A certificate of `key` for `common_name`, signed by the issuer.
X509* Certify(EVP_PKEY* key, const std::string& common_name, long serial,
              X509* issuer, EVP_PKEY* issuer_key, const char* constraints) {
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -kOneDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate), kOneDay);
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
      reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, X509_get_subject_name(
                                        issuer != nullptr ? issuer
                                                          : certificate));
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer != nullptr ? issuer : certificate,
                 certificate, nullptr, nullptr, 0);
  const std::pair<int, const char*> extensions[] = {
      {NID_basic_constraints, constraints},
      {NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1"}};
  for (const auto& [id, value] : extensions) {
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, &context, id, value);
    FC_CHECK(extension != nullptr) << value;
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  FC_CHECK(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
  return certificate;
}

void WriteCertificate(const std::string& path, X509* certificate) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  FC_CHECK(file != nullptr) << path;
  FC_CHECK(PEM_write_X509(file, certificate) == 1);
  std::fclose(file);
}

}  // namespace

struct TestAuthority::Impl {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = nullptr;
  long serial = 1;
};

TestAuthority::TestAuthority(const std::string& folder, const std::string& name)
    : folder_(folder),
      name_(name),
      impl_(std::make_unique<Impl>()),
      certificate_(folder + "/" + name + ".pem") {
  impl_->certificate = Certify(impl_->key, name, impl_->serial, nullptr,
                               impl_->key, "critical,CA:TRUE");
  WriteCertificate(certificate_, impl_->certificate);
}

TestAuthority::~TestAuthority() {
  X509_free(impl_->certificate);
  EVP_PKEY_free(impl_->key);
}

TestAuthority::Pair TestAuthority::Sign(const std::string& common_name) {
  const std::string stem = folder_ + "/" + name_ + "-" + common_name;
  Pair pair{stem + ".pem", stem + ".key"};
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate =
      Certify(key, common_name, ++impl_->serial, impl_->certificate,
              impl_->key, "CA:FALSE");
  WriteCertificate(pair.certificate, certificate);
  std::FILE* file = std::fopen(pair.key.c_str(), "w");
  FC_CHECK(file != nullptr) << pair.key;
  FC_CHECK(PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr,
                                nullptr) == 1);
  std::fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pair;
}

}  // namespace forecache
