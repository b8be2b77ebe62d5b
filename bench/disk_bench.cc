// Where the planes lie: extents and io_uring, or RocksDB's BlobDB.
//
// docs/ONDISK.md keeps the figures.
#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/disk_engines.h"
#include "bench/harness.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "common/rng.h"
#include "kvstore/ssd/uring_disk.h"

namespace forecache {
namespace {

constexpr int kSomethingMissing = 3;
constexpr int kDepths[] = {1, 4, 16, 64};

double Seconds(Nanos from) {
  return static_cast<double>(Clock::Real()->Now() - from) / kSecond;
}

// What this process had the kernel write to disks.
uint64_t WrittenBytes() {
  std::ifstream file("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  while (file >> name >> value) {
    if (name == "write_bytes:") return value;
  }
  return 0;
}

// A sealed segment of random bytes.
std::shared_ptr<Segment> RandomSegment(const KvGeometry& geometry,
                                       DramArena* arena) {
  auto segment = *Segment::Create(arena, geometry, CodeKind::k4Bit);
  const size_t part = geometry.PartBytes();
  const size_t heads = geometry.kv_heads;
  std::vector<std::byte> bytes(heads * 2 * part);
  std::vector<wire::PartChecksums> checksums(heads);
  Rng rng(1);
  for (int layer = 0; layer < geometry.layers; ++layer) {
    for (int block = 0; block < kSegmentBlocks; ++block) {
      for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(rng.Next() & 0x3F);  // no infinities
      }
      const std::byte* k = bytes.data();
      const std::byte* v = k + heads * part;
      for (size_t head = 0; head < heads; ++head) {
        checksums[head] = {Crc32c({k + head * part, part}),
                           Crc32c({v + head * part, part})};
      }
      FC_CHECK_OK(segment->PutBlock(
          layer, block,
          {reinterpret_cast<const std::byte*>(checksums.data()),
           sizeof(wire::PartChecksums), k, v, part}));
    }
  }
  FC_CHECK_OK(segment->Seal());
  return segment;
}

// One block size on one engine.
//
// Threads: one thread.
class EngineRun {
 public:
  EngineRun(Harness* harness, std::string name, DiskEngine* engine,
            const Segment* segment, int segments)
      : harness_(harness),
        name_(std::move(name)),
        engine_(engine),
        segment_(segment),
        segments_(segments) {}

  void Run() {
    Fill();
    for (int depth : kDepths) ReadAt(depth);
    Churn();
  }

 private:
  double Payload(int segments) const {
    return static_cast<double>(segment_->geometry().SegmentBytes()) * segments;
  }
  void Record(const std::string& what, const std::string& unit, bool higher,
              std::vector<double> samples) {
    harness_->Record({absl::StrCat(name_, "/", what), unit, higher,
                      std::move(samples), ""});
  }

  void Fill() {
    const uint64_t before = WrittenBytes();
    std::vector<double> rates;
    for (int i = 0; i < segments_; ++i) {
      const Nanos start = Clock::Real()->Now();
      FC_CHECK_OK(engine_->Write(i, *segment_));
      rates.push_back(Payload(1) / Seconds(start) / 1e6);
    }
    engine_->Settle();
    Record("write_segment", "MB/s", true, std::move(rates));
    Record("fill_write_amplification", "ratio", false,
           {static_cast<double>(WrittenBytes() - before) / Payload(segments_)});
    Record("fill_space_amplification", "ratio", false,
           {static_cast<double>(engine_->Bytes()) / Payload(segments_)});
  }

  void ReadAt(int depth) {
    const KvGeometry& geometry = segment_->geometry();
    const int batches = harness_->smoke() ? 4 : std::max(64, 2048 / depth);
    Rng rng(static_cast<uint64_t>(depth));
    std::vector<double> rates, waits;
    for (int repeat = 0; repeat < harness_->repeats(); ++repeat) {
      const Nanos start = Clock::Real()->Now();
      for (int batch = 0; batch < batches; ++batch) {
        std::vector<DiskBlock> blocks;
        for (int i = 0; i < depth; ++i) {
          blocks.push_back({static_cast<int>(rng.Below(segments_)),
                            static_cast<int>(rng.Below(geometry.layers)),
                            static_cast<int>(rng.Below(geometry.kv_heads)),
                            static_cast<int>(rng.Below(kSegmentBlocks))});
        }
        const Nanos asked = Clock::Real()->Now();
        FC_CHECK_OK(engine_->Read(blocks));
        waits.push_back(Seconds(asked) * 1e6);
      }
      rates.push_back(static_cast<double>(batches) * depth / Seconds(start));
    }
    Record(absl::StrCat("read_random/", depth), "blocks/s", true,
           std::move(rates));
    Record(absl::StrCat("read_random_batch/", depth), "us", false,
           std::move(waits));
    engine_->Settle();
  }

  // Half of the segments make room for others, as eviction does, twice.
  void Churn() {
    const uint64_t before = WrittenBytes();
    Rng rng(2);
    std::vector<int> held(segments_);
    for (int i = 0; i < segments_; ++i) held[i] = i;
    for (int i = 0; i < segments_; ++i) {
      int& slot = held[rng.Below(segments_)];
      FC_CHECK_OK(engine_->Drop(slot));
      slot = segments_ + i;
      FC_CHECK_OK(engine_->Write(slot, *segment_));
    }
    engine_->Settle();
    Record("churn_write_amplification", "ratio", false,
           {static_cast<double>(WrittenBytes() - before) / Payload(segments_)});
    Record("churn_space_amplification", "ratio", false,
           {static_cast<double>(engine_->Bytes()) / Payload(segments_)});
  }

  Harness* const harness_;
  const std::string name_;
  DiskEngine* const engine_;
  const Segment* const segment_;
  const int segments_;
};

// What the disk itself gives: reads of a file, as many under way as `depth`.
void RawReads(Harness* harness, const std::string& folder, size_t block,
              size_t bytes) {
  auto disk = OpenUringDisk(folder);
  FC_CHECK_OK(disk.status());
  auto file = (*disk)->OpenFile("raw", bytes);
  FC_CHECK_OK(file.status());
  constexpr size_t kPiece = size_t{1} << 20;
  PageBuffer buffer(kPiece);
  std::fill_n(buffer.data(), kPiece, std::byte{0x5A});
  auto writes = (*file)->NewQueue(1);
  for (uint64_t at = 0; at + kPiece <= bytes; at += kPiece) {
    DiskOp op{DiskOp::Kind::kWrite, at, buffer.data(), kPiece};
    writes->Start({&op, 1});
    writes->Wait();
    FC_CHECK_OK(op.status);
  }
  FC_CHECK_OK((*file)->Sync());
  for (int depth : kDepths) {
    auto queue = (*file)->NewQueue(depth);
    std::vector<double> rates;
    Rng rng(static_cast<uint64_t>(depth));
    const int count = harness->smoke() ? 64 : 2048;
    for (int repeat = 0; repeat < harness->repeats(); ++repeat) {
      std::vector<DiskOp> ops(count);
      PageBuffer pages(block * 64);  // whoever comes last has it
      for (int i = 0; i < count; ++i) {
        ops[i] = {DiskOp::Kind::kRead, rng.Below(bytes / block) * block,
                  pages.data() + (i % 64) * block, block};
      }
      const Nanos start = Clock::Real()->Now();
      queue->Start(ops);
      queue->Wait();
      rates.push_back(count / Seconds(start));
      for (const DiskOp& op : ops) FC_CHECK_OK(op.status);
    }
    harness->Record({absl::StrCat("raw/", block / 1024, "K/read_random/",
                                  depth),
                     "blocks/s", true, std::move(rates), ""});
  }
}

int Main(int argc, char** argv) {
  Harness harness("disk");
  std::string parent = std::filesystem::temp_directory_path();
  if (const char* cache = std::getenv("FORECACHE_CACHE")) parent = cache;
  size_t mib = 1024;
  harness.flags().add_option("--dir", parent, "folder on the disk to measure");
  harness.flags()
      .add_option("--mib", mib, "payload of each engine")
      ->check(CLI::Range(size_t{16}, size_t{1} << 20));
  if (auto code = harness.Parse(argc, argv)) return *code;
  if (harness.smoke()) mib = 24;
  std::string folder = parent + "/disk_bench.XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    std::fprintf(stderr, "disk_bench: cannot make %s: choose --dir\n",
                 folder.c_str());
    return kSomethingMissing;
  }
  harness.Note("payload_mib", mib);
  // A block of d=64 is 4 KiB (SmolLM2-135M), of d=128 8 KiB (Qwen2.5-1.5B).
  const KvGeometry geometries[] = {
      {.layers = 30, .kv_heads = 3, .head_dim = 64, .group = 3,
       .type = KvType::kF16},
      {.layers = 28, .kv_heads = 2, .head_dim = 128, .group = 6,
       .type = KvType::kF16}};
  auto arena = *DramArena::Create((mib << 18) + (size_t{64} << 20));
  for (const KvGeometry& geometry : geometries) {
    const size_t bytes = mib << 20;
    const int segments =
        std::max<int>(2, static_cast<int>(bytes / geometry.SegmentBytes()));
    auto segment = RandomSegment(geometry, arena.get());
    const std::string size = absl::StrCat(geometry.BlockBytes() / 1024, "K");
    RawReads(&harness, folder + "/raw" + size, geometry.BlockBytes(), bytes);
    std::filesystem::remove_all(folder + "/raw" + size);
    for (const std::string name : {"extents", "blobdb"}) {
      const std::string place = absl::StrCat(folder, "/", name, size);
      auto engine =
          name == "extents"
              ? OpenExtentsEngine(place, geometry, 2 * bytes + (64 << 20),
                                  arena.get())
              : OpenBlobEngine(place, geometry);
      FC_CHECK_OK(engine.status());
      EngineRun(&harness, absl::StrCat(name, "/", size), engine->get(),
                segment.get(), segments)
          .Run();
      engine->reset();
      std::filesystem::remove_all(place);
    }
  }
  std::filesystem::remove_all(folder);
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
