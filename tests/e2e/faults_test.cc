// Things that break while an answer is computed.

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include "common/clock.h"
#include "kvstore/client/control_client.h"
#include "tests/e2e/fixture.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

namespace forecache::e2e {
namespace {

constexpr size_t kTextBytes = 3500;
constexpr Nanos kEndBound = 20 * kSecond;  // from the store's death on

class FaultsTest : public DaemonTest {
 protected:
  // Flips one bit of a stored block of `text`, through a session of its own.
  void FlipStoredBit(const std::string& text, int layer, int kv_head,
                     int block) {
    auto model = LoadGgmlModel({.path = ModelPath()});
    auto tokenizer = LoadTokenizer(ModelPath());
    ASSERT_TRUE(model.ok() && tokenizer.ok());
    const ModelConfig& config = (*model)->config();
    const ModelFingerprint fingerprint{
        .weights_digest = config.weights_digest,
        .architecture = config.architecture,
        .geometry = {.layers = config.layers,
                     .kv_heads = config.kv_heads,
                     .head_dim = config.head_dim,
                     .group = config.group(),
                     .type = KvType::kF16},
        .rope_base = config.rope_base};
    ControlClient control(store().grpc);
    const auto session = control.OpenSession(
        fingerprint, (*tokenizer)->Encode(text, true), "flip");
    ASSERT_TRUE(session.ok()) << session.status();
    ASSERT_GT(session->cached_tokens, block * 16);
    auto admin = v1::StoreAdmin::NewStub(grpc::CreateChannel(
        store().admin, grpc::InsecureChannelCredentials()));
    v1::CorruptBlockRequest request;
    request.set_session_id(session->handle.id);
    request.set_layer(layer);
    request.set_kv_head(kv_head);
    request.set_block(block);
    request.set_bit(77);
    grpc::ClientContext context;
    v1::CorruptBlockReply reply;
    const grpc::Status flipped = admin->CorruptBlock(&context, request, &reply);
    ASSERT_TRUE(flipped.ok()) << flipped.error_message();
    EXPECT_TRUE(control.CloseSession(session->handle).ok());
  }
};

TEST_F(FaultsTest, FlippedBitIsRefusedAndRecomputed) {
  StartBoth({"--enable-fault-injection"});
  const std::string text = StoryText(kTextBytes);
  const auto before = Generate(Request(text, v1::EXACT));
  ASSERT_TRUE(before.ok()) << before.status();
  FlipStoredBit(text, 7, 1, 20);
  // The loss shows while the prefix is read: the damaged segment is dropped,
  // and computed again.
  const auto after = Generate(Request(text, v1::EXACT));
  ASSERT_TRUE(after.ok()) << after.status();
  const auto stats = client()->StoreStats();
  ASSERT_TRUE(stats.ok());
  EXPECT_GE(stats->blocks_refused(), 1u);
  EXPECT_GE(stats->segments_dropped(), 1u);
  EXPECT_EQ(after->summary.cached_tokens(), 256u);  // block 20 is in segment 1
  EXPECT_EQ(after->text, before->text);
}

TEST_F(FaultsTest, FaultInjectionMustBeAskedFor) {
  StartBoth();
  auto admin = v1::StoreAdmin::NewStub(grpc::CreateChannel(
      store().admin, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::CorruptBlockReply reply;
  EXPECT_EQ(admin->CorruptBlock(&context, {}, &reply).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(FaultsTest, DeadStoreEndsTheAnswerWithinABound) {
  StartBoth();
  Nanos killed_at = 0;
  bool killed = false;
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_max_tokens(1000);
  const auto answer =
      client()->Generate(request, [&](const v1::GenerateEvent& event) {
        if (event.has_token() && !killed) {
          kill(store().pid, SIGKILL);
          killed = true;
          killed_at = Clock::Real()->Now();
        }
      });
  ASSERT_TRUE(killed);
  EXPECT_TRUE(absl::IsUnavailable(answer.status()) ||
              absl::IsDeadlineExceeded(answer.status()))
      << answer.status();
  EXPECT_LT(Clock::Real()->Now() - killed_at, kEndBound);
}

TEST_F(FaultsTest, PausedStoreDelaysTheAnswerAndDoesNotChangeIt) {
  StartBoth();
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_late_policy(v1::STRICT);
  const auto undisturbed = Generate(request);
  ASSERT_TRUE(undisturbed.ok()) << undisturbed.status();
  int tokens = 0;
  const auto paused =
      client()->Generate(request, [&](const v1::GenerateEvent& event) {
        if (!event.has_token() || ++tokens != 5) return;
        kill(store().pid, SIGSTOP);
        Clock::Real()->SleepFor(500 * kMillisecond);
        kill(store().pid, SIGCONT);
      });
  ASSERT_TRUE(paused.ok()) << paused.status();
  EXPECT_EQ(paused->text, undisturbed->text);
}

TEST_F(FaultsTest, ClientThatGoesAwayFreesTheWorker) {
  StartBoth();
  auto stub = v1::Worker::NewStub(grpc::CreateChannel(
      worker().grpc, grpc::InsecureChannelCredentials()));
  {
    grpc::ClientContext context;
    auto request = Request(StoryText(kTextBytes), v1::SPARSE);
    request.set_max_tokens(4000);
    auto reader = stub->Generate(&context, request);
    v1::GenerateEvent event;
    while (reader->Read(&event) && !event.has_token()) {
    }
    context.TryCancel();
  }
  const auto next = Generate(Request(StoryText(kTextBytes), v1::SPARSE));
  EXPECT_TRUE(next.ok()) << next.status();
  const auto worker = client()->Describe();
  ASSERT_TRUE(worker.ok());
  EXPECT_EQ(worker->arena_bytes_in_use(), 0u);
  const auto stats = client()->StoreStats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->sessions(), 0u);
}

}  // namespace
}  // namespace forecache::e2e
