// Puts and gets of a store, in memory and on SSD, beside what bounds them.
//
// A get is a fetch of random blocks of one layer, a put brings consecutive
// blocks of one layer.  A block has 4 KiB here (one KV head of 64 channels in
// bf16), so requests of 4 KiB, 64 KiB and 1 MiB have 1, 16 and 256 blocks; a
// segment of 16 layers has 1 MiB.  A batch is that many requests at once, and
// its time lasts until the last of them was answered.  Clients have a
// connection and a session each, and take turns on one thread.
//
// A put is acknowledged from memory, whatever the tier: so put/ssd tells how
// long a segment's seal takes until it is durable, and its rate is of puts and
// seals together.  Gets from SSD ask a store that was killed and started again
// with too little memory to keep what it reads.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/harness.h"
#include "bench/store_cases.h"
#include "bench/store_client.h"
#include "bench/store_process.h"
#include "bench/transport_pair.h"
#include "common/log.h"
#include "common/status.h"
#include "demo/processes.h"

namespace forecache {
namespace {

constexpr int kRepeats = 5;
constexpr int kReadSegments = 128;
constexpr uint64_t kReadSeed = 1;
constexpr char kRoomyMib[] = "384";
// Holds the code planes of what is read, and next to nothing of its blocks.
constexpr char kTightMib[] = "32";
constexpr char kSsdMib[] = "640";

void Progress(const std::string& what) {
  std::fprintf(stderr, "store: %s\n", what.c_str());
}

// Threads: one thread.
class StoreBench {
 public:
  StoreBench(Harness* harness, const StoreProcessFlags& flags,
             demo::Processes* processes)
      : harness_(harness),
        binary_(flags.binary()),
        options_(flags.ucx),
        geometry_(StoreBenchGeometry(harness->smoke())),
        segments_(harness->smoke() ? kPutSegments : kReadSegments),
        processes_(processes) {}

  absl::Status Run(TransportPair* pair);

 private:
  using Clients = std::vector<std::unique_ptr<StoreClient>>;
  absl::StatusOr<demo::Daemon> Start(const std::string& name,
                                     const std::string& dram_mib, bool ssd);
  absl::StatusOr<Clients> Connect(const demo::Daemon& store);
  // A session over the context that is read for each client.
  absl::StatusOr<Clients> ConnectReaders(const demo::Daemon& store);
  absl::Status Fill(const demo::Daemon& store, bool durably);
  absl::Status PrepareDram();
  absl::Status PrepareSsd();

  Harness* const harness_;
  const std::string binary_;
  const UcxOptions options_;
  const KvGeometry geometry_;
  const int segments_;
  demo::Processes* const processes_;
  StoreUnderTest dram_{.tier = "dram"};
  StoreUnderTest ssd_{.tier = "ssd"};
};

absl::StatusOr<demo::Daemon> StoreBench::Start(const std::string& name,
                                               const std::string& dram_mib,
                                               bool ssd) {
  // Puts into memory that was never used take three times as long where no huge
  // pages are to be had.
  std::vector<std::string> flags = {"--dram-mib", dram_mib, "--prefault-dram",
                                    "--log-level", "warning"};
  if (ssd) {
    flags.insert(flags.end(),
                 {"--ssd-dir", absl::StrCat(processes_->folder(), "/", name),
                  "--ssd-mib", kSsdMib, "--ssd-scrub-mib-per-s", "0",
                  "--ssd-promote-mib-per-s", "1"});
  }
  return StartPinned(processes_, name, binary_, flags);
}

absl::StatusOr<StoreBench::Clients> StoreBench::Connect(
    const demo::Daemon& store) {
  Clients clients;
  for (int i = 0; i < kStoreClientsMax; ++i) {
    FC_ASSIGN_OR_RETURN(
        auto client, StoreClient::Connect(store.grpc, options_, geometry_));
    clients.push_back(std::move(client));
  }
  return clients;
}

absl::StatusOr<StoreBench::Clients> StoreBench::ConnectReaders(
    const demo::Daemon& store) {
  FC_ASSIGN_OR_RETURN(Clients clients, Connect(store));
  for (auto& client : clients) {
    FC_ASSIGN_OR_RETURN(const int held,
                        client->Open(ContextTokens(kReadSeed, segments_)));
    if (held != segments_) {
      return absl::DataLossError(
          absl::StrCat(store.name, ": it has ", held, " of ", segments_,
                       " segments"));
    }
  }
  return clients;
}

absl::Status StoreBench::Fill(const demo::Daemon& store, bool durably) {
  FC_ASSIGN_OR_RETURN(auto client,
                      StoreClient::Connect(store.grpc, options_, geometry_));
  FC_RETURN_IF_ERROR(
      client->Open(ContextTokens(kReadSeed, segments_)).status());
  FC_RETURN_IF_ERROR(client->Fill(0, durably));
  return client->Close();
}

absl::Status StoreBench::PrepareDram() {
  FC_ASSIGN_OR_RETURN(const demo::Daemon store,
                      Start("dram", kRoomyMib, /*ssd=*/false));
  FC_RETURN_IF_ERROR(Fill(store, /*durably=*/false));
  FC_ASSIGN_OR_RETURN(dram_.readers, ConnectReaders(store));
  FC_ASSIGN_OR_RETURN(dram_.writers, Connect(store));
  return absl::OkStatus();
}

absl::Status StoreBench::PrepareSsd() {
  FC_ASSIGN_OR_RETURN(demo::Daemon store,
                      Start("ssd-read", kRoomyMib, /*ssd=*/true));
  FC_RETURN_IF_ERROR(Fill(store, /*durably=*/true));
  processes_->Kill(store);
  FC_ASSIGN_OR_RETURN(store, Start("ssd-read", kTightMib, /*ssd=*/true));
  FC_ASSIGN_OR_RETURN(ssd_.readers, ConnectReaders(store));
  FC_ASSIGN_OR_RETURN(store, Start("ssd-write", kRoomyMib, /*ssd=*/true));
  FC_ASSIGN_OR_RETURN(ssd_.writers, Connect(store));
  return absl::OkStatus();
}

absl::Status StoreBench::Run(TransportPair* pair) {
  const bool smoke = harness_->smoke();
  Progress("filling the stores");
  FC_RETURN_IF_ERROR(PrepareDram());
  FC_RETURN_IF_ERROR(PrepareSsd());
  FC_RETURN_IF_ERROR(pair->Open());
  FC_ASSIGN_OR_RETURN(
      auto bounds,
      StoreBounds::Prepare(processes_->folder() + "/raw", pair, smoke));
  harness_->Note("transport", dram_.readers[0]->TransportName());
  harness_->Note("read MiB", (segments_ * geometry_.SegmentBytes()) >> 20);
  StoreFigures figures;
  for (int repeat = 0; repeat < harness_->repeats(); ++repeat) {
    Progress(absl::StrCat("repeat ", repeat + 1, " of ", harness_->repeats()));
    FC_RETURN_IF_ERROR(bounds->Measure(&figures));
    FC_RETURN_IF_ERROR(MeasureGets(dram_, smoke, &figures));
    FC_RETURN_IF_ERROR(MeasureGets(ssd_, smoke, &figures));
    FC_RETURN_IF_ERROR(MeasurePuts(dram_, smoke, &figures));
    FC_RETURN_IF_ERROR(MeasureDurablePuts(ssd_, &figures));
  }
  figures.RecordAll(harness_);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Harness harness("store");
  StoreProcessFlags flags;
  harness.flags().get_option("--repeats")->default_val(kRepeats);
  flags.AddTo(&harness.flags());
  if (auto code = harness.Parse(argc, argv)) return *code;
  InitLog("store_bench", LogLevel::kWarning);
  flags.UseDir();
  auto pair = TransportPair::Fork(flags.ucx);
  absl::Status status = pair.status();
  if (status.ok()) {
    demo::Processes processes;
    status = StoreBench(&harness, flags, &processes).Run(pair->get());
  }
  return harness.Finish(status);
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
