#include "kvstore/ssd/testing/ssd_memory_env.h"

#include <rocksdb/file_system.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace forecache {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus ToRocks(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const std::string text(status.message());
  if (absl::IsNotFound(status)) return IOStatus::PathNotFound(text);
  if (absl::IsResourceExhausted(status)) return IOStatus::NoSpace(text);
  return IOStatus::IOError(text);
}

struct OpenFile {
  std::shared_ptr<MemoryFiles> files;
  MemoryFiles::FileRef file;

  Slice Read(uint64_t offset, size_t count, char* scratch) const {
    const size_t got = files->Read(
        file, offset, {reinterpret_cast<std::byte*>(scratch), count});
    return Slice(scratch, got);
  }
};

class SequentialFile : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Read(size_t count, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) override {
    *result = file_.Read(at_, count, scratch);
    at_ += result->size();
    return IOStatus::OK();
  }
  IOStatus Skip(uint64_t count) override {
    at_ += count;
    return IOStatus::OK();
  }

 private:
  const OpenFile file_;
  uint64_t at_ = 0;
};

class RandomAccessFile : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(OpenFile file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t count, const IOOptions&, Slice* result,
                char* scratch, IODebugContext*) const override {
    *result = file_.Read(offset, count, scratch);
    return IOStatus::OK();
  }

 private:
  const OpenFile file_;
};

class WritableFile : public rocksdb::FSWritableFile {
 public:
  WritableFile(OpenFile file, uint64_t at) : file_(std::move(file)), at_(at) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&,
                  IODebugContext*) override {
    absl::Status status = file_.files->Write(
        file_.file, at_,
        {reinterpret_cast<const std::byte*>(data.data()), data.size()});
    if (status.ok()) at_ += data.size();
    return ToRocks(status);
  }
  IOStatus Truncate(uint64_t bytes, const IOOptions&,
                    IODebugContext*) override {
    at_ = bytes;
    return ToRocks(file_.files->Resize(file_.file, bytes));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    return ToRocks(file_.files->Sync(file_.file));
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    return at_;
  }

 private:
  const OpenFile file_;
  uint64_t at_;
};

class Directory : public rocksdb::FSDirectory {
 public:
  Directory(std::shared_ptr<MemoryFiles> files, std::string prefix)
      : files_(std::move(files)), prefix_(std::move(prefix)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return ToRocks(files_->SyncNames(prefix_));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }

 private:
  const std::shared_ptr<MemoryFiles> files_;
  const std::string prefix_;
};

class HeldLock : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::string name) : name(std::move(name)) {}
  const std::string name;
};

class MemoryFileSystem : public rocksdb::FileSystem {
 public:
  explicit MemoryFileSystem(std::shared_ptr<MemoryFiles> files)
      : files_(std::move(files)) {}
  const char* Name() const override { return "MemoryFileSystem"; }

  IOStatus NewSequentialFile(const std::string& name, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* file,
                             IODebugContext*) override {
    auto opened = files_->Open(name, false);
    if (!opened.ok()) return ToRocks(opened.status());
    *file = std::make_unique<SequentialFile>(OpenFile{files_, *opened});
    return IOStatus::OK();
  }
  IOStatus NewRandomAccessFile(
      const std::string& name, const FileOptions&,
      std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
      IODebugContext*) override {
    auto opened = files_->Open(name, false);
    if (!opened.ok()) return ToRocks(opened.status());
    *file = std::make_unique<RandomAccessFile>(OpenFile{files_, *opened});
    return IOStatus::OK();
  }
  IOStatus NewWritableFile(const std::string& name, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           IODebugContext*) override {
    auto opened = files_->Open(name, true);
    if (!opened.ok()) return ToRocks(opened.status());
    if (files_->Size(*opened) > 0) {
      absl::Status status = files_->Resize(*opened, 0);
      if (!status.ok()) return ToRocks(status);
    }
    *file = std::make_unique<WritableFile>(OpenFile{files_, *opened}, 0);
    return IOStatus::OK();
  }
  IOStatus ReopenWritableFile(const std::string& name, const FileOptions&,
                              std::unique_ptr<rocksdb::FSWritableFile>* file,
                              IODebugContext*) override {
    auto opened = files_->Open(name, true);
    if (!opened.ok()) return ToRocks(opened.status());
    *file = std::make_unique<WritableFile>(OpenFile{files_, *opened},
                                           files_->Size(*opened));
    return IOStatus::OK();
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext*) override {
    *result = std::make_unique<Directory>(files_, Prefix(name));
    return IOStatus::OK();
  }

  IOStatus FileExists(const std::string& name, const IOOptions&,
                      IODebugContext*) override {
    if (files_->Exists(name) || !files_->Names(Prefix(name)).empty()) {
      return IOStatus::OK();
    }
    return IOStatus::NotFound(name);
  }
  IOStatus GetChildren(const std::string& folder, const IOOptions&,
                       std::vector<std::string>* result,
                       IODebugContext*) override {
    const std::string prefix = Prefix(folder);
    *result = files_->Names(prefix);
    for (std::string& name : *result) name = name.substr(prefix.size());
    return IOStatus::OK();
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions&,
                      IODebugContext*) override {
    return ToRocks(files_->Delete(name));
  }
  IOStatus CreateDir(const std::string&, const IOOptions&,
                     IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus CreateDirIfMissing(const std::string&, const IOOptions&,
                              IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&,
                     IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions&,
                       uint64_t* bytes, IODebugContext*) override {
    auto size = files_->Size(name);
    if (size.ok()) *bytes = *size;
    return ToRocks(size.status());
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&,
                                   uint64_t* time, IODebugContext*) override {
    *time = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to,
                      const IOOptions&, IODebugContext*) override {
    return ToRocks(files_->Rename(from, to));
  }
  IOStatus LockFile(const std::string& name, const IOOptions&,
                    rocksdb::FileLock** lock, IODebugContext*) override {
    if (!files_->Lock(name)) return IOStatus::IOError(name, "is locked");
    *lock = new HeldLock(name);
    return IOStatus::OK();
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&,
                      IODebugContext*) override {
    files_->Unlock(static_cast<HeldLock*>(lock)->name);
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path,
                            IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&,
                           std::string* result, IODebugContext*) override {
    *result = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&,
                       bool* is_folder, IODebugContext*) override {
    *is_folder = !files_->Exists(path);
    return IOStatus::OK();
  }

 private:
  static std::string Prefix(const std::string& folder) {
    return !folder.empty() && folder.back() == '/' ? folder : folder + "/";
  }

  const std::shared_ptr<MemoryFiles> files_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewMemoryEnv(
    std::shared_ptr<MemoryFiles> files) {
  return rocksdb::NewCompositeEnv(
      std::make_shared<MemoryFileSystem>(std::move(files)));
}

}  // namespace forecache
