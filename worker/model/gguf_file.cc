#include "worker/model/gguf_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "common/check.h"
#include "common/status.h"
#include "gguf.h"
#include "worker/model/ggml_log.h"

namespace forecache {
namespace {

constexpr int64_t kReadBytes = 1 << 20;

absl::Status OpenError(const std::string& path, int error) {
  const std::string message =
      absl::StrCat("model file ", path, ": ", std::strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  if (error == EACCES) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(
    const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return OpenError(path, errno);
  struct stat info;
  FC_CHECK(fstat(fd, &info) == 0) << std::strerror(errno);
  std::unique_ptr<GgufFile> file(new GgufFile(path, fd, info.st_size));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model file ", path, ": not a regular file"));
  }
  FC_RETURN_IF_ERROR(file->CheckMagic());
  FC_RETURN_IF_ERROR(file->Parse());
  FC_RETURN_IF_ERROR(file->CheckTensorsLieInside());
  return file;
}

GgufFile::~GgufFile() { close(fd_); }

absl::Status GgufFile::CheckMagic() const {
  char magic[4];
  if (file_bytes_ < static_cast<int64_t>(sizeof(magic))) {
    return Damaged(absl::StrCat("has ", file_bytes_,
                                " bytes, too few for a GGUF file"));
  }
  FC_RETURN_IF_ERROR(ReadAt(0, sizeof(magic), magic));
  if (std::memcmp(magic, GGUF_MAGIC, sizeof(magic)) != 0) {
    return Damaged("not a GGUF file: it does not begin with \"GGUF\"");
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Parse() {
  GgmlErrors errors;
  ggml_context* tensors = nullptr;
  metadata_.reset(gguf_init_from_file(
      path_.c_str(), {.no_alloc = true, .ctx = &tensors}));
  tensors_owned_.reset(tensors);
  tensors_ = tensors;
  if (metadata_ == nullptr) {
    return Damaged(absl::StrCat("its header is cut short or malformed (",
                                file_bytes_, " bytes): ", errors.Text()));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::CheckTensorsLieInside() const {
  const int64_t data_begin =
      static_cast<int64_t>(gguf_get_data_offset(metadata_.get()));
  const int64_t tensors = gguf_get_n_tensors(metadata_.get());
  for (int64_t i = 0; i < tensors; ++i) {
    // Subtractions only: a sum of hostile numbers could overflow.
    const uint64_t room = std::max<int64_t>(0, file_bytes_ - data_begin);
    const uint64_t offset = gguf_get_tensor_offset(metadata_.get(), i);
    const uint64_t bytes = gguf_get_tensor_size(metadata_.get(), i);
    if (offset > room || bytes > room - offset) {
      return Damaged(absl::StrCat(
          "truncated: tensor ", gguf_get_tensor_name(metadata_.get(), i),
          " ends at byte ", data_begin + offset + bytes, ", the file at ",
          file_bytes_));
    }
  }
  return absl::OkStatus();
}

absl::Status GgufFile::ReadAt(int64_t offset, int64_t bytes,
                              void* data) const {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = pread(fd_, to, bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::UnavailableError(absl::StrCat(
          "model file ", path_, ": reading ", bytes, " bytes at ", offset,
          ": ", std::strerror(errno)));
    }
    // It was longer when it was opened.
    if (got == 0) {
      return Damaged(absl::StrCat("shrank while it was read: no byte at ",
                                  offset));
    }
    to += got;
    offset += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

bool GgufFile::Has(const std::string& key) const {
  return gguf_find_key(metadata_.get(), key.c_str()) >= 0;
}

absl::StatusOr<int64_t> GgufFile::Integer(const std::string& key) const {
  const gguf_context* metadata = metadata_.get();
  const int64_t id = gguf_find_key(metadata, key.c_str());
  if (id < 0) return Damaged(absl::StrCat("lacks the field ", key));
  switch (gguf_get_kv_type(metadata, id)) {
    case GGUF_TYPE_UINT8: return gguf_get_val_u8(metadata, id);
    case GGUF_TYPE_INT8: return gguf_get_val_i8(metadata, id);
    case GGUF_TYPE_UINT16: return gguf_get_val_u16(metadata, id);
    case GGUF_TYPE_INT16: return gguf_get_val_i16(metadata, id);
    case GGUF_TYPE_UINT32: return gguf_get_val_u32(metadata, id);
    case GGUF_TYPE_INT32: return gguf_get_val_i32(metadata, id);
    case GGUF_TYPE_INT64: return gguf_get_val_i64(metadata, id);
    case GGUF_TYPE_UINT64: {
      const uint64_t value = gguf_get_val_u64(metadata, id);
      if (value <= std::numeric_limits<int64_t>::max()) return value;
      break;
    }
    default: break;
  }
  return Damaged(absl::StrCat(
      "the field ", key, " is of type ",
      gguf_type_name(gguf_get_kv_type(metadata, id)), ", not an integer"));
}

absl::StatusOr<float> GgufFile::Float(const std::string& key) const {
  const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
  if (id < 0) return Damaged(absl::StrCat("lacks the field ", key));
  if (gguf_get_kv_type(metadata_.get(), id) != GGUF_TYPE_FLOAT32) {
    return Damaged(absl::StrCat("the field ", key, " is not a float32"));
  }
  return gguf_get_val_f32(metadata_.get(), id);
}

absl::StatusOr<std::string> GgufFile::String(const std::string& key) const {
  const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
  if (id < 0) return Damaged(absl::StrCat("lacks the field ", key));
  if (gguf_get_kv_type(metadata_.get(), id) != GGUF_TYPE_STRING) {
    return Damaged(absl::StrCat("the field ", key, " is not a string"));
  }
  return std::string(gguf_get_val_str(metadata_.get(), id));
}

absl::StatusOr<int64_t> GgufFile::Integer(const std::string& key,
                                          int64_t fallback) const {
  if (!Has(key)) return fallback;
  return Integer(key);
}

absl::StatusOr<float> GgufFile::Float(const std::string& key,
                                      float fallback) const {
  if (!Has(key)) return fallback;
  return Float(key);
}

absl::StatusOr<std::string> GgufFile::String(
    const std::string& key, const std::string& fallback) const {
  if (!Has(key)) return fallback;
  return String(key);
}

ggml_tensor* GgufFile::FindTensor(const std::string& name) const {
  return ggml_get_tensor(tensors_, name.c_str());
}

absl::Status GgufFile::ReadTensor(const std::string& name, void* data) const {
  const int64_t id = gguf_find_tensor(metadata_.get(), name.c_str());
  FC_CHECK(id >= 0) << name;
  return ReadAt(gguf_get_data_offset(metadata_.get()) +
                    gguf_get_tensor_offset(metadata_.get(), id),
                gguf_get_tensor_size(metadata_.get(), id), data);
}

absl::StatusOr<std::string> GgufFile::Digest() const {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> sha(EVP_MD_CTX_new(),
                                                         EVP_MD_CTX_free);
  FC_CHECK(EVP_DigestInit_ex(sha.get(), EVP_sha256(), nullptr) == 1);
  std::vector<char> buffer(kReadBytes);
  for (int64_t offset = 0; offset < file_bytes_; offset += kReadBytes) {
    const int64_t bytes = std::min(kReadBytes, file_bytes_ - offset);
    FC_RETURN_IF_ERROR(ReadAt(offset, bytes, buffer.data()));
    FC_CHECK(EVP_DigestUpdate(sha.get(), buffer.data(), bytes) == 1);
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_bytes = 0;
  FC_CHECK(EVP_DigestFinal_ex(sha.get(), digest, &digest_bytes) == 1);
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(digest), digest_bytes));
}

absl::Status GgufFile::Damaged(const std::string& what) const {
  return absl::DataLossError(absl::StrCat("model file ", path_, ": ", what));
}

absl::Status GgufFile::Unsupported(const std::string& what) const {
  return absl::UnimplementedError(
      absl::StrCat("model file ", path_, ": ", what));
}

}  // namespace forecache
