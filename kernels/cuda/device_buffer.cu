#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "kernels/cuda/device_buffer.h"

namespace forecache {
namespace {

absl::Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      std::string(what) + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) {
    return absl::ResourceExhaustedError(message);
  }
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    return absl::UnavailableError(message);
  }
  return absl::InternalError(message);
}

}  // namespace

absl::StatusOr<int> CudaDeviceCount() {
  int count = 0;
  absl::Status status = FromCuda(cudaGetDeviceCount(&count), "count devices");
  if (!status.ok()) return absl::UnavailableError(status.message());
  if (count == 0) return absl::UnavailableError("no CUDA device");
  return count;
}

absl::StatusOr<int> CudaMultiprocessors() {
  int device = 0;
  int count = 0;
  absl::Status status = FromCuda(cudaGetDevice(&device), "get device");
  if (!status.ok()) return status;
  status = FromCuda(cudaDeviceGetAttribute(
                        &count, cudaDevAttrMultiProcessorCount, device),
                    "count multiprocessors");
  if (!status.ok()) return status;
  return count;
}

absl::Status CudaSynchronize() {
  return FromCuda(cudaDeviceSynchronize(), "synchronize");
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) cudaFree(data_);
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::Allocate(size_t bytes) {
  DeviceBuffer buffer;
  // A device pointer even for nothing, so that callers need no special case.
  absl::Status status =
      FromCuda(cudaMalloc(&buffer.data_, bytes > 0 ? bytes : 1), "allocate");
  if (!status.ok()) return status;
  buffer.size_ = bytes;
  return buffer;
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::CopyOf(ByteView host) {
  absl::StatusOr<DeviceBuffer> buffer = Allocate(host.size());
  if (!buffer.ok()) return buffer.status();
  absl::Status status = buffer->CopyIn(host);
  if (!status.ok()) return status;
  return buffer;
}

absl::Status DeviceBuffer::CopyIn(ByteView host) {
  if (host.size() > size_) return absl::InvalidArgumentError("copy too large");
  return FromCuda(
      cudaMemcpy(data_, host.data(), host.size(), cudaMemcpyHostToDevice),
      "copy to device");
}

absl::Status DeviceBuffer::CopyOut(MutableBytes host) const {
  if (host.size() > size_) return absl::InvalidArgumentError("copy too large");
  return FromCuda(
      cudaMemcpy(host.data(), data_, host.size(), cudaMemcpyDeviceToHost),
      "copy from device");
}

}  // namespace forecache
