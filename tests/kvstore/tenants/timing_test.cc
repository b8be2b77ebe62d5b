// Another tenant's segment takes as long to miss as one that nobody has.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

#include "common/rng.h"
#include "tests/kvstore/tenants/tenant_fixture.h"

namespace forecache {
namespace {

constexpr int kSamples = 3000;  // of each kind, in one round
constexpr int kRounds = 3;
// Of each kind.  Where a prompt lies, and on which bucket of the index its
// hash falls, costs it some nanoseconds more or less than the next one, again
// and again; over many of them that evens out, over four it does not.
constexpr int kPrompts = 24;
constexpr int kSegments = 8;  // of each prompt
// How far from even odds the slower one may be.  Of two samples of this size
// with the same distribution, one in 10^10 is as far apart.
constexpr double kOddsMax = 0.05;

// The chance that one of `a` is larger than one of `b`, ties being halves: a
// half when both are of one distribution, whatever that is.
double OddsOfLarger(const std::vector<int64_t>& a,
                    const std::vector<int64_t>& b) {
  std::vector<int64_t> sorted = b;
  std::sort(sorted.begin(), sorted.end());
  double larger = 0;
  for (int64_t value : a) {
    const auto [low, high] =
        std::equal_range(sorted.begin(), sorted.end(), value);
    larger += (low - sorted.begin()) + (high - low) / 2.0;
  }
  return larger / (double(a.size()) * double(b.size()));
}

class TimingTest : public TenantFixture {
 protected:
  using Ask = std::function<int(const TestContext&)>;

  TimingTest() {
    MakeStore(size_t{64} << 20);  // nothing is evicted
    Configure({TestTenant("acme"), TestTenant("zeta")});
    for (int i = 0; i < kPrompts; ++i) {
      held_.emplace_back(1000 + i, kSegments);
      missing_.emplace_back(2000 + i, kSegments);
      FC_CHECK_OK(FillAs(IdOf("acme"), held_.back()));
    }
  }

  // Asks for prompts that acme holds and for prompts that nobody does, in a
  // random order so that what else the machine does hits both alike.  Whether
  // their times tell them apart in every round; `answers` gets all that was
  // said.
  bool ToldApart(const Ask& ask, std::vector<int>* answers) {
    for (int round = 0; round < kRounds; ++round) {
      Rng rng(round + 1);
      std::vector<int64_t> times[2];
      while (times[0].size() < kSamples || times[1].size() < kSamples) {
        const size_t kind = rng.Below(2);
        const TestContext& context =
            (kind == 0 ? missing_ : held_)[rng.Below(held_.size())];
        const auto start = std::chrono::steady_clock::now();
        answers->push_back(ask(context));
        times[kind].push_back(
            (std::chrono::steady_clock::now() - start).count());
      }
      const double odds = OddsOfLarger(times[1], times[0]);
      if (std::abs(odds - 0.5) <= kOddsMax) return false;
    }
    return true;
  }
  // A session opened and closed, as a prompt is looked up in earnest.
  int OpenAndClose(TenantId tenant, const TestContext& context) {
    auto session = OpenAs({.tenant = tenant}, context);
    FC_CHECK_OK(session.status());
    store_->CloseSession(session->id, tenant);
    return session->cached_tokens;
  }

  std::vector<TestContext> held_, missing_;
};

TEST_F(TimingTest, LookupsOfAnothersPrompts) {
  std::vector<int> answers;
  EXPECT_FALSE(ToldApart(
      [&](const TestContext& context) {
        return CachedFor(IdOf("zeta"), context);
      },
      &answers));
  EXPECT_EQ(std::ranges::count(answers, 0), answers.size());
}

TEST_F(TimingTest, SessionsOverAnothersPrompts) {
  std::vector<int> answers;
  EXPECT_FALSE(ToldApart(
      [&](const TestContext& context) {
        return OpenAndClose(IdOf("zeta"), context);
      },
      &answers));
  EXPECT_EQ(std::ranges::count(answers, 0), answers.size());
}

// The test finds what it looks for: a store with one secret for all, which
// looks first and then denies, says the same and takes longer.
TEST_F(TimingTest, FindsAStoreThatLooksFirst) {
  std::vector<int> answers;
  EXPECT_TRUE(ToldApart(
      [&](const TestContext& context) {
        return OpenAndClose(IdOf("acme"), context) * 0;
      },
      &answers));
}

}  // namespace
}  // namespace forecache
