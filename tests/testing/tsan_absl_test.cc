// The thread sanitizer sees races beside absl's locks, and none behind them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace forecache {
namespace {

constexpr int kTimes = 100'000;
constexpr int kRaceExit = 66;  // the sanitizer's, when it has seen any

struct Counter {
  absl::Mutex mutex;
  int value = 0;
  bool started = false;
  bool waited = false;
};

// Two threads count, and two more wait by conditions.
void Count(bool locked) {
  Counter counter;
  absl::Notification end;
  auto count = [&] {
    for (int i = 0; i < kTimes; ++i) {
      if (!locked) {
        ++counter.value;
        continue;
      }
      absl::MutexLock lock(&counter.mutex);
      ++counter.value;
    }
  };
  std::thread waits([&] {
    absl::MutexLock lock(&counter.mutex);
    counter.mutex.Await(absl::Condition(&counter.started));
    counter.waited = true;
    end.Notify();
  });
  std::thread waits_for_it([&] {
    absl::MutexLock lock(&counter.mutex, absl::Condition(&counter.waited));
    ++counter.value;
  });
  std::thread first(count), second(count);
  {
    absl::MutexLock lock(&counter.mutex);
    counter.started = true;
  }
  end.WaitForNotification();
  for (std::thread* thread : {&waits, &waits_for_it, &first, &second}) {
    thread->join();
  }
  std::exit(0);
}

TEST(TsanAbslDeathTest, RacesAreSeenAndLocksUnderstood) {
#if defined(__SANITIZE_THREAD__)
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(Count(/*locked=*/false), ::testing::ExitedWithCode(kRaceExit),
              "data race");
  EXPECT_EXIT(Count(/*locked=*/true), ::testing::ExitedWithCode(0), "");
#else
  EXPECT_EXIT(Count(/*locked=*/true), ::testing::ExitedWithCode(0), "");
  GTEST_SKIP() << "not built with the thread sanitizer";
#endif
}

}  // namespace
}  // namespace forecache
