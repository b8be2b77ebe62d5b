// DecodeAttention by the plainest kernel: one thread a query head, tokens in
// order.  What the fast kernel is compared with on the GPU.
#include <cuda_runtime.h>

#include "kernels/cuda/pages.cuh"

namespace forecache {
namespace {

template <typename T>
__global__ void ReferenceKernel(DecodeAttention args) {
  const int head = blockIdx.x;
  const PageTable table = args.tables[head / args.group];
  const int head_dim = args.memory.head_dim;
  const float* q = args.q + size_t(head) * head_dim;
  float* out = args.out + size_t(head) * head_dim;
  float largest = kLowest;
  float sum = 0;
  for (int c = 0; c < head_dim; ++c) out[c] = 0;
  for (int page = 0; page < table.pages; ++page) {
    const std::byte* start = PageStart(args.memory, table, page);
    const T* keys = reinterpret_cast<const T*>(start);
    const T* values = reinterpret_cast<const T*>(start + args.memory.v_offset);
    float page_largest = kLowest;
    for (int t = 0; t < TokensOfPage(table, page); ++t) {
      float logit = 0;
      for (int c = 0; c < head_dim; ++c) {
        logit += q[c] * ToFloat(keys[t * head_dim + c]);
      }
      logit *= args.scale;
      page_largest = fmaxf(page_largest, logit);
      const float top = fmaxf(largest, logit);
      const float shrink = expf(largest - top);
      const float weight = expf(logit - top);
      sum = sum * shrink + weight;
      for (int c = 0; c < head_dim; ++c) {
        out[c] = out[c] * shrink + weight * ToFloat(values[t * head_dim + c]);
      }
      largest = top;
    }
    if (args.page_max != nullptr) {
      args.page_max[head / args.group]
                   [size_t(head % args.group) * table.pages + page] =
          page_largest;
    }
  }
  for (int c = 0; c < head_dim; ++c) out[c] = sum > 0 ? out[c] / sum : 0.0f;
  if (args.lse != nullptr) {
    args.lse[head] = sum > 0 ? largest + logf(sum) : -INFINITY;
  }
}

}  // namespace

absl::Status DecodeAttentionCudaRef(const DecodeAttention& device_args,
                                    const CudaLaunch& launch) {
  absl::Status status = CheckLaunch(device_args, launch);
  if (!status.ok() || device_args.kv_heads == 0) return status;
  const int heads = device_args.kv_heads * device_args.group;
  const auto stream = static_cast<cudaStream_t>(launch.stream);
  if (device_args.memory.type == KvType::kF16) {
    ReferenceKernel<__half><<<heads, 1, 0, stream>>>(device_args);
  } else {
    ReferenceKernel<__nv_bfloat16><<<heads, 1, 0, stream>>>(device_args);
  }
  return LaunchStatus();
}

}  // namespace forecache
