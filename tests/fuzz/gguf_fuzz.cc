// A model file: worker/model reads its header, its fields and its tensors.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/worker/model/tiny_model.h"
#include "worker/model/model_runtime.h"

namespace forecache::fuzz {
namespace {

// A file in memory, by a path.
//
// Threads: one.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("model", 0)) { FC_CHECK(fd_ >= 0); }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return absl::StrCat("/proc/self/fd/", fd_); }
  void Set(const uint8_t* data, size_t size) {
    FC_CHECK(ftruncate(fd_, 0) == 0);
    FC_CHECK(pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
  }

 private:
  const int fd_;
};

Bytes FileOf(const TinyModel& model) {
  MemoryFile file;
  WriteTinyModel(model, file.path());
  std::ifstream in(file.path(), std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  FC_CHECK(bytes.size() <= kInputBytesMax) << bytes.size();
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::vector<Bytes> Seeds() {
  TinyModel small;
  small.layers = 1;
  small.hidden = small.feed_forward = 32;
  small.query_heads = 2;
  small.kv_heads = 1;
  small.vocabulary = 10;
  TinyModel other = small;
  other.biases = true;
  other.rope_factors = true;
  return {FileOf(small), FileOf(other)};
}

void Repair(Bytes* input, Rng* rng) {
  // Most of the file is weights: change the header again instead.
  if (input->size() < 64) return;
  (*input)[rng->Below(std::min<size_t>(input->size(), 2048))] =
      static_cast<uint8_t>(rng->Next());
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  static fuzz::MemoryFile file;
  file.Set(data, size);
  const auto model = LoadGgmlModel({.path = file.path()});
  if (!model.ok()) {
    FC_CHECK(!model.status().message().empty());
    return 0;
  }
  const ModelConfig& config = (*model)->config();
  FC_CHECK(config.layers > 0 && config.kv_heads > 0 && config.head_dim > 0);
  return 0;
}
