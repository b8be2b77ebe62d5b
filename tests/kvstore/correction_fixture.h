// What tests do with corrections.
#ifndef FORECACHE_TESTS_KVSTORE_CORRECTION_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_CORRECTION_FIXTURE_H_

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {

// Keeps what a correction brings, by slot.
//
// Threads: one thread.
class KeepingCorrectSink : public CorrectSink {
 public:
  using Bytes = std::vector<std::byte>;
  struct Block {
    wire::PushEntry entry;
    Bytes k, v;
  };

  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    EXPECT_TRUE(answered.insert(entry.slot).second) << "answered twice";
    blocks[entry.slot] = {entry, {k.begin(), k.end()}, {v.begin(), v.end()}};
  }
  void OnSlotReturned(int layer, int kv_head, const wire::OfferedSlot& slot,
                      const absl::Status& why) override {
    EXPECT_TRUE(answered.insert(slot.slot).second) << "answered twice";
    returned[slot.slot] = {kv_head, why};
  }
  void OnCorrected(const CorrectResult& result) override {
    ++replies;
    heads.assign(result.heads.begin(), result.heads.end());
    lse.assign(result.lse.begin(), result.lse.end());
    scores = Floats(result.log_probability);
    tail_lse.assign(result.tail.lse.begin(), result.tail.lse.end());
    tail_key = Floats(result.tail.key);
    tail_value = Floats(result.tail.value);
  }

  std::set<uint32_t> answered;
  std::map<uint32_t, Block> blocks;
  std::map<uint32_t, std::pair<int, absl::Status>> returned;
  int replies = 0;
  std::vector<wire::CorrectedHead> heads;
  std::vector<float> lse, scores;
  std::vector<float> tail_lse, tail_key, tail_value;

 private:
  static std::vector<float> Floats(std::span<const uint16_t> f16) {
    std::vector<float> floats;
    for (const uint16_t bits : f16) floats.push_back(F16ToFloat(bits));
    return floats;
  }
};

// Attention in f64 of one query head over whole blocks of one KV head: what a
// tail stands for.
struct ExactTail {
  ExactTail(const TestContext& context, const CorrectRequest& request,
            int head, int query, const std::set<int>& blocks)
      : key(context.geometry().head_dim), value(key) {
    const KvGeometry& geometry = context.geometry();
    const size_t d = geometry.head_dim;
    const float* q = request.q.data() + (head * geometry.group + query) * d;
    double sum = 0;
    for (const int block : blocks) {
      const auto part = [&](bool is_value) {
        return reinterpret_cast<const uint16_t*>(
            context.Part(request.layer, head, block, is_value).data());
      };
      const uint16_t* const k = part(false);
      const uint16_t* const v = part(true);
      for (size_t t = 0; t < kBlockTokens; ++t) {
        double logit = 0;
        for (size_t c = 0; c < d; ++c) {
          logit += double{q[c]} * KvToFloat(geometry.type, k[t * d + c]);
        }
        const double weight = std::exp(logit * request.scale);
        sum += weight;
        for (size_t c = 0; c < d; ++c) {
          key[c] += weight * KvToFloat(geometry.type, k[t * d + c]);
          value[c] += weight * KvToFloat(geometry.type, v[t * d + c]);
        }
      }
    }
    for (size_t c = 0; c < d; ++c) {
      key[c] /= sum;
      value[c] /= sum;
    }
    lse = std::log(sum);
  }

  double lse = 0;
  std::vector<double> key, value;
};

// A correction that offers `slots` slots a KV head, numbered from `first_slot`,
// over blocks [0, blocks) of which none is resident.
struct TestCorrection {
  TestCorrection(const KvGeometry& geometry, int blocks, uint32_t slots,
                 uint64_t seed = 1, uint32_t first_slot = 100)
      : geometry(geometry),
        q(size_t{1} * geometry.kv_heads * geometry.group * geometry.head_dim),
        resident(geometry.kv_heads * wire::ResidentWords(blocks)),
        slot_count(geometry.kv_heads, slots) {
    Rng rng(seed);
    for (float& x : q) x = rng.Normal();
    for (uint32_t i = 0; i < slots * geometry.kv_heads; ++i) {
      offered.push_back({first_slot + i, i * 3 + 1});
    }
    request.blocks = blocks;
    request.end = blocks;
    request.scale = 1 / std::sqrt(float(geometry.head_dim));
  }

  void SetResident(int head, int block) {
    resident[head * wire::ResidentWords(request.blocks) + block / 64] |=
        uint64_t{1} << (block % 64);
  }
  const CorrectRequest& Request() {
    request.q = q;
    request.resident = resident;
    request.slot_count = slot_count;
    request.slots = offered;
    request.local_lse = local_lse;
    return request;
  }

  KvGeometry geometry;
  std::vector<float> q, local_lse;
  std::vector<uint64_t> resident;
  std::vector<uint32_t> slot_count;
  std::vector<wire::OfferedSlot> offered;
  CorrectRequest request;
};

class CorrectionFixture : public DataPlaneFixture {
 protected:
  absl::Status ClientCorrect(const SessionHandle& session,
                             TestCorrection& correction, CorrectSink* sink) {
    return Await([&](DataClient::Done done) {
      return client_
          ->Correct(session, correction.Request(), sink, std::move(done))
          .status();
    });
  }
};

// Whether the blocks that came are the context's.
inline void ExpectBlocks(const KeepingCorrectSink& sink,
                         const TestContext& context, int layer) {
  for (const auto& [slot, block] : sink.blocks) {
    const wire::PushEntry& entry = block.entry;
    EXPECT_TRUE(std::ranges::equal(
        block.k, context.Part(layer, entry.kv_head, entry.block, false)));
    EXPECT_TRUE(std::ranges::equal(
        block.v, context.Part(layer, entry.kv_head, entry.block, true)));
  }
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_CORRECTION_FIXTURE_H_
