// Certificates for tests of TLS, made as they are needed.
#ifndef FORECACHE_TESTS_TESTING_CERTIFICATES_H_
#define FORECACHE_TESTS_TESTING_CERTIFICATES_H_

#include <memory>
#include <string>

namespace forecache {

// An authority of the test's own, which signs certificates for this host.
//
// Threads: one thread.
class TestAuthority {
 public:
  // Files are written to `folder`, which is there.
  TestAuthority(const std::string& folder, const std::string& name);
  ~TestAuthority();

  // PEM of the authority's own certificate.
  const std::string& certificate() const { return certificate_; }
  // Files of a key and a certificate that it signed, with this common name,
  // for localhost and 127.0.0.1.
  struct Pair {
    std::string certificate;
    std::string key;
  };
  Pair Sign(const std::string& common_name);

 private:
  struct Impl;
  const std::string folder_;
  const std::string name_;
  const std::unique_ptr<Impl> impl_;
  std::string certificate_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_TESTING_CERTIFICATES_H_
