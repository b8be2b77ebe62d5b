// How fast the kernels are, beside what the core could do at most.
//
// Rooflines of the same run: memory read (a plain sum over a large buffer) and
// f32 fused multiply-add in registers.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "bench/scan_cases.h"
#include "kernels/attention.h"
#include "kernels/block_scores.h"
#include "kernels/testing/data.h"
#include "kernels/testing/roofline.h"

namespace forecache {
namespace {

constexpr char kMemoryRead[] = "memory read";
constexpr char kFusedMultiplyAdd[] = "f32 FMA";

bool Wanted(const Harness& harness, bool bench) {
  return bench != harness.smoke();
}

void AddRooflines(Harness& harness) {
  const size_t words = harness.smoke() ? 1 << 12 : size_t{32} << 20;
  auto buffer = std::make_shared<std::vector<uint64_t>>(words, 1);
  harness.AddRoofline(kMemoryRead, "GB/s", words * 8e-9, [buffer] {
    KeepAlive(SumWords(buffer->data(), buffer->size()));
  });
  const int64_t steps = harness.smoke() ? 1000 : 1'000'000;
  harness.AddRoofline(kFusedMultiplyAdd, "GFLOP/s",
                      FusedMultiplyAddFlops(steps) * 1e-9, [steps] {
                        KeepAlive(FusedMultiplyAdds(steps));
                      });
}

void AddDecode(Harness& harness) {
  for (const AttentionCase& c : DecodeCases()) {
    if (!Wanted(harness, c.bench)) continue;
    auto data = std::make_shared<AttentionData>(c);
    DecodeAttention args = data->Decode();
    args.page_max = nullptr;
    harness.Add({.name = "decode/" + c.name,
                 .unit = "GB/s",
                 .work = data->kv_bytes() * 1e-9,
                 .roofline = kMemoryRead,
                 .call = [data, args] { DecodeAttentionCpu(args); }});
  }
}

void AddChunk(Harness& harness) {
  for (const AttentionCase& c : ChunkCases()) {
    if (!Wanted(harness, c.bench)) continue;
    auto data = std::make_shared<AttentionData>(c);
    const ChunkAttention args = data->Chunk();
    // Logits and values, for the tokens that each row sees.
    const double seen = args.first_position + (args.queries + 1) / 2.0;
    const double flops =
        4.0 * args.queries * seen * data->heads() * c.head_dim;
    harness.Add({.name = "chunk/" + c.name,
                 .unit = "GFLOP/s",
                 .work = flops * 1e-9,
                 .roofline = kFusedMultiplyAdd,
                 .call = [data, args] { ChunkAttentionCpu(args, 0, 1); }});
  }
}

struct ScoreRun {
  ScoreRun(const ScoreCase& score_case, int planes)
      : plane(score_case),
        plane_bytes((CodePlaneBytes(score_case.head_dim) + 63) / 64 * 64),
        codes(MakeAligned(plane_bytes * planes)),
        block_max(plane.row_stride() * score_case.group),
        lse(score_case.group) {}

  KeyPlane plane;
  size_t plane_bytes;
  AlignedBytes codes;
  std::vector<float> block_max;
  std::vector<float> lse;
};

void AddExactScores(Harness& harness) {
  for (const ScoreCase& c : ExactScoreCases()) {
    if (!Wanted(harness, c.bench) || c.tokens == 0) continue;
    auto run = std::make_shared<ScoreRun>(c, 1);
    harness.Add({.name = "exact_scores/" + c.name,
                 .unit = "GB/s",
                 .work = 2e-9 * c.tokens * c.head_dim,
                 .roofline = kMemoryRead,
                 .call = [run] {
                   ExactScoresCpu(run->plane.Exact(run->block_max.data(),
                                                   run->lse.data()));
                 }});
  }
}

// 32,768 tokens of one KV head: what a probe scans.
void AddCodes(Harness& harness) {
  const int planes = harness.smoke() ? 1 : 128;
  for (const ScoreCase& c : CodeScoreCases()) {
    if (!Wanted(harness, c.bench)) continue;
    auto run = std::make_shared<ScoreRun>(c, planes);
    const auto encode = [run, c](int plane) {
      EncodeCodePlane(run->plane.keys.get(), c.type, c.head_dim,
                      run->codes.get() + plane * run->plane_bytes);
    };
    for (int i = 0; i < planes; ++i) encode(i);
    const auto scan = [run, planes](bool with_lse) {
      CodeScores args = run->plane.Codes(
          nullptr, run->block_max.data(), with_lse ? run->lse.data() : nullptr);
      for (int i = 0; i < planes; ++i) {
        args.code_plane = run->codes.get() + i * run->plane_bytes;
        CodeScoresCpu(args);
      }
    };
    // As the 16-bit keys that the codes stand for.
    const double covered =
        2e-9 * planes * kCodePlaneTokens * c.head_dim;
    harness.Add({.name = "code_scores/" + c.name,
                 .unit = "GB/s",
                 .work = covered,
                 .roofline = kMemoryRead,
                 .call = [scan] { scan(true); }});
    harness.Add({.name = "code_scores_without_lse/" + c.name,
                 .unit = "GB/s",
                 .work = covered,
                 .roofline = kMemoryRead,
                 .call = [scan] { scan(false); }});
    harness.Add({.name = "encode_code_plane/" + c.name,
                 .call = [encode] { encode(0); }});
  }
}

int Main(int argc, char** argv) {
  Harness harness("kernels");
  std::string isa;
  harness.flags().add_option("--isa", isa, "run this instruction set");
  if (auto code = harness.Parse(argc, argv)) return *code;
  if (!isa.empty()) SetKernelIsaForTest(isa);
  harness.Note("isa", KernelIsa());
  harness.Note("threads", 1);
  AddRooflines(harness);
  AddDecode(harness);
  AddChunk(harness);
  AddExactScores(harness);
  AddCodes(harness);
  AddScanCases(harness);
  harness.Run();
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
