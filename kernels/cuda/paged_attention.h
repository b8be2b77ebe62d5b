// DecodeAttention on a GPU.
//
// NOT RUN on a GPU yet: the machine that it was written on has none.  There the
// code was compiled for GPUs, and its kernels passed the cases on an emulation
// of blocks and warps by host threads; speed and rounding are unproven.
// tests/kernels/cuda_attention_test.cc runs all cases where there is a GPU.
#ifndef FORECACHE_KERNELS_CUDA_PAGED_ATTENTION_H_
#define FORECACHE_KERNELS_CUDA_PAGED_ATTENTION_H_

#include <cstddef>

#include "absl/status/status.h"
#include "kernels/attention.h"

namespace forecache {

// How one step runs.
struct CudaLaunch {
  // Thread blocks that share a KV head's pages; their results merge.  More
  // keep a GPU busy when heads are few: see CudaSplits.
  int splits = 1;
  // CudaWorkspaceBytes of device memory; not read when splits is 1.  Must not
  // be shared by steps that may overlap.
  void* workspace = nullptr;
  void* stream = nullptr;  // a cudaStream_t; null is the default stream
};

// Enough splits for two blocks on each multiprocessor, and at least four pages
// a split.
int CudaSplits(int kv_heads, int group, int pages, int multiprocessors);
size_t CudaWorkspaceBytes(int kv_heads, int group, int head_dim, int splits);

// The same contract as DecodeAttentionCpu, but every pointer is to device
// memory: `tables` and the slots they name, and `page_max` and the rows it
// names, too.  Returns once the work is on the stream; kInternal when the
// launch was refused.
//
// REQUIRES: memory.v_offset and memory.slot_stride are multiples of 16.
//
// Threads: safe to call from any thread on distinct outputs and workspaces.
absl::Status DecodeAttentionCuda(const DecodeAttention& device_args,
                                 const CudaLaunch& launch);
// The same by the plainest kernel: what the fast one is compared with on the
// GPU.  One split, no workspace.
absl::Status DecodeAttentionCudaRef(const DecodeAttention& device_args,
                                    const CudaLaunch& launch);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CUDA_PAGED_ATTENTION_H_
