// The worker's gRPC service: requests in, events out.
#ifndef FORECACHE_WORKER_WORKER_SERVICE_H_
#define FORECACHE_WORKER_WORKER_SERVICE_H_

#include <string>

#include "proto/worker.grpc.pb.h"
#include "worker/generator.h"
#include "worker/request_queue.h"
#include "worker/session.h"

namespace forecache {

// Threads: gRPC's; answers are computed on the decode thread.
// Lifetime: what it is given must outlive it.
class WorkerService : public v1::Worker::Service {
 public:
  WorkerService(const WorkerParts& parts, std::string store_id,
                Generator* generator, RequestQueue* queue,
                WorkerMetrics* metrics);

  grpc::Status Generate(grpc::ServerContext* context,
                        const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateEvent>* writer) override;
  grpc::Status Describe(grpc::ServerContext* context,
                        const v1::DescribeRequest* request,
                        v1::DescribeReply* reply) override;

 private:
  absl::Status Answer(grpc::ServerContext* context,
                      const v1::GenerateRequest& request,
                      grpc::ServerWriter<v1::GenerateEvent>* writer);

  const WorkerParts parts_;
  const std::string store_id_;
  Generator* const generator_;
  RequestQueue* const queue_;
  WorkerMetrics* const metrics_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_WORKER_SERVICE_H_
