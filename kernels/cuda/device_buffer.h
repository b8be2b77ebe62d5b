// GPU memory that frees itself.
#ifndef FORECACHE_KERNELS_CUDA_DEVICE_BUFFER_H_
#define FORECACHE_KERNELS_CUDA_DEVICE_BUFFER_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace forecache {

// GPUs that this process can use, or why there are none (kUnavailable).
absl::StatusOr<int> CudaDeviceCount();
// Of the current device.
absl::StatusOr<int> CudaMultiprocessors();
// Waits for all work of the device; an earlier fault of a kernel shows here.
absl::Status CudaSynchronize();

// Threads: one thread at a time.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  // kResourceExhausted when the device has not enough memory.
  static absl::StatusOr<DeviceBuffer> Allocate(size_t bytes);
  static absl::StatusOr<DeviceBuffer> CopyOf(ByteView host);

  // Both wait until the copy is done.
  absl::Status CopyIn(ByteView host);
  absl::Status CopyOut(MutableBytes host) const;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CUDA_DEVICE_BUFFER_H_
