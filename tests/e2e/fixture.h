// Real daemons for the end-to-end tests.
#ifndef FORECACHE_TESTS_E2E_FIXTURE_H_
#define FORECACHE_TESTS_E2E_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "demo/client.h"
#include "demo/processes.h"

namespace forecache::e2e {

// How a process that was run to its end went.
struct Ended {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

// Runs `arguments` to their end; kills it after `timeout_s`.
Ended RunToEnd(const std::vector<std::string>& arguments, int timeout_s);

// The model's path, "" when there is none (the test then skips).
std::string ModelPath();

// The first `bytes` bytes of the demo's text.
std::string StoryText(size_t bytes);

// A store and a worker on free ports.  Skips without the model.
class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override;

  // Starts both; extra flags for each.
  void StartBoth(std::vector<std::string> store_flags = {},
                 std::vector<std::string> worker_flags = {});

  demo::Processes* processes() { return processes_.get(); }
  demo::Client* client() { return client_.get(); }
  const demo::Daemon& store() const { return store_; }
  const demo::Daemon& worker() const { return worker_; }

  absl::StatusOr<demo::Answer> Generate(const v1::GenerateRequest& request) {
    return client_->Generate(request, [](const v1::GenerateEvent&) {});
  }

 private:
  std::unique_ptr<demo::Processes> processes_;
  std::unique_ptr<demo::Client> client_;
  demo::Daemon store_, worker_;
};

inline constexpr char kStoreBinary[] = "kvstore/store";
inline constexpr char kWorkerBinary[] = "worker/worker";

// A request that every test varies.
v1::GenerateRequest Request(const std::string& prompt, v1::Mode mode);

}  // namespace forecache::e2e

#endif  // FORECACHE_TESTS_E2E_FIXTURE_H_
