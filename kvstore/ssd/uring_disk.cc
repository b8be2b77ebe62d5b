#include "kvstore/ssd/uring_disk.h"

#include <fcntl.h>
#include <liburing.h>
#include <rocksdb/env.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr mode_t kFolderMode = 0700;
constexpr mode_t kFileMode = 0600;
constexpr char kLockFile[] = "lock";

absl::Status FromErrno(const std::string& what, int error) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::ResourceExhaustedError(text);
  }
  if (error == ENOENT) return absl::NotFoundError(text);
  return absl::UnavailableError(text);
}

// Threads: one thread at a time.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Ends an operation after `result` bytes, or tells to go on with the rest.
bool Ended(DiskOp* op, int64_t result) {
  const bool is_read = op->kind == DiskOp::Kind::kRead;
  if (result == -EINTR || result == -EAGAIN) return false;
  if (result < 0) {
    op->status = FromErrno(is_read ? "read" : "write",
                           static_cast<int>(-result));
    return true;
  }
  op->moved += static_cast<size_t>(result);
  if (op->moved == op->bytes) {
    op->status = absl::OkStatus();
    return true;
  }
  if (result > 0) return false;
  op->status = absl::UnavailableError(
      is_read ? "read: the file has ended" : "write: no byte was written");
  return true;
}

// Works each operation off as it starts.
class SyncQueue : public DiskQueue {
 public:
  explicit SyncQueue(int fd) : fd_(fd) {}
  void Start(std::span<DiskOp> ops) override {
    for (DiskOp& op : ops) {
      op.moved = 0;
      for (int64_t result = 0;;) {
        std::byte* at = op.data + op.moved;
        const off_t offset = static_cast<off_t>(op.offset + op.moved);
        const size_t left = op.bytes - op.moved;
        result = op.kind == DiskOp::Kind::kRead ? pread(fd_, at, left, offset)
                                                : pwrite(fd_, at, left, offset);
        if (Ended(&op, result < 0 ? -errno : result)) break;
      }
    }
  }
  bool Poll() override { return true; }
  void Wait() override {}

 private:
  const int fd_;
};

class UringQueue : public DiskQueue {
 public:
  // Null when the kernel refuses.
  static std::unique_ptr<UringQueue> Create(int fd, int depth) {
    auto queue = std::unique_ptr<UringQueue>(new UringQueue(fd, depth));
    const int error = io_uring_queue_init(static_cast<unsigned>(depth),
                                          &queue->ring_, 0);
    queue->is_open_ = error == 0;
    return error == 0 ? std::move(queue) : nullptr;
  }
  ~UringQueue() override {
    if (!is_open_) return;
    Wait();
    io_uring_queue_exit(&ring_);
  }

  void Start(std::span<DiskOp> ops) override {
    for (DiskOp& op : ops) {
      op.moved = 0;
      waiting_.push_back(&op);
    }
    Submit();
  }

  bool Poll() override {
    io_uring_cqe* cqe = nullptr;
    while (in_flight_ > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0) Reap(cqe);
    Submit();
    return in_flight_ == 0;
  }

  void Wait() override {
    while (in_flight_ > 0 || !waiting_.empty()) {
      io_uring_cqe* cqe = nullptr;
      const int error = io_uring_wait_cqe(&ring_, &cqe);
      if (error == -EINTR) continue;
      FC_CHECK(error == 0) << std::strerror(-error);
      Reap(cqe);
      Poll();
    }
  }

 private:
  UringQueue(int fd, int depth) : fd_(fd), depth_(depth) {}

  void Submit() {
    bool any = false;
    while (!waiting_.empty() && in_flight_ < depth_) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      DiskOp* op = waiting_.front();
      waiting_.pop_front();
      std::byte* at = op->data + op->moved;
      const auto left = static_cast<unsigned>(op->bytes - op->moved);
      if (op->kind == DiskOp::Kind::kRead) {
        io_uring_prep_read(sqe, fd_, at, left, op->offset + op->moved);
      } else {
        io_uring_prep_write(sqe, fd_, at, left, op->offset + op->moved);
      }
      io_uring_sqe_set_data(sqe, op);
      ++in_flight_;
      any = true;
    }
    while (any) {
      const int submitted = io_uring_submit(&ring_);
      if (submitted >= 0) break;
      FC_CHECK(submitted == -EINTR || submitted == -EAGAIN ||
               submitted == -EBUSY)
          << std::strerror(-submitted);
    }
  }

  void Reap(io_uring_cqe* cqe) {
    auto* op = static_cast<DiskOp*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    --in_flight_;
    if (!Ended(op, result)) waiting_.push_back(op);
  }

  const int fd_;
  const int depth_;
  io_uring ring_{};
  bool is_open_ = false;
  int in_flight_ = 0;
  std::deque<DiskOp*> waiting_;
};

class FolderFile : public DiskFile {
 public:
  FolderFile(Descriptor file, uint64_t bytes, bool io_uring)
      : file_(std::move(file)), bytes_(bytes), io_uring_(io_uring) {}
  uint64_t bytes() const override { return bytes_; }
  std::unique_ptr<DiskQueue> NewQueue(int depth) override {
    std::unique_ptr<DiskQueue> queue;
    if (io_uring_) queue = UringQueue::Create(file_.get(), depth);
    if (queue == nullptr) queue = std::make_unique<SyncQueue>(file_.get());
    return queue;
  }
  absl::Status Sync() override {
    if (fdatasync(file_.get()) == 0) return absl::OkStatus();
    return FromErrno("fdatasync", errno);
  }

 private:
  const Descriptor file_;
  const uint64_t bytes_;
  const bool io_uring_;
};

class FolderDisk : public Disk {
 public:
  FolderDisk(std::string path, Descriptor folder, UringDiskOptions options)
      : path_(std::move(path)),
        folder_(std::move(folder)),
        options_(options) {}

  std::string Name() const override {
    return absl::StrCat(path_, options_.io_uring ? ", io_uring" : ", pread",
                        options_.direct ? ", O_DIRECT" : ", buffered");
  }

  absl::Status Lock() override {
    if (lock_.get() >= 0) return absl::OkStatus();
    Descriptor file(openat(folder_.get(), kLockFile,
                           O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
    if (file.get() < 0) return Error(kLockFile);
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return Error(kLockFile);
      return absl::FailedPreconditionError(
          absl::StrCat(path_, ": another process uses it"));
    }
    lock_ = std::move(file);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadFile(const std::string& name) override {
    Descriptor file(openat(folder_.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return Error(name);
    std::string bytes;
    char piece[4096];
    for (;;) {
      const ssize_t got = read(file.get(), piece, sizeof(piece));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error(name);
      if (got == 0) return bytes;
      bytes.append(piece, static_cast<size_t>(got));
    }
  }

  absl::Status WriteFile(const std::string& name,
                         const std::string& bytes) override {
    const std::string fresh = absl::StrCat(name, ".", getpid());
    Descriptor file(openat(folder_.get(), fresh.c_str(),
                           O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                           kFileMode));
    if (file.get() < 0) return Error(fresh);
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t put =
          write(file.get(), bytes.data() + done, bytes.size() - done);
      if (put < 0 && errno != EINTR) return Error(fresh);
      if (put > 0) done += static_cast<size_t>(put);
    }
    if (fsync(file.get()) != 0) return Error(fresh);
    if (renameat(folder_.get(), fresh.c_str(), folder_.get(), name.c_str()) !=
        0) {
      return Error(name);
    }
    return SyncFolder();
  }

  absl::StatusOr<std::unique_ptr<DiskFile>> OpenFile(
      const std::string& name, uint64_t bytes) override {
    FC_ASSIGN_OR_RETURN(Descriptor file, OpenPages(name));
    struct stat now {};
    if (fstat(file.get(), &now) != 0) return Error(name);
    if (now.st_size > static_cast<off_t>(bytes) &&
        ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
      return Error(name);
    }
    // Room is taken now, so that a disk which others fill fails here.
    if (fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
      if (errno != EOPNOTSUPP) return Error(name);
      LogWarning("ssd: the file system cannot reserve room",
                 {{"folder", path_}});
      if (ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
        return Error(name);
      }
    }
    if (fsync(file.get()) != 0) return Error(name);
    FC_RETURN_IF_ERROR(SyncFolder());
    return std::make_unique<FolderFile>(std::move(file), bytes,
                                        options_.io_uring);
  }

  rocksdb::Env* MetadataEnv() override { return rocksdb::Env::Default(); }
  std::string MetadataPath() const override { return path_ + "/metadata"; }

 private:
  absl::Status Error(const std::string& name) const {
    return FromErrno(absl::StrCat(path_, "/", name), errno);
  }

  absl::Status SyncFolder() {
    return fsync(folder_.get()) == 0 ? absl::OkStatus() : Error("");
  }

  absl::StatusOr<Descriptor> OpenPages(const std::string& name) {
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC;
    if (options_.direct) {
      Descriptor file(
          openat(folder_.get(), name.c_str(), flags | O_DIRECT, kFileMode));
      if (file.get() >= 0) return file;
      if (errno != EINVAL) return Error(name);
      options_.direct = false;
      LogWarning("ssd: no O_DIRECT here, so the page cache is in between",
                 {{"folder", path_}});
    }
    Descriptor file(openat(folder_.get(), name.c_str(), flags, kFileMode));
    if (file.get() < 0) return Error(name);
    return file;
  }

  const std::string path_;
  const Descriptor folder_;
  UringDiskOptions options_;
  Descriptor lock_;
};

// Many containers forbid io_uring.
bool KernelHasUring() {
  io_uring ring{};
  if (io_uring_queue_init(1, &ring, 0) != 0) return false;
  io_uring_queue_exit(&ring);
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Disk>> OpenUringDisk(
    const std::string& folder, const UringDiskOptions& options) {
  if (mkdir(folder.c_str(), kFolderMode) != 0 && errno != EEXIST) {
    return FromErrno(folder, errno);
  }
  Descriptor opened(
      open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) return FromErrno(folder, errno);
  UringDiskOptions used = options;
  if (used.io_uring && !KernelHasUring()) {
    used.io_uring = false;
    LogWarning("ssd: the kernel refuses io_uring: reads go one by one",
               {{"folder", folder}});
  }
  return std::make_unique<FolderDisk>(folder, std::move(opened), used);
}

}  // namespace forecache
