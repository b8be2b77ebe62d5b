// DecodeAttention on a GPU, told as kernel, merge, launcher; reference.cu is
// what it is compared with.
//
// The kernel: a thread block takes a share of one KV head's pages (a split) for
// up to kHeads of its query heads; each warp takes every fourth page.  A token
// belongs to a team of kTeam lanes, each with eight channels (one 16-byte load
// of K and one of V).  A team runs an online softmax over its own tokens; the
// teams' results merge through shared memory, the splits' through a workspace.
//
// Logarithms are natural; accumulation is in f32.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/pages.cuh"

namespace forecache {
namespace {

constexpr int kWarps = 4;
constexpr int kWarpLanes = 32;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kChunk = 8;  // channels of one lane: a 16-byte load

__device__ __forceinline__ float2 ToFloat2(__half2 x) {
  return __half22float2(x);
}
__device__ __forceinline__ float2 ToFloat2(__nv_bfloat162 x) {
  return __bfloat1622float2(x);
}

template <typename T>
struct Pair;
template <>
struct Pair<__half> {
  using Type = __half2;
};
template <>
struct Pair<__nv_bfloat16> {
  using Type = __nv_bfloat162;
};

// Eight elements from one 16-byte load.
template <typename T>
__device__ __forceinline__ void Widen(const uint4& bits, float (&to)[kChunk]) {
  const auto* pairs = reinterpret_cast<const typename Pair<T>::Type*>(&bits);
#pragma unroll
  for (int i = 0; i < kChunk / 2; ++i) {
    const float2 both = ToFloat2(pairs[i]);
    to[2 * i] = both.x;
    to[2 * i + 1] = both.y;
  }
}

// --- Kernel ----------------------------------------------------------------

// What one team knows of kHeads query heads.
template <int kHeads>
struct TeamState {
  float q[kHeads][kChunk];    // scaled
  float out[kHeads][kChunk];  // not yet divided by sum
  float largest[kHeads];
  float sum[kHeads];
};

// Loads the queries of this lane's channels; heads past `heads` get zeros.
template <int kHeads>
__device__ __forceinline__ void StartTeam(const DecodeAttention& args,
                                          int first_head, int heads,
                                          int channel,
                                          TeamState<kHeads>& state) {
  const int head_dim = args.memory.head_dim;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    state.largest[h] = kLowest;
    state.sum[h] = 0;
    const float* q = args.q + size_t(first_head + h) * head_dim + channel;
#pragma unroll
    for (int c = 0; c < kChunk; ++c) {
      state.out[h][c] = 0;
      const bool exists = h < heads && channel < head_dim;
      state.q[h][c] = exists ? q[c] * args.scale : 0.0f;
    }
  }
}

// Attends to up to kBatch tokens of a page, `kTeams` apart.  `most` collects
// the page's largest logit of this team.
template <typename T, int kTeam, int kHeads, int kBatch>
__device__ __forceinline__ void AttendTokens(const T* keys, const T* values,
                                             int head_dim, int first,
                                             int tokens, bool has_channels,
                                             TeamState<kHeads>& state,
                                             float (&most)[kHeads]) {
  constexpr int kTeams = kWarpLanes / kTeam;
  const int channel = threadIdx.x % kTeam * kChunk;
  uint4 key_bits[kBatch], value_bits[kBatch];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const int t = first + i * kTeams;
    const bool load = t < tokens && has_channels;
    const size_t at = size_t(t) * head_dim + channel;
    const uint4 zero = {0, 0, 0, 0};
    key_bits[i] = load ? *reinterpret_cast<const uint4*>(keys + at) : zero;
    value_bits[i] = load ? *reinterpret_cast<const uint4*>(values + at) : zero;
  }
  float logits[kBatch][kHeads];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    float key[kChunk];
    Widen<T>(key_bits[i], key);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float dot = 0;
#pragma unroll
      for (int c = 0; c < kChunk; ++c) dot += state.q[h][c] * key[c];
#pragma unroll
      for (int step = kTeam / 2; step > 0; step /= 2) {
        dot += __shfl_xor_sync(0xFFFFFFFF, dot, step);
      }
      logits[i][h] = first + i * kTeams < tokens ? dot : kLowest;
      most[h] = fmaxf(most[h], logits[i][h]);
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float top = state.largest[h];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) top = fmaxf(top, logits[i][h]);
    const float shrink = __expf(state.largest[h] - top);
    state.largest[h] = top;
    state.sum[h] *= shrink;
#pragma unroll
    for (int c = 0; c < kChunk; ++c) state.out[h][c] *= shrink;
  }
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    if (first + i * kTeams >= tokens) continue;
    float value[kChunk];
    Widen<T>(value_bits[i], value);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float weight = __expf(logits[i][h] - state.largest[h]);
      state.sum[h] += weight;
#pragma unroll
      for (int c = 0; c < kChunk; ++c) state.out[h][c] += weight * value[c];
    }
  }
}

// Where the teams of a block leave their results to be merged.
template <int kTeam, int kHeads>
struct TeamResults {
  static constexpr int kTeams = kWarps * kWarpLanes / kTeam;
  float out[kTeams][kHeads][kTeam * kChunk];
  float largest[kTeams][kHeads];
  float sum[kTeams][kHeads];
};

// Writes what all teams of the block found: to the outputs, or as the part of
// this split to the workspace [query head][splits][head_dim + 1].
template <int kTeam, int kHeads>
__device__ __forceinline__ void MergeTeams(
    const TeamResults<kTeam, kHeads>& results, const DecodeAttention& args,
    int first_head, int heads, float* workspace) {
  const int head_dim = args.memory.head_dim;
  for (int i = threadIdx.x; i < heads * head_dim; i += kThreads) {
    const int h = i / head_dim;
    const int c = i % head_dim;
    float top = kLowest;
    for (int t = 0; t < results.kTeams; ++t) {
      top = fmaxf(top, results.largest[t][h]);
    }
    float sum = 0;
    float out = 0;
    for (int t = 0; t < results.kTeams; ++t) {
      const float weight = __expf(results.largest[t][h] - top);
      sum += weight * results.sum[t][h];
      out += weight * results.out[t][h][c];
    }
    const float mean = sum > 0 ? out / sum : 0.0f;
    const float lse = sum > 0 ? top + logf(sum) : -INFINITY;
    const size_t head = size_t(first_head) + h;
    if (workspace == nullptr) {
      args.out[head * head_dim + c] = mean;
      if (c == 0 && args.lse != nullptr) args.lse[head] = lse;
    } else {
      float* part =
          workspace + (head * gridDim.y + blockIdx.y) * (head_dim + 1);
      part[c] = mean;
      if (c == 0) part[head_dim] = lse;
    }
  }
}

// Grid: (KV heads, splits, tiles of kHeads query heads).
template <typename T, int kTeam, int kHeads>
__global__ void __launch_bounds__(kThreads)
    PagedKernel(DecodeAttention args, float* workspace) {
  constexpr int kTeams = kWarpLanes / kTeam;
  constexpr int kTokensOfTeam = kPageTokens / kTeams;
  constexpr int kBatch = kTokensOfTeam < 4 ? kTokensOfTeam : 4;
  const int head_dim = args.memory.head_dim;
  const PageTable table = args.tables[blockIdx.x];
  const int warp = threadIdx.x / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  const int team = lane / kTeam;
  const int channel = lane % kTeam * kChunk;
  const bool has_channels = channel < head_dim;
  const int first_g = blockIdx.z * kHeads;
  const int heads = min(kHeads, args.group - first_g);
  const int first_head = blockIdx.x * args.group + first_g;

  TeamState<kHeads> state;
  StartTeam(args, first_head, heads, channel, state);

  const int pages_of_split = (table.pages + gridDim.y - 1) / gridDim.y;
  const int begin = blockIdx.y * pages_of_split;
  const int end = min(begin + pages_of_split, table.pages);
  for (int page = begin + warp; page < end; page += kWarps) {
    const std::byte* start = PageStart(args.memory, table, page);
    const T* keys = reinterpret_cast<const T*>(start);
    const T* values = reinterpret_cast<const T*>(start + args.memory.v_offset);
    const int tokens = TokensOfPage(table, page);
    float most[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) most[h] = kLowest;
    for (int first = team; first < kPageTokens; first += kBatch * kTeams) {
      AttendTokens<T, kTeam, kHeads, kBatch>(keys, values, head_dim, first,
                                             tokens, has_channels, state, most);
    }
    if (args.page_max == nullptr) continue;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int step = kTeam; step < kWarpLanes; step *= 2) {
        most[h] = fmaxf(most[h], __shfl_xor_sync(0xFFFFFFFF, most[h], step));
      }
      if (lane == 0 && h < heads) {
        args.page_max[blockIdx.x][size_t(first_g + h) * table.pages + page] =
            most[h];
      }
    }
  }

  __shared__ TeamResults<kTeam, kHeads> results;
  const int at = warp * kTeams + team;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    results.largest[at][h] = state.largest[h];
    results.sum[at][h] = state.sum[h];
#pragma unroll
    for (int c = 0; c < kChunk; ++c) {
      results.out[at][h][channel + c] = state.out[h][c];
    }
  }
  __syncthreads();
  MergeTeams<kTeam, kHeads>(results, args, first_head, heads, workspace);
}

// --- Merge of the splits: one block a query head ---------------------------

__global__ void MergeKernel(DecodeAttention args, const float* workspace,
                            int splits) {
  const int head_dim = args.memory.head_dim;
  const size_t head = blockIdx.x;
  const float* parts = workspace + head * splits * (head_dim + 1);
  float top = -INFINITY;
  for (int s = 0; s < splits; ++s) {
    top = fmaxf(top, parts[s * (head_dim + 1) + head_dim]);
  }
  const bool empty = top == -INFINITY;
  for (int c = threadIdx.x; c < head_dim; c += blockDim.x) {
    float sum = 0;
    float out = 0;
    for (int s = 0; s < splits && !empty; ++s) {
      const float* part = parts + s * (head_dim + 1);
      const float weight = expf(part[head_dim] - top);
      sum += weight;
      out += weight * part[c];
    }
    args.out[head * head_dim + c] = empty ? 0.0f : out / sum;
    if (c == 0 && args.lse != nullptr) {
      args.lse[head] = empty ? -INFINITY : top + logf(sum);
    }
  }
}

// --- Launcher --------------------------------------------------------------

template <typename T, int kTeam, int kHeads>
void Launch(const DecodeAttention& args, const CudaLaunch& launch) {
  const dim3 grid(args.kv_heads, launch.splits,
                  (args.group + kHeads - 1) / kHeads);
  PagedKernel<T, kTeam, kHeads>
      <<<grid, kThreads, 0, static_cast<cudaStream_t>(launch.stream)>>>(
          args, launch.splits == 1 ? nullptr
                                   : static_cast<float*>(launch.workspace));
}

template <typename T, int kTeam>
void LaunchForGroup(const DecodeAttention& args, const CudaLaunch& launch) {
  if (args.group == 1) return Launch<T, kTeam, 1>(args, launch);
  if (args.group <= 4) return Launch<T, kTeam, 4>(args, launch);
  return Launch<T, kTeam, 8>(args, launch);
}

template <typename T>
void LaunchForHeadDim(const DecodeAttention& args, const CudaLaunch& launch) {
  const int chunks = args.memory.head_dim / kChunk;
  if (chunks <= 2) return LaunchForGroup<T, 2>(args, launch);
  if (chunks <= 4) return LaunchForGroup<T, 4>(args, launch);
  if (chunks <= 8) return LaunchForGroup<T, 8>(args, launch);
  if (chunks <= 16) return LaunchForGroup<T, 16>(args, launch);
  return LaunchForGroup<T, 32>(args, launch);
}

}  // namespace

int CudaSplits(int kv_heads, int group, int pages, int multiprocessors) {
  const int tiles = group <= 4 ? 1 : (group + 7) / 8;
  const int blocks = std::max(1, kv_heads * tiles);
  const int wanted = (2 * multiprocessors + blocks - 1) / blocks;
  return std::max(1, std::min({wanted, pages / kWarps, 65535}));
}

size_t CudaWorkspaceBytes(int kv_heads, int group, int head_dim, int splits) {
  return size_t(kv_heads) * group * splits * (head_dim + 1) * sizeof(float);
}

absl::Status DecodeAttentionCuda(const DecodeAttention& device_args,
                                 const CudaLaunch& launch) {
  absl::Status status = CheckLaunch(device_args, launch);
  if (!status.ok() || device_args.kv_heads == 0) return status;
  if (device_args.memory.type == KvType::kF16) {
    LaunchForHeadDim<__half>(device_args, launch);
  } else {
    LaunchForHeadDim<__nv_bfloat16>(device_args, launch);
  }
  status = LaunchStatus();
  if (!status.ok() || launch.splits == 1) return status;
  MergeKernel<<<device_args.kv_heads * device_args.group, kThreads, 0,
                static_cast<cudaStream_t>(launch.stream)>>>(
      device_args, static_cast<const float*>(launch.workspace), launch.splits);
  return LaunchStatus();
}

}  // namespace forecache
