// A GGUF file, opened and checked.
#ifndef FORECACHE_WORKER_MODEL_GGUF_FILE_H_
#define FORECACHE_WORKER_MODEL_GGUF_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ggml-cpp.h"

namespace forecache {

// The metadata of a GGUF file, and a way to its tensors' bytes.  Every error
// names the file and what is wrong in it.
//
// Threads: one thread at a time.
class GgufFile {
 public:
  // kNotFound: no such file; kInvalidArgument: not a regular file;
  // kPermissionDenied; kDataLoss: not GGUF, or cut short (tells which tensor
  // ends where, and where the file does).
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(
      const std::string& path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }
  bool Has(const std::string& key) const;

  // The value of `key`: kDataLoss when it is absent or of another type.
  absl::StatusOr<int64_t> Integer(const std::string& key) const;
  absl::StatusOr<float> Float(const std::string& key) const;
  absl::StatusOr<std::string> String(const std::string& key) const;
  // `fallback` when `key` is absent.
  absl::StatusOr<int64_t> Integer(const std::string& key,
                                  int64_t fallback) const;
  absl::StatusOr<float> Float(const std::string& key, float fallback) const;
  absl::StatusOr<std::string> String(const std::string& key,
                                     const std::string& fallback) const;

  // The descriptor of a tensor (without data), or null.
  ggml_tensor* FindTensor(const std::string& name) const;
  // All descriptors, as a ggml context that the caller owns from now on;
  // FindTensor and ReadTensor work as long as it lives.
  ggml_context_ptr TakeTensors() { return std::move(tensors_owned_); }

  // Reads the bytes of a tensor of this file to `data`, which has room for
  // ggml_nbytes of it.
  absl::Status ReadTensor(const std::string& name, void* data) const;

  // Hex SHA-256 over the whole file.
  absl::StatusOr<std::string> Digest() const;

  // kDataLoss that names the file.
  absl::Status Damaged(const std::string& what) const;
  // kUnimplemented that names the file.
  absl::Status Unsupported(const std::string& what) const;

 private:
  GgufFile(std::string path, int fd, int64_t file_bytes)
      : path_(std::move(path)), fd_(fd), file_bytes_(file_bytes) {}

  absl::Status CheckMagic() const;
  absl::Status Parse();
  absl::Status CheckTensorsLieInside() const;
  absl::Status ReadAt(int64_t offset, int64_t bytes, void* data) const;

  const std::string path_;
  const int fd_;
  const int64_t file_bytes_;
  gguf_context_ptr metadata_;
  ggml_context_ptr tensors_owned_;
  ggml_context* tensors_ = nullptr;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_GGUF_FILE_H_
