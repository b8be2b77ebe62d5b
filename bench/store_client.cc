#include "bench/store_client.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/half.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr size_t kSlotsBytes = size_t{32} << 20;
constexpr int kVocabulary = 50000;
constexpr int kPutsUnderWay = 16;
constexpr char kName[] = "store_bench";

}  // namespace

std::vector<int32_t> ContextTokens(uint64_t seed, int segments) {
  Rng rng(seed);
  std::vector<int32_t> tokens(size_t{1} * segments * kSegmentTokens);
  for (int32_t& token : tokens) {
    token = static_cast<int32_t>(rng.Below(kVocabulary));
  }
  return tokens;
}

StoreClient::StoreClient(const std::string& address,
                         const KvGeometry& geometry,
                         const StoreCredentials& credentials)
    : geometry_(geometry),
      control_(address, credentials),
      values_(2 * geometry.PartBytes()),
      slots_(kSlotsBytes),
      query_(size_t{1} * geometry.kv_heads * geometry.group *
             geometry.head_dim) {
  for (size_t at = 0; at < values_.size(); at += sizeof(uint16_t)) {
    const uint16_t value = FloatToKv(geometry.type, rng_.Normal());
    std::memcpy(values_.data() + at, &value, sizeof(value));
  }
  for (float& x : query_) x = static_cast<float>(rng_.Normal());
}

absl::StatusOr<std::unique_ptr<StoreClient>> StoreClient::Connect(
    const std::string& address, const UcxOptions& options,
    const KvGeometry& geometry, const StoreCredentials& credentials) {
  std::unique_ptr<StoreClient> client(
      new StoreClient(address, geometry, credentials));
  FC_ASSIGN_OR_RETURN(client->transport_, OpenUcxTransport(options));
  client->data_ = std::make_unique<DataClient>(client->transport_.get(),
                                               Clock::Real());
  FC_ASSIGN_OR_RETURN(const StoreAddress store,
                      client->control_.Attach(kName));
  bool connected = false;
  FC_RETURN_IF_ERROR(client->data_->Connect(
      store, client->OnDone([&connected] { connected = true; })));
  FC_RETURN_IF_ERROR(client->RunUntil([&connected] { return connected; }));
  return client;
}

ModelFingerprint StoreClient::Model() const {
  return {"00ff", "bench", geometry_, 10000.0f};
}

const std::byte* StoreClient::PartOf(int layer, int block, bool value) const {
  constexpr int kPartsApart = 409;  // a prime: layers differ from each other
  const size_t at = size_t{1} * (2 * layer + value) * kPartsApart + block;
  return values_.data() +
         at % (geometry_.PartBytes() / sizeof(uint16_t)) * sizeof(uint16_t);
}

absl::StatusOr<int> StoreClient::Open(std::vector<int32_t> tokens) {
  tokens_ = std::move(tokens);
  // A token more, so that all of the context is a prefix.
  std::vector<int32_t> prompt = tokens_;
  prompt.push_back(0);
  FC_ASSIGN_OR_RETURN(
      const OpenedSession opened,
      control_.OpenSession(Model(), prompt, kName));
  session_ = opened.handle;
  return opened.cached_tokens / kSegmentTokens;
}

absl::Status StoreClient::Close() { return control_.CloseSession(session_); }

int StoreClient::segments() const {
  return static_cast<int>(tokens_.size()) / kSegmentTokens;
}

std::vector<std::byte> StoreClient::PackPut(int number, int blocks) const {
  const int of_layer = segments() * kSegmentBlocks / blocks;
  const auto part = [&](bool value) {
    return [this, number, of_layer, blocks, value](int, int block) {
      return PartOf(number / of_layer, number % of_layer * blocks + block,
                    value);
    };
  };
  return PackPutPayload(geometry_, blocks, part(false), part(true));
}

int StoreClient::PutsOfContext(int blocks) const {
  return segments() * kSegmentBlocks / blocks * geometry_.layers;
}

absl::Status StoreClient::StartPut(int number, int blocks,
                                   std::vector<std::byte> payload,
                                   std::function<void()> done) {
  const int of_layer = segments() * kSegmentBlocks / blocks;
  return data_->PutBlocks(session_, number / of_layer,
                          number % of_layer * blocks, blocks,
                          std::move(payload), OnDone(std::move(done)));
}

absl::Status StoreClient::StartGet(int blocks, std::function<void()> done) {
  entries_.resize(blocks);
  for (wire::FetchEntry& entry : entries_) {
    entry.block =
        static_cast<uint32_t>(rng_.Below(segments() * kSegmentBlocks));
    entry.slot = next_slot_++;
  }
  return data_
      ->Fetch(session_, static_cast<int>(rng_.Below(geometry_.layers)),
              entries_, this, OnDone(std::move(done)))
      .status();
}

absl::Status StoreClient::StartProbe(std::function<void()> done) {
  return data_
      ->Probe(session_, static_cast<int>(rng_.Below(geometry_.layers)),
              segments() * kSegmentBlocks, 0.125f, query_,
              [this, done = std::move(done)](
                  const absl::StatusOr<ProbeResult>& result) {
                failure_.Update(result.status());
                done();
              })
      .status();
}

absl::StatusOr<int> StoreClient::Lookup(const std::vector<int32_t>& tokens) {
  FC_ASSIGN_OR_RETURN(const int held, control_.LookupPrefix(Model(), tokens));
  return held / kSegmentTokens;
}

absl::StatusOr<std::vector<double>> StoreClient::Seal(int first,
                                                      bool durably) {
  std::vector<double> took_ms;
  for (int segment = first; segment < segments(); ++segment) {
    const std::span<const int32_t> tokens = std::span(tokens_).subspan(
        size_t{1} * segment * kSegmentTokens, kSegmentTokens);
    const Nanos start = Clock::Real()->Now();
    if (durably) {
      FC_ASSIGN_OR_RETURN(const bool on_ssd,
                          control_.SealDurably(session_, segment, tokens));
      if (!on_ssd) {
        return absl::UnavailableError(
            absl::StrCat("segment ", segment, " did not get to SSD"));
      }
    } else {
      FC_RETURN_IF_ERROR(control_.SealSegment(session_, segment, tokens));
    }
    took_ms.push_back(1e-6 * (Clock::Real()->Now() - start));
  }
  return took_ms;
}

absl::Status StoreClient::Fill(int first, bool durably) {
  int under_way = 0;
  for (int put = 0; put < PutsOfContext(kSegmentBlocks); ++put) {
    if (put % segments() < first) continue;
    FC_RETURN_IF_ERROR(RunUntil([&] { return under_way < kPutsUnderWay; }));
    ++under_way;
    FC_RETURN_IF_ERROR(StartPut(put, kSegmentBlocks,
                                PackPut(put, kSegmentBlocks),
                                [&] { --under_way; }));
  }
  FC_RETURN_IF_ERROR(RunUntil([&] { return under_way == 0; }));
  return Seal(first, durably).status();
}

DataClient::Done StoreClient::OnDone(std::function<void()> done) {
  return [this, done = std::move(done)](const absl::Status& status) {
    failure_.Update(status);
    done();
  };
}

absl::Status StoreClient::Progress() {
  data_->Progress();
  return failure_;
}

absl::Status StoreClient::ProgressOrWait(Nanos timeout) {
  if (data_->Progress() == 0) data_->Wait(timeout);
  return failure_;
}

absl::Status StoreClient::RunUntil(const std::function<bool()>& done) {
  // Each request has its deadline, so this ends.
  while (!done()) FC_RETURN_IF_ERROR(Progress());
  return failure_;
}

void StoreClient::OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                          ByteView v) {
  const int at = static_cast<int>(entry.block);
  if (checks_bytes_ &&
      (std::memcmp(k.data(), PartOf(layer, at, false), k.size()) != 0 ||
       std::memcmp(v.data(), PartOf(layer, at, true), v.size()) != 0)) {
    failure_.Update(absl::DataLossError(absl::StrCat(
        "layer ", layer, ", block ", at, ": not the bytes that were put")));
  }
  const size_t block = geometry_.BlockBytes();
  std::byte* slot = slots_.data() + entry.slot % (kSlotsBytes / block) * block;
  std::memcpy(slot, k.data(), k.size());
  std::memcpy(slot + k.size(), v.data(), v.size());
}

void StoreClient::OnBlockFailed(int layer, const wire::FetchEntry& entry,
                                const absl::Status& why) {
  failure_.Update(
      Annotate(why, absl::StrCat("layer ", layer, ", block ", entry.block)));
}

}  // namespace forecache
