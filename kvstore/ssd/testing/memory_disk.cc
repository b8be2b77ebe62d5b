#include "kvstore/ssd/testing/memory_disk.h"

#include <rocksdb/env.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status.h"
#include "kvstore/ssd/testing/ssd_memory_env.h"

namespace forecache {
namespace {

constexpr char kFolder[] = "/disk/";
constexpr char kMetadata[] = "/metadata";
constexpr char kLock[] = "lock of the disk";

class MemoryQueue : public DiskQueue {
 public:
  MemoryQueue(MemoryFiles* files, MemoryFiles::FileRef file,
              const MemoryDiskOptions& options)
      : files_(files), file_(std::move(file)), options_(options) {}
  ~MemoryQueue() override { Wait(); }

  void Start(std::span<DiskOp> ops) override {
    for (DiskOp& op : ops) {
      FC_CHECK(op.offset % kSsdPageBytes == 0) << op.offset;
      FC_CHECK(op.bytes % kSsdPageBytes == 0 && op.bytes > 0) << op.bytes;
      FC_CHECK(reinterpret_cast<uintptr_t>(op.data) % kSsdPageBytes == 0);
      started_.push_back(&op);
    }
  }
  bool Poll() override {
    if (options_.clock != nullptr && !started_.empty()) {
      options_.clock->SleepFor(options_.delay);
    }
    for (; !started_.empty(); started_.pop_back()) Do(started_.back());
    return true;
  }
  void Wait() override { Poll(); }

 private:
  void Do(DiskOp* op) {
    if (op->kind == DiskOp::Kind::kWrite) {
      op->status = files_->Write(file_, op->offset, {op->data, op->bytes});
      return;
    }
    const size_t got = files_->Read(file_, op->offset, {op->data, op->bytes});
    op->status = got == op->bytes
                     ? absl::OkStatus()
                     : absl::UnavailableError("read: the file has ended");
  }

  MemoryFiles* const files_;
  const MemoryFiles::FileRef file_;
  const MemoryDiskOptions options_;
  std::vector<DiskOp*> started_;
};

class MemoryDiskFile : public DiskFile {
 public:
  MemoryDiskFile(MemoryFiles* files, MemoryFiles::FileRef file,
                 const MemoryDiskOptions& options)
      : files_(files), file_(std::move(file)), options_(options) {}
  uint64_t bytes() const override { return files_->Size(file_); }
  std::unique_ptr<DiskQueue> NewQueue(int depth) override {
    return std::make_unique<MemoryQueue>(files_, file_, options_);
  }
  absl::Status Sync() override { return files_->Sync(file_); }

 private:
  MemoryFiles* const files_;
  const MemoryFiles::FileRef file_;
  const MemoryDiskOptions options_;
};

class MemoryDisk : public Disk {
 public:
  MemoryDisk(std::shared_ptr<MemoryFiles> files,
             const MemoryDiskOptions& options)
      : files_(std::move(files)),
        options_(options),
        env_(NewMemoryEnv(files_)) {}
  ~MemoryDisk() override {
    if (locked_) files_->Unlock(kLock);
  }

  std::string Name() const override { return "memory"; }
  absl::Status Lock() override {
    if (!locked_ && !files_->Lock(kLock)) {
      return absl::FailedPreconditionError("memory: another process uses it");
    }
    locked_ = true;
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadFile(const std::string& name) override {
    FC_ASSIGN_OR_RETURN(auto file, files_->Open(kFolder + name, false));
    std::string bytes(files_->Size(file), 0);
    files_->Read(file, 0, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }

  absl::Status WriteFile(const std::string& name,
                         const std::string& bytes) override {
    const std::string fresh = absl::StrCat(kFolder, name, ".new");
    FC_ASSIGN_OR_RETURN(auto file, files_->Open(fresh, true));
    FC_RETURN_IF_ERROR(files_->Resize(file, 0));
    FC_RETURN_IF_ERROR(
        files_->Write(file, 0, std::as_bytes(std::span(bytes))));
    FC_RETURN_IF_ERROR(files_->Sync(file));
    FC_RETURN_IF_ERROR(files_->Rename(fresh, kFolder + name));
    return files_->SyncNames(kFolder);
  }

  absl::StatusOr<std::unique_ptr<DiskFile>> OpenFile(
      const std::string& name, uint64_t bytes) override {
    FC_ASSIGN_OR_RETURN(auto file, files_->Open(kFolder + name, true));
    FC_RETURN_IF_ERROR(files_->Resize(file, bytes));
    FC_RETURN_IF_ERROR(files_->Sync(file));
    FC_RETURN_IF_ERROR(files_->SyncNames(kFolder));
    return std::make_unique<MemoryDiskFile>(files_.get(), std::move(file),
                                            options_);
  }

  rocksdb::Env* MetadataEnv() override { return env_.get(); }
  std::string MetadataPath() const override { return kMetadata; }

 private:
  const std::shared_ptr<MemoryFiles> files_;
  const MemoryDiskOptions options_;
  const std::unique_ptr<rocksdb::Env> env_;
  bool locked_ = false;
};

}  // namespace

std::unique_ptr<Disk> NewMemoryDisk(std::shared_ptr<MemoryFiles> files,
                                    const MemoryDiskOptions& options) {
  return std::make_unique<MemoryDisk>(std::move(files), options);
}

}  // namespace forecache
