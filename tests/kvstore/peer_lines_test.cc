#include "kvstore/peer_lines.h"

#include <gtest/gtest.h>

#include <map>

namespace forecache {
namespace {

struct Peer {};
using Lines = PeerLines<Peer, int>;

// Sends from whoever's turn it is, all lines being full: each push is of
// `bytes(tenant)`.  Returns what each tenant sent.
template <typename Bytes>
std::map<int, size_t> Serve(Lines* lines, int pushes, const Bytes& bytes) {
  std::map<int, size_t> sent;
  for (int i = 0; i < pushes; ++i) {
    const int line = lines->LineAt(0);
    const int tenant = *lines->Front(line);
    sent[tenant] += bytes(tenant);
    lines->EndTurn(line, bytes(tenant));
  }
  return sent;
}

TEST(PeerLinesTest, BytesFollowTheShares) {
  Lines lines(100, 10);
  Peer peers[3];
  const int shares[] = {1, 2, 5};
  for (int t = 0; t < 3; ++t) lines.Push(&peers[t], t, shares[t]) = t;
  // Pushes of the largest size, and of sizes that do not divide a quantum.
  for (size_t odd : {size_t{0}, size_t{70001}}) {
    const auto bytes = [&](int t) { return kPushBytesMax - odd * t; };
    auto sent = Serve(&lines, 8000, bytes);
    for (int t = 1; t < 3; ++t) {
      EXPECT_NEAR(double(sent[t]) / sent[0], shares[t], 0.02 * shares[t]);
    }
  }
}

TEST(PeerLinesTest, ManyConnectionsGetATenantNoMore) {
  Lines lines(100, 10);
  Peer peers[31];
  for (int i = 0; i < 30; ++i) lines.Push(&peers[i], 1, 1) = 1;
  lines.Push(&peers[30], 2, 1) = 2;
  const auto bytes = [](int) { return kPushBytesMax; };
  auto sent = Serve(&lines, 3000, bytes);
  EXPECT_NEAR(double(sent[1]) / sent[2], 1, 0.01);
}

TEST(PeerLinesTest, ATenantsPeersTakeTurns) {
  Lines lines(100, 10);
  Peer peers[3];
  std::map<int, int> turns;
  for (int i = 0; i < 3; ++i) lines.Push(&peers[i], 7, 2) = i;
  for (int i = 0; i < 300; ++i) {
    const int line = lines.LineAt(0);
    ++turns[*lines.Front(line)];
    lines.EndTurn(line, kPushBytesMax);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(turns[i], 100);
}

// One that sends only small pushes is not owed the bytes that it never asked.
TEST(PeerLinesTest, IdleTimeIsNotSavedUp) {
  Lines lines(100, 10);
  Peer a, b;
  lines.Push(&a, 1, 1) = 1;
  const auto bytes = [](int) { return kPushBytesMax; };
  Serve(&lines, 1000, bytes);
  lines.Push(&b, 2, 1) = 2;
  auto sent = Serve(&lines, 100, bytes);
  EXPECT_NEAR(double(sent[1]) / sent[2], 1, 0.1);
}

// A line may be passed over: what is behind it in the order goes on, and it
// has its turn still.
TEST(PeerLinesTest, WhoCannotSendLeavesItsTurn) {
  Lines lines(100, 10);
  Peer a, b;
  lines.Push(&a, 1, 1) = 1;
  lines.Push(&b, 2, 1) = 2;
  const int stalled = lines.LineAt(0);
  for (int i = 0; i < 50; ++i) {
    int next = 0;
    while (lines.LineAt(next) == stalled) ++next;
    lines.EndTurn(lines.LineAt(next), kPushBytesMax);
  }
  EXPECT_EQ(lines.LineAt(0), stalled);
}

TEST(PeerLinesTest, LinesEndWithTheirLastTokenAndPlacesComeBack) {
  Lines lines(4, 2);
  Peer peer;
  for (int round = 0; round < 10; ++round) {
    for (uint32_t tenant : {1u, 2u}) {
      lines.Push(&peer, tenant, 1) = 1;
      lines.Push(&peer, tenant, 1) = 2;
    }
    EXPECT_TRUE(lines.full());
    EXPECT_EQ(lines.lines(), 2);
    const int line = lines.LineAt(0);
    lines.TakeToken(line);
    lines.Forget(&peer);
    lines.Pop(line);
    lines.Pop(line);
    EXPECT_EQ(lines.lines(), 2);  // the token is out
    lines.ReturnToken(line);
    EXPECT_EQ(lines.lines(), 1);
    lines.Pop(lines.LineAt(0));
    lines.Pop(lines.LineAt(0));
    EXPECT_EQ(lines.lines(), 0);
    EXPECT_EQ(lines.size(), 0);
  }
}

}  // namespace
}  // namespace forecache
