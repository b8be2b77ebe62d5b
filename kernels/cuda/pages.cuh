// What the GPU kernels share: pages, element types, checks around a launch.
#ifndef FORECACHE_KERNELS_CUDA_PAGES_CUH_
#define FORECACHE_KERNELS_CUDA_PAGES_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "kernels/cuda/paged_attention.h"

namespace forecache {

// Smaller than any logit, finite: differences of two are no NaN.
inline constexpr float kLowest = -1e30f;

__device__ __forceinline__ float ToFloat(__half x) { return __half2float(x); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

__device__ __forceinline__ const std::byte* PageStart(const SlotMemory& memory,
                                                      const PageTable& table,
                                                      int page) {
  return memory.base + size_t(table.slots[page]) * memory.slot_stride;
}

__device__ __forceinline__ int TokensOfPage(const PageTable& table, int page) {
  return page + 1 < table.pages ? kPageTokens : table.last_page_tokens;
}

// Tables are in device memory: only what the host can see is checked.
inline absl::Status CheckLaunch(const DecodeAttention& args,
                         const CudaLaunch& launch) {
  const SlotMemory& memory = args.memory;
  if (memory.head_dim <= 0 || memory.head_dim % 16 != 0 ||
      memory.head_dim > kKernelHeadDimMax || args.group <= 0 ||
      args.group > kKernelGroupMax || args.kv_heads < 0) {
    return absl::InvalidArgumentError("attention shape");
  }
  if (memory.v_offset % 16 != 0 || memory.slot_stride % 16 != 0) {
    return absl::InvalidArgumentError("slots must be aligned to 16 bytes");
  }
  if (launch.splits < 1 || launch.splits > 65535 ||
      (launch.splits > 1 && launch.workspace == nullptr)) {
    return absl::InvalidArgumentError("splits need a workspace");
  }
  return absl::OkStatus();
}

inline absl::Status LaunchStatus() {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(std::string("attention kernel: ") +
                             cudaGetErrorString(error));
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CUDA_PAGES_CUH_
