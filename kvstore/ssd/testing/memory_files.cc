#include "kvstore/ssd/testing/memory_files.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace forecache {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

// Guarded by the lock of the MemoryFiles that it is in.
struct MemoryFiles::File {
  std::vector<std::byte> bytes;
  std::vector<std::byte> synced;
  std::set<size_t> dirty;  // pages that may differ
  size_t synced_size = 0;

  // What a crash leaves.
  FileRef Rest(uint64_t seed, Rng* rng) const {
    auto rest = std::make_shared<File>();
    rest->bytes = synced;
    rest->bytes.resize(synced_size);
    for (size_t page : dirty) {
      const size_t begin = page * kPage;
      if (seed == 0 || begin >= bytes.size() || rng->Below(2) == 0) continue;
      const size_t end = std::min(begin + kPage, bytes.size());
      if (rest->bytes.size() < end) rest->bytes.resize(end);
      std::copy(bytes.begin() + begin, bytes.begin() + end,
                rest->bytes.begin() + begin);
    }
    rest->synced = rest->bytes;
    rest->synced_size = rest->bytes.size();
    return rest;
  }
};

absl::Status MemoryFiles::Step() {
  const int64_t step = steps_++;
  auto let_go = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return held_step_ != step;
  };
  mu_.Await(absl::Condition(&let_go));
  if (step < fail_first_ || step - fail_first_ >= fail_count_) {
    return absl::OkStatus();
  }
  return fail_why_;
}

int64_t MemoryFiles::steps() const {
  absl::MutexLock lock(&mu_);
  return steps_;
}

void MemoryFiles::FailSteps(int64_t first, int64_t count,
                            const absl::Status& why) {
  absl::MutexLock lock(&mu_);
  fail_first_ = first;
  fail_count_ = count;
  fail_why_ = why;
}

void MemoryFiles::HoldStep(int64_t step) {
  absl::MutexLock lock(&mu_);
  held_step_ = step;
}

void MemoryFiles::Crash(uint64_t seed) {
  absl::MutexLock lock(&mu_);
  Rng rng(seed);
  for (auto& [name, file] : durable_names_) file = file->Rest(seed, &rng);
  names_ = durable_names_;
  locks_.clear();
  fail_count_ = 0;
}

void MemoryFiles::FlipBit(const std::string& name, uint64_t offset, int bit) {
  absl::MutexLock lock(&mu_);
  File& file = *names_.at(name);
  FC_CHECK(offset < file.bytes.size()) << name;
  file.bytes[offset] ^= std::byte{1} << bit;
  if (offset < file.synced.size()) {
    file.synced[offset] ^= std::byte{1} << bit;
  }
}

std::vector<std::string> MemoryFiles::Names(const std::string& prefix) const {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> names;
  for (const auto& [name, file] : names_) {
    if (absl::StartsWith(name, prefix)) names.push_back(name);
  }
  return names;
}

absl::StatusOr<MemoryFiles::FileRef> MemoryFiles::Open(const std::string& name,
                                                       bool create) {
  absl::MutexLock lock(&mu_);
  auto found = names_.find(name);
  if (found != names_.end()) return found->second;
  if (!create) return absl::NotFoundError(absl::StrCat(name, ": no such file"));
  if (absl::Status status = Step(); !status.ok()) return status;
  auto file = std::make_shared<File>();
  names_.emplace(name, file);
  return file;
}

bool MemoryFiles::Exists(const std::string& name) const {
  absl::MutexLock lock(&mu_);
  return names_.contains(name);
}

absl::StatusOr<uint64_t> MemoryFiles::Size(const std::string& name) const {
  absl::MutexLock lock(&mu_);
  auto found = names_.find(name);
  if (found == names_.end()) {
    return absl::NotFoundError(absl::StrCat(name, ": no such file"));
  }
  return found->second->bytes.size();
}

uint64_t MemoryFiles::Size(const FileRef& file) const {
  absl::MutexLock lock(&mu_);
  return file->bytes.size();
}

size_t MemoryFiles::Read(const FileRef& file, uint64_t offset,
                         MutableBytes out) const {
  absl::MutexLock lock(&mu_);
  if (offset >= file->bytes.size()) return 0;
  const size_t count =
      std::min<uint64_t>(out.size(), file->bytes.size() - offset);
  std::memcpy(out.data(), file->bytes.data() + offset, count);
  return count;
}

absl::Status MemoryFiles::Write(const FileRef& file, uint64_t offset,
                                ByteView bytes) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  if (bytes.empty()) return absl::OkStatus();
  if (file->bytes.size() < offset + bytes.size()) {
    file->bytes.resize(offset + bytes.size());
  }
  std::memcpy(file->bytes.data() + offset, bytes.data(), bytes.size());
  const size_t last = (offset + bytes.size() - 1) / kPage;
  for (size_t page = offset / kPage; page <= last; ++page) {
    file->dirty.insert(page);
  }
  return absl::OkStatus();
}

absl::Status MemoryFiles::Resize(const FileRef& file, uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  file->bytes.resize(bytes);
  return absl::OkStatus();
}

absl::Status MemoryFiles::Sync(const FileRef& file) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  file->synced.resize(file->bytes.size());
  for (size_t page : file->dirty) {
    const size_t begin = page * kPage;
    if (begin >= file->bytes.size()) continue;
    const size_t end = std::min(begin + kPage, file->bytes.size());
    std::copy(file->bytes.begin() + begin, file->bytes.begin() + end,
              file->synced.begin() + begin);
  }
  file->dirty.clear();
  file->synced_size = file->bytes.size();
  return absl::OkStatus();
}

absl::Status MemoryFiles::Rename(const std::string& from,
                                 const std::string& to) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  auto node = names_.extract(from);
  if (node.empty()) {
    return absl::NotFoundError(absl::StrCat(from, ": no such file"));
  }
  names_[to] = std::move(node.mapped());
  return absl::OkStatus();
}

absl::Status MemoryFiles::Delete(const std::string& name) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  if (names_.erase(name) == 0) {
    return absl::NotFoundError(absl::StrCat(name, ": no such file"));
  }
  return absl::OkStatus();
}

absl::Status MemoryFiles::SyncNames(const std::string& prefix) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = Step(); !status.ok()) return status;
  auto begins = [&](const auto& item) {
    return absl::StartsWith(item.first, prefix);
  };
  std::erase_if(durable_names_, begins);
  for (const auto& item : names_) {
    if (begins(item)) durable_names_.insert(item);
  }
  return absl::OkStatus();
}

bool MemoryFiles::Lock(const std::string& name) {
  absl::MutexLock lock(&mu_);
  return locks_.insert(name).second;
}

void MemoryFiles::Unlock(const std::string& name) {
  absl::MutexLock lock(&mu_);
  locks_.erase(name);
}

}  // namespace forecache
