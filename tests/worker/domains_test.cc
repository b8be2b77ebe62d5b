// Sharing domains as workers ask for them, with one store and with several.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/kvstore/tenants/tenant_fixture.h"
#include "tests/worker/served_store.h"

namespace forecache {
namespace {

constexpr int kSegments = 4;  // of a prompt
constexpr int kSharedSegments = 2;
constexpr int kSharedTokens = kSharedSegments * kSegmentTokens;

// A worker of one tenant.
struct TenantWorker {
  TenantWorker(const std::string& tenant,
               const std::vector<std::string>& addresses,
               const MemberList& members)
      : sessions(members),
        data_plane(std::make_unique<LoopbackTransport>(), Clock::Real(),
                   &sessions),
        control(addresses, &sessions, {.token = "token of " + tenant}) {
    FC_CHECK_OK(control.Start(tenant, data_plane.ForControl()));
  }

  absl::StatusOr<OpenedSession> Open(const TestContext& context,
                                     const SharedPrefix& shared) {
    return control.OpenSession(
        {"00ff", "llama", context.geometry(), 10000.0f}, Tokens(context),
        "request", shared);
  }
  static std::vector<int32_t> Tokens(const TestContext& context) {
    return {context.tokens().begin(), context.tokens().end()};
  }
  // Puts and seals what is not there.
  absl::Status Fill(const OpenedSession& opened, const TestContext& context) {
    const int held = opened.cached_tokens / kSegmentTokens;
    if (held == kSegments) return absl::OkStatus();
    FC_RETURN_IF_ERROR(PutBlocksFrom(&data_plane, opened.handle, context,
                                     held * kSegmentBlocks));
    for (int i = held; i < kSegments; ++i) {
      FC_RETURN_IF_ERROR(
          control.SealSegment(opened.handle, i, Tokens(context)));
    }
    return absl::OkStatus();
  }
  // Opens, fills and closes; returns the tokens that were held at first.
  int Compute(const TestContext& context, const SharedPrefix& shared) {
    const auto opened = Open(context, shared);
    FC_CHECK_OK(opened.status());
    FC_CHECK_OK(Fill(*opened, context));
    FC_CHECK_OK(control.CloseSession(opened->handle));
    return opened->cached_tokens;
  }

  GroupSessions sessions;
  DataPlaneThread data_plane;
  GroupControl control;
};

class DomainsTest : public ::testing::TestWithParam<int> {
 protected:
  DomainsTest() {
    TenantConfig domain;
    domain.name = "public";
    domain.is_domain = true;
    domain.secret = TenantSecret::FromPhrase("secret of the domain");
    TenantConfig writer = TestTenant("writer"), reader = TestTenant("reader");
    writer.writes = {"public"};
    reader.reads = {"public"};
    MemberList members{.epoch = 1};
    std::vector<std::string> addresses;
    for (int m = 0; m < GetParam(); ++m) {
      stores_.push_back(std::make_unique<ServedStore>(
          Clock::Real(), std::vector<TenantConfig>{
                             domain, writer, reader, TestTenant("stranger")}));
      addresses.push_back("127.0.0.1:" + std::to_string(stores_[m]->port));
      members.names.push_back("store-" + std::to_string(m));
    }
    for (auto [worker, name] : {std::pair{&writer_, "writer"},
                                std::pair{&reader_, "reader"},
                                std::pair{&stranger_, "stranger"}}) {
      *worker = std::make_unique<TenantWorker>(name, addresses, members);
    }
  }

  size_t Sessions() const {
    size_t open = 0;
    for (auto& store : stores_) open += store->core->Occupancy().sessions;
    return open;
  }

  const SharedPrefix shared_ = {"public", kSharedTokens};
  std::vector<std::unique_ptr<ServedStore>> stores_;
  std::unique_ptr<TenantWorker> writer_, reader_, stranger_;
};

TEST_P(DomainsTest, ASystemPromptIsSharedAndNothingBehindIt) {
  const TestContext context(1, kSegments);
  EXPECT_EQ(writer_->Compute(context, shared_), 0);
  EXPECT_EQ(writer_->Compute(context, shared_), kSegments * kSegmentTokens);
  // The same tokens, and only those of the domain are found.
  EXPECT_EQ(reader_->Compute(context, shared_), kSharedTokens);
  EXPECT_EQ(reader_->Compute(context, shared_), kSegments * kSegmentTokens);
  // Who does not ask for the domain does not find it.
  EXPECT_EQ(reader_->Compute(context, {}), 0);
  EXPECT_EQ(stranger_->Compute(context, {}), 0);
}

TEST_P(DomainsTest, WhatAReaderSealsIsItsOwn) {
  const TestContext context(2, kSegments);
  EXPECT_EQ(reader_->Compute(context, shared_), 0);
  EXPECT_EQ(reader_->Compute(context, shared_), kSegments * kSegmentTokens);
  EXPECT_EQ(writer_->Compute(context, shared_), 0);
}

TEST_P(DomainsTest, AStrangerIsRefused) {
  const TestContext context(3, kSegments);
  EXPECT_EQ(writer_->Compute(context, shared_), 0);
  for (const SharedPrefix& asked :
       {shared_, SharedPrefix{"nobody's", kSharedTokens}}) {
    const auto opened = stranger_->Open(context, asked);
    EXPECT_TRUE(absl::IsPermissionDenied(opened.status())) << opened.status();
    EXPECT_NE(opened.status().message().find("domain: '" + asked.domain),
              std::string::npos);
  }
  EXPECT_EQ(Sessions(), 0u);
}

// A store that has not read the tenants' file yet refuses for all.
TEST_P(DomainsTest, OneRefusalLeavesNoSessionBehind) {
  const TestContext context(4, kSegments);
  FC_CHECK_OK(stores_[0]
                  ->core->ConfigureTenants(
                      {TestTenant("writer"), TestTenant("reader")})
                  .status());
  EXPECT_TRUE(
      absl::IsPermissionDenied(writer_->Open(context, shared_).status()));
  EXPECT_EQ(Sessions(), 0u);
}

class ScatteredDomainsTest : public DomainsTest {};

// The session is opened again with the same domain.
TEST_P(ScatteredDomainsTest, AStoreThatComesBackIsToldOfTheDomain) {
  const TestContext context(5, kSegments);
  const auto opened = writer_->Open(context, shared_);
  ASSERT_EQ(opened.status(), absl::OkStatus());
  for (auto& store : stores_) store->Restart(/*keep=*/false);
  const Nanos end = Clock::Real()->Now() + 20 * kSecond;
  for (TenantWorker* worker : {writer_.get(), reader_.get()}) {
    while (worker->control.counters().reconnects < stores_.size()) {
      ASSERT_LT(Clock::Real()->Now(), end);
      worker->data_plane.Run([] {});
      std::this_thread::yield();
    }
  }
  ASSERT_EQ(writer_->control.counters().sessions_reopened, stores_.size());
  ASSERT_EQ(writer_->Fill(*opened, context), absl::OkStatus());
  ASSERT_EQ(writer_->control.counters().seals_skipped, 0u);
  EXPECT_EQ(reader_->Compute(context, shared_), kSharedTokens);
}

INSTANTIATE_TEST_SUITE_P(Stores, DomainsTest, ::testing::Values(1, 2));
INSTANTIATE_TEST_SUITE_P(Stores, ScatteredDomainsTest, ::testing::Values(2));

}  // namespace
}  // namespace forecache
