#include "bench/tenants_load.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr Nanos kQuietPeriod = 5 * kMillisecond;
constexpr int kQuietBlocks = 16;
constexpr int kUnderWayMax = 8;  // of the neighbour's
constexpr int kFloodBlocks = 64;
constexpr int kFloodSsdBlocks = 16;
constexpr int kPutContext = 4;      // segments
constexpr int kLookupContext = 16;  // the same
constexpr uint64_t kMemorySeed = 101;
constexpr Nanos kLook = kMillisecond;  // whether to stop

Nanos Now() { return Clock::Real()->Now(); }

}  // namespace

absl::StatusOr<std::unique_ptr<StoreClient>> ConnectTenant(
    const TenantsStore& store) {
  StoreCredentials credentials;
  credentials.token = store.token;
  return StoreClient::Connect(store.address, store.options, store.geometry,
                              credentials);
}

absl::StatusOr<std::vector<double>> FetchQuietly(StoreClient* client,
                                                 Nanos length) {
  std::vector<double> us;
  const size_t count = std::max<Nanos>(1, length / kQuietPeriod);
  const Nanos start = Now();
  for (size_t begun = 0; us.size() < count;) {
    const Nanos due = start + static_cast<Nanos>(begun) * kQuietPeriod;
    const Nanos now = Now();
    if (begun < count && now >= due) {
      FC_RETURN_IF_ERROR(client->StartGet(kQuietBlocks, [&us, due] {
        us.push_back(1e-3 * (Now() - due));
      }));
      ++begun;
      FC_RETURN_IF_ERROR(client->Progress());
      continue;
    }
    FC_RETURN_IF_ERROR(
        client->ProgressOrWait(begun < count ? due - now : kQuietPeriod));
  }
  return us;
}

std::string FloodName(Flood flood) {
  switch (flood) {
    case Flood::kFetches:
      return "fetches";
    case Flood::kFetchesSsd:
      return "fetches_ssd";
    case Flood::kPuts:
      return "puts";
    case Flood::kProbes:
      return "probes";
    case Flood::kLookups:
      return "lookups";
    case Flood::kSessions:
      return "sessions";
  }
  return "";
}

absl::StatusOr<std::unique_ptr<Neighbour>> Neighbour::Connect(
    const TenantsStore& store, const TenantsSizes& sizes) {
  std::unique_ptr<Neighbour> neighbour(new Neighbour());
  for (auto* client : {&neighbour->reader_, &neighbour->ssd_reader_,
                       &neighbour->writer_}) {
    FC_ASSIGN_OR_RETURN(*client, ConnectTenant(store));
  }
  FC_ASSIGN_OR_RETURN(
      const int on_ssd,
      neighbour->ssd_reader_->Open(
          ContextTokens(kSsdContextSeed, sizes.ssd_context)));
  if (on_ssd != sizes.ssd_context) {
    return absl::DataLossError(
        absl::StrCat("the neighbour's context on SSD has ", on_ssd, " of ",
                     sizes.ssd_context, " segments"));
  }
  FC_RETURN_IF_ERROR(
      neighbour->reader_->Open(ContextTokens(kMemorySeed, sizes.context))
          .status());
  FC_RETURN_IF_ERROR(neighbour->reader_->Fill(0, /*durably=*/false));
  // Begins as the context does that is held.
  neighbour->known_ = ContextTokens(
      kMemorySeed, std::min(sizes.context, kLookupContext) + 1);
  return neighbour;
}

StoreClient* Neighbour::ClientOf(Flood flood) const {
  if (flood == Flood::kFetches || flood == Flood::kProbes) {
    return reader_.get();
  }
  return flood == Flood::kFetchesSsd ? ssd_reader_.get() : writer_.get();
}

absl::Status Neighbour::PutContext() {
  FC_RETURN_IF_ERROR(
      writer_->Open(ContextTokens(next_seed_++, kPutContext)).status());
  FC_RETURN_IF_ERROR(writer_->Fill(0, /*durably=*/false));
  return writer_->Close();
}

absl::Status Neighbour::Begin(Flood flood, std::function<void()> done) {
  switch (flood) {
    case Flood::kFetches:
      return reader_->StartGet(kFloodBlocks, std::move(done));
    case Flood::kFetchesSsd:
      return ssd_reader_->StartGet(kFloodSsdBlocks, std::move(done));
    case Flood::kProbes:
      return reader_->StartProbe(std::move(done));
    case Flood::kPuts:
      FC_RETURN_IF_ERROR(PutContext());
      break;
    case Flood::kLookups:
      FC_RETURN_IF_ERROR(writer_->Lookup(known_).status());
      break;
    case Flood::kSessions:
      FC_RETURN_IF_ERROR(writer_->Open(known_).status());
      FC_RETURN_IF_ERROR(writer_->Close());
      break;
  }
  done();
  return absl::OkStatus();
}

absl::StatusOr<double> Neighbour::Run(Flood flood, Nanos pause,
                                      const std::atomic<bool>& stop) {
  StoreClient* const client = ClientOf(flood);
  const Nanos start = Now();
  Nanos next = start;
  int under_way = 0;
  uint64_t ended = 0;
  const auto done = [&] {
    --under_way;
    ++ended;
  };
  while (!stop || ended == 0) {
    const Nanos now = Now();
    if (under_way < kUnderWayMax && now >= next) {
      ++under_way;
      FC_RETURN_IF_ERROR(Begin(flood, done));
      // What it is late for is not made up.
      next = std::max(next + pause, now);
      FC_RETURN_IF_ERROR(client->Progress());
      continue;
    }
    FC_RETURN_IF_ERROR(client->ProgressOrWait(
        under_way < kUnderWayMax ? std::min(next - now, kLook) : kLook));
  }
  FC_RETURN_IF_ERROR(client->RunUntil([&] { return under_way == 0; }));
  return 1e9 * static_cast<double>(ended) / (Now() - start);
}

}  // namespace forecache
