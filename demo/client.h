// The demo's requests to the worker and its look at the store's counters.
#ifndef FORECACHE_DEMO_CLIENT_H_
#define FORECACHE_DEMO_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/store.grpc.pb.h"
#include "proto/worker.grpc.pb.h"

namespace forecache::demo {

struct Answer {
  std::string text;
  v1::Summary summary;

  double Perplexity() const;
  double TokensPerSecond() const;  // after the first token; 0 if none
};

// Threads: one thread at a time.
class Client {
 public:
  using OnEvent = std::function<void(const v1::GenerateEvent& event)>;

  // Without `admin` CorruptBlock is kUnavailable.
  Client(const std::string& worker, const std::string& store,
         const std::string& admin = "");

  // Errors as in proto/worker.proto.
  absl::StatusOr<Answer> Generate(const v1::GenerateRequest& request,
                                  const OnEvent& on_event);
  absl::StatusOr<v1::StatsReply> StoreStats();
  // Flips a bit of a key in the context of the request with this id.
  absl::Status CorruptBlock(const std::string& request_id, int layer,
                            int kv_head, int block, int bit);
  absl::StatusOr<v1::DescribeReply> Describe();

 private:
  std::unique_ptr<v1::Worker::Stub> worker_;
  std::unique_ptr<v1::KvStore::Stub> store_;
  std::unique_ptr<v1::StoreAdmin::Stub> admin_;
};

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_CLIENT_H_
