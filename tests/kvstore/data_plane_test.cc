// DataClient and DataPlane over the loopback transport.
#include <gtest/gtest.h>

#include <vector>

#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {
namespace {

TEST_F(DataPlaneFixture, FetchBringsWhatWasPut) {
  TestContext context(1, 2);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  EXPECT_EQ(client_->TransportName(), "loopback");
  EXPECT_EQ(plane_->TransportName(), "loopback");
  ASSERT_EQ(ClientPut(session, context, 1, 0, 20), absl::OkStatus());
  KeepingSink sink;
  ASSERT_EQ(ClientFetch(session, 1, AllEntries(context.geometry(), 20), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 40);
  for (int head = 0; head < 2; ++head) {
    for (int block = 0; block < 20; ++block) {
      ExpectBlock(sink, context, 1, head, block);
    }
  }
  EXPECT_EQ(sink.last.generation, 7);
  EXPECT_EQ(client_->counters().blocks_put, 40);
  EXPECT_EQ(client_->counters().blocks_received, 40);
  EXPECT_EQ(client_->counters().bytes_received,
            40 * context.geometry().BlockBytes());
  EXPECT_EQ(client_->requests_in_flight(), 0);
}

TEST_F(DataPlaneFixture, OneFetchBringsBlocksOfManyLayers) {
  TestContext context(1, 2);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 0, 0, 20), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 1, 0, 20), absl::OkStatus());
  // Block b of head 0 in layer b % 2, of head 1 in the other.
  std::vector<wire::FetchEntry> entries = AllEntries(context.geometry(), 20);
  for (wire::FetchEntry& entry : entries) {
    entry.layer = (entry.block + entry.kv_head) % 2;
  }
  KeepingSink sink;
  ASSERT_EQ(Await([&](DataClient::Done done) {
              return client_->FetchLayers(session, entries, &sink, done)
                  .status();
            }),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 40);
  for (const wire::FetchEntry& entry : entries) {
    ExpectBlock(sink, context, entry.layer, entry.kv_head, entry.block);
  }
  entries[3].layer = 2;
  KeepingSink none;
  EXPECT_TRUE(absl::IsInvalidArgument(Await([&](DataClient::Done done) {
    return client_->FetchLayers(session, entries, &none, done).status();
  })));
  EXPECT_EQ(none.failed.size(), 40);
}

TEST_F(DataPlaneFixture, LargeFetchTakesManyPushes) {
  MakePlane({.push_buffers = 2});
  KvGeometry geometry = kTestGeometry;
  geometry.head_dim = 128;
  TestContext context(2, 3, geometry);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 0, 0, 48), absl::OkStatus());
  KeepingSink sink;
  ASSERT_EQ(ClientFetch(session, 0, AllEntries(geometry, 48), &sink),
            absl::OkStatus());
  ASSERT_EQ(sink.blocks.size(), 96);
  for (int block = 0; block < 48; ++block) {
    ExpectBlock(sink, context, 0, 1, block);
  }
}

TEST_F(DataPlaneFixture, AbsentBlocksAreNotFound) {
  TestContext context(3, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 0, 4, 1), absl::OkStatus());
  KeepingSink sink;
  std::vector<wire::FetchEntry> entries = {
      {3, 0, 0, 0, 1}, {4, 0, 0, 1, 1}, {5, 1, 0, 2, 1}, {500, 1, 0, 3, 1}};
  ASSERT_EQ(ClientFetch(session, 0, entries, &sink), absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 1);
  ExpectBlock(sink, context, 0, 0, 4);
  ASSERT_EQ(sink.failed.size(), 3);
  for (const auto& [at, why] : sink.failed) {
    EXPECT_TRUE(absl::IsNotFound(why)) << why;
  }
}

TEST_F(DataPlaneFixture, DamagedBlockIsNeverDelivered) {
  TestContext context(7, 1);
  NewSession opened = Open(context);
  SessionHandle session = HandleOf(opened, context);
  ASSERT_EQ(PutAndSeal(opened.id, context, 0), absl::OkStatus());
  ASSERT_EQ(Cached(context), 256);
  ASSERT_EQ(store_->CorruptBlock(opened.id, 1, 0, 9, /*value_part=*/true, 77),
            absl::OkStatus());
  ASSERT_EQ(Connect(), absl::OkStatus());
  KeepingSink sink;
  ASSERT_EQ(ClientFetch(session, 1, AllEntries(context.geometry(), 16), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 31);
  ASSERT_EQ(sink.failed.size(), 1);
  EXPECT_TRUE(absl::IsDataLoss((sink.failed[{0, 9}])));
  ExpectBlock(sink, context, 1, 0, 10);  // what follows has moved up
  EXPECT_EQ(client_->counters().blocks_refused, 1);
  EXPECT_EQ(store_->metrics().blocks_refused_read->Value(), 1);
  EXPECT_EQ(store_->metrics().segments_dropped->Value(), 1);
  EXPECT_EQ(Cached(context), 0);
  EXPECT_EQ(Open(context).cached_tokens, 0);
}

TEST_F(DataPlaneFixture, DamagedPutIsRefused) {
  TestContext context(8, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  std::vector<std::byte> payload = context.PutPayload(0, 0, 2);
  payload[payload.size() - 5] ^= std::byte{4};
  absl::Status status = Await([&](DataClient::Done done) {
    return client_->PutBlocks(session, 0, 0, 2, payload, done);
  });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(store_->metrics().blocks_refused_put->Value(), 1);
  EXPECT_EQ(store_->metrics().blocks_put->Value(), 0);
}

TEST_F(DataPlaneFixture, StaleKeyIsRefused) {
  TestContext context(9, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  SessionHandle stale = session;
  stale.key[1] ^= 1;
  EXPECT_TRUE(absl::IsUnauthenticated(ClientPut(stale, context, 0, 0, 1)));
  stale = session;
  stale.id ^= 1;
  EXPECT_TRUE(absl::IsUnauthenticated(ClientPut(stale, context, 0, 0, 1)));
  KeepingSink sink;
  absl::Status status = ClientFetch(stale, 0, {{0, 0, 0, 0, 0}}, &sink);
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_EQ(sink.failed.size(), 1);
  store_->CloseSession(session.id);
  std::vector<float> q(2 * 2 * 32);
  EXPECT_TRUE(absl::IsUnauthenticated(
      ClientProbe(session, 0, 1, q, 1).status()));
  EXPECT_EQ(store_->metrics().refused_session->Value(), 4);
}

TEST_F(DataPlaneFixture, OtherEpochIsRefused) {
  absl::Status status = Await([&](DataClient::Done done) {
    StoreAddress store = AddressOf(*plane_);
    ++store.epoch;
    return client_->Connect(store, done);
  });
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(DataPlaneFixture, RequestOutsideItsLimitIsRefused) {
  TestContext context(10, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  SessionHandle wrong = session;
  wrong.geometry.layers = 200;  // so that the client lets it pass
  KeepingSink sink;
  EXPECT_TRUE(absl::IsInvalidArgument(
      ClientFetch(wrong, 150, {{0, 0, 0, 0, 0}}, &sink)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      ClientFetch(session, 0, {{0, 9, 0, 0, 0}}, &sink)));
  EXPECT_TRUE(absl::IsInvalidArgument(
      ClientFetch(session, 0, {{1u << 20, 0, 0, 0, 0}}, &sink)));
  EXPECT_TRUE(absl::IsInvalidArgument(ClientFetch(session, 0, {}, &sink)));
  EXPECT_EQ(store_->metrics().refused_request->Value(), 3);
  // The session goes on.
  EXPECT_EQ(ClientPut(session, context, 0, 0, 1), absl::OkStatus());
}

TEST_F(DataPlaneFixture, SilenceEndsAtTheDeadline) {
  TestContext context(11, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  plane_->Stop();
  KeepingSink sink;
  absl::Status fetched, put;
  ASSERT_TRUE(client_
                  ->Fetch(session, 0, {{{0, 0, 0, 0, 0}}}, &sink,
                          [&](const absl::Status& got) { fetched = got; })
                  .ok());
  ASSERT_TRUE(client_
                  ->PutBlocks(session, 0, 0, 1, context.PutPayload(0, 0, 1),
                              [&](const absl::Status& got) { put = got; })
                  .ok());
  client_->Progress();
  EXPECT_EQ(client_->requests_in_flight(), 2);
  clock_.Advance(kRequestTimeout);
  client_->Progress();
  EXPECT_TRUE(absl::IsDeadlineExceeded(fetched)) << fetched;
  EXPECT_TRUE(absl::IsDeadlineExceeded(put)) << put;
  EXPECT_TRUE(absl::IsDeadlineExceeded((sink.failed[{0, 0}])));
  EXPECT_EQ(client_->counters().requests_timed_out, 2);
  EXPECT_EQ(client_->requests_in_flight(), 0);
}

TEST_F(DataPlaneFixture, CancelEndsTheFetchAtOnce) {
  TestContext context(12, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 0, 0, 16), absl::OkStatus());
  KeepingSink sink;
  absl::Status fetched;
  auto id = client_->Fetch(session, 0, AllEntries(context.geometry(), 16),
                           &sink,
                           [&](const absl::Status& got) { fetched = got; });
  ASSERT_TRUE(id.ok());
  client_->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(fetched));
  EXPECT_EQ(sink.failed.size(), 32);
  client_->Cancel(*id);  // twice is fine
  // What was pushed all the same is dropped, and later requests work.
  EXPECT_EQ(ClientPut(session, context, 1, 0, 16), absl::OkStatus());
  EXPECT_TRUE(sink.blocks.empty());
}

TEST_F(DataPlaneFixture, DeadStoreEndsRequests) {
  TestContext context(13, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  plane_->Stop();
  absl::Status put;
  ASSERT_TRUE(client_
                  ->PutBlocks(session, 0, 0, 1, context.PutPayload(0, 0, 1),
                              [&](const absl::Status& got) { put = got; })
                  .ok());
  plane_ = nullptr;
  ASSERT_TRUE(Until([&] { return !put.ok(); }));
  EXPECT_TRUE(absl::IsUnavailable(put)) << put;
  EXPECT_TRUE(
      absl::IsUnavailable(ClientPut(session, context, 0, 0, 1)));
}

TEST_F(DataPlaneFixture, RequestsAreBounded) {
  TestContext context(14, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  plane_->Stop();
  std::vector<float> q(2 * 2 * 32);
  absl::Status status;
  int started = 0;
  while (status.ok() && started <= kRequestsInFlightMax) {
    status = client_->Probe(session, 0, 1, 1, q, nullptr).status();
    started += status.ok();
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(client_->requests_in_flight(), started);
}

}  // namespace
}  // namespace forecache
