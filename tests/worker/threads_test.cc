// The worker's small threads: the crew that shares attention, and the queue
// before the decode thread.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/limits.h"
#include "worker/request_queue.h"
#include "worker/work_crew.h"

namespace forecache {
namespace {

TEST(WorkCrewTest, EveryPartRunsOnceARound) {
  for (int threads : {1, 2, 3}) {
    WorkCrew crew(threads);
    for (int round = 0; round < 100; ++round) {
      std::vector<std::atomic<int>> runs(threads);
      crew.Run([&](int part, int parts) {
        EXPECT_EQ(parts, threads);
        ++runs[part];
      });
      for (auto& count : runs) EXPECT_EQ(count, 1);
    }
  }
}

TEST(RequestQueueTest, ReturnsEachStatus) {
  RequestQueue queue;
  EXPECT_TRUE(queue.Run([] { return absl::OkStatus(); }).ok());
  EXPECT_TRUE(absl::IsDataLoss(
      queue.Run([] { return absl::DataLossError("gone"); })));
}

TEST(RequestQueueTest, RunsOneAtATime) {
  RequestQueue queue;
  std::atomic<int> running{0}, most{0}, done{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      EXPECT_TRUE(queue
                      .Run([&] {
                        most = std::max(most.load(), ++running);
                        --running;
                        ++done;
                        return absl::OkStatus();
                      })
                      .ok());
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(done, 8);
}

TEST(RequestQueueTest, RefusesWhenFull) {
  RequestQueue queue;
  absl::Notification started, release;
  std::vector<std::thread> clients;
  clients.emplace_back([&] {
    EXPECT_TRUE(queue
                    .Run([&] {
                      started.Notify();
                      release.WaitForNotification();
                      return absl::OkStatus();
                    })
                    .ok());
  });
  started.WaitForNotification();
  for (int i = 0; i < kQueuedRequestsMax; ++i) {
    clients.emplace_back([&] {
      EXPECT_TRUE(queue.Run([] { return absl::OkStatus(); }).ok());
    });
  }
  while (queue.waiting() < kQueuedRequestsMax) std::this_thread::yield();
  EXPECT_TRUE(absl::IsResourceExhausted(
      queue.Run([] { return absl::OkStatus(); })));
  release.Notify();
  for (auto& client : clients) client.join();
}

}  // namespace
}  // namespace forecache
