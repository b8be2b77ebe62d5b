// What every Disk keeps to.
#include "kvstore/ssd/disk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "kvstore/ssd/testing/memory_disk.h"
#include "kvstore/ssd/uring_disk.h"

namespace forecache {
namespace {

// Opens the same disk again, as the next process does.
using OpenDisk = std::function<std::unique_ptr<Disk>()>;

struct DiskCase {
  std::string name;
  std::function<OpenDisk()> make;
};

OpenDisk InFolder(const std::string& name, UringDiskOptions options) {
  static int number = 0;
  const std::string folder = absl::StrCat(std::getenv("TEST_TMPDIR"), "/", name,
                                          ++number);
  return [=] {
    auto disk = OpenUringDisk(folder, options);
    FC_CHECK_OK(disk.status());
    return *std::move(disk);
  };
}

class DiskTest : public ::testing::TestWithParam<DiskCase> {
 protected:
  DiskTest() : open_(GetParam().make()), disk_(open_()) {}

  static void Fill(PageBuffer* buffer, uint64_t seed) {
    Rng rng(seed);
    for (size_t i = 0; i < buffer->size(); ++i) {
      buffer->data()[i] = static_cast<std::byte>(rng.Next());
    }
  }

  const OpenDisk open_;
  std::unique_ptr<Disk> disk_;
};

TEST_P(DiskTest, ManyOperationsOfOneBatch) {
  constexpr int kPages = 200;  // more than the queue's depth
  auto file = disk_->OpenFile("pages", kPages * kSsdPageBytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), kPages * kSsdPageBytes);
  PageBuffer out(kPages * kSsdPageBytes), in(kPages * kSsdPageBytes);
  Fill(&out, 1);
  auto queue = (*file)->NewQueue(8);
  auto move = [&](DiskOp::Kind kind, PageBuffer* buffer) {
    std::vector<DiskOp> ops(kPages);
    for (int i = 0; i < kPages; ++i) {
      ops[i] = {kind, i * kSsdPageBytes,
                buffer->data() + (kPages - 1 - i) * kSsdPageBytes,
                kSsdPageBytes};
    }
    queue->Start(std::span(ops).first(kPages / 2));
    queue->Start(std::span(ops).subspan(kPages / 2));
    queue->Wait();
    EXPECT_TRUE(queue->Poll());
    for (const DiskOp& op : ops) EXPECT_EQ(op.status, absl::OkStatus());
  };
  move(DiskOp::Kind::kWrite, &out);
  EXPECT_EQ((*file)->Sync(), absl::OkStatus());
  move(DiskOp::Kind::kRead, &in);
  EXPECT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0);
}

TEST_P(DiskTest, ReadingPastTheEndIsAnError) {
  auto file = disk_->OpenFile("pages", 4 * kSsdPageBytes);
  ASSERT_TRUE(file.ok());
  PageBuffer buffer(2 * kSsdPageBytes);
  DiskOp op{DiskOp::Kind::kRead, 3 * kSsdPageBytes, buffer.data(),
            buffer.size()};
  auto queue = (*file)->NewQueue(1);
  queue->Start({&op, 1});
  queue->Wait();
  EXPECT_TRUE(absl::IsUnavailable(op.status)) << op.status;
}

TEST_P(DiskTest, PagesOutliveTheProcessAndTheFileGrowsAndShrinks) {
  PageBuffer out(2 * kSsdPageBytes), in(2 * kSsdPageBytes);
  Fill(&out, 2);
  auto move = [&](DiskFile* file, DiskOp::Kind kind, PageBuffer* buffer) {
    DiskOp op{kind, kSsdPageBytes, buffer->data(), buffer->size()};
    auto queue = file->NewQueue(1);
    queue->Start({&op, 1});
    queue->Wait();
    EXPECT_EQ(op.status, absl::OkStatus());
  };
  {
    auto file = disk_->OpenFile("pages", 16 * kSsdPageBytes);
    ASSERT_TRUE(file.ok());
    move(file->get(), DiskOp::Kind::kWrite, &out);
    ASSERT_EQ((*file)->Sync(), absl::OkStatus());
  }
  disk_ = nullptr;
  disk_ = open_();
  for (uint64_t pages : {64, 3}) {
    auto file = disk_->OpenFile("pages", pages * kSsdPageBytes);
    ASSERT_TRUE(file.ok());
    EXPECT_EQ((*file)->bytes(), pages * kSsdPageBytes);
    move(file->get(), DiskOp::Kind::kRead, &in);
    EXPECT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0);
  }
}

TEST_P(DiskTest, SmallFilesAreReplacedWhole) {
  EXPECT_TRUE(absl::IsNotFound(disk_->ReadFile("note").status()));
  ASSERT_EQ(disk_->WriteFile("note", std::string(10000, 'a')),
            absl::OkStatus());
  ASSERT_EQ(disk_->WriteFile("note", "short"), absl::OkStatus());
  disk_ = nullptr;
  disk_ = open_();
  EXPECT_EQ(*disk_->ReadFile("note"), "short");
}

TEST_P(DiskTest, OneProcessHasIt) {
  ASSERT_EQ(disk_->Lock(), absl::OkStatus());
  EXPECT_EQ(disk_->Lock(), absl::OkStatus());
  auto second = open_();
  EXPECT_EQ(second->Lock().code(), absl::StatusCode::kFailedPrecondition);
  disk_ = nullptr;
  EXPECT_EQ(second->Lock(), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(
    Disks, DiskTest,
    ::testing::Values(
        DiskCase{"uring", [] { return InFolder("uring", {}); }},
        DiskCase{"pread",
                 [] { return InFolder("pread", {.io_uring = false}); }},
        DiskCase{"buffered",
                 [] { return InFolder("buffered", {.direct = false}); }},
        DiskCase{"memory",
                 []() -> OpenDisk {
                   auto files = std::make_shared<MemoryFiles>();
                   return [files] { return NewMemoryDisk(files); };
                 }}),
    [](const auto& info) { return info.param.name; });

TEST(UringDiskTest, SecretsAreTheOwnersOnly) {
  const std::string folder =
      absl::StrCat(std::getenv("TEST_TMPDIR"), "/secrets");
  auto disk = OpenUringDisk(folder);
  ASSERT_TRUE(disk.ok());
  ASSERT_EQ((*disk)->WriteFile("secret", "s"), absl::OkStatus());
  struct stat now {};
  ASSERT_EQ(stat((folder + "/secret").c_str(), &now), 0);
  EXPECT_EQ(now.st_mode & 0777, 0600u);
  ASSERT_EQ(stat(folder.c_str(), &now), 0);
  EXPECT_EQ(now.st_mode & 0777, 0700u);
}

TEST(UringDiskTest, AFolderThatCannotBeIsNamed) {
  auto disk = OpenUringDisk("/proc/nowhere/ssd");
  ASSERT_FALSE(disk.ok());
  EXPECT_NE(disk.status().message().find("/proc/nowhere/ssd"),
            std::string::npos);
}

// The twin's own promise: what was not synced may be lost, what was is not.
TEST(MemoryFilesTest, ACrashLosesWhatWasNotSynced) {
  auto files = std::make_shared<MemoryFiles>();
  auto file = *files->Open("/disk/a", true);
  auto text = [](const char* bytes) {
    return std::as_bytes(std::span(bytes, std::strlen(bytes)));
  };
  ASSERT_EQ(files->Write(file, 0, text("one")), absl::OkStatus());
  ASSERT_EQ(files->Sync(file), absl::OkStatus());
  auto lost = *files->Open("/disk/b", true);
  ASSERT_EQ(files->SyncNames("/disk/"), absl::OkStatus());
  ASSERT_EQ(files->Write(file, 3, text("two")), absl::OkStatus());
  ASSERT_EQ(files->Write(lost, 0, text("x")), absl::OkStatus());
  ASSERT_EQ(files->Rename("/disk/b", "/disk/c"), absl::OkStatus());
  files->Crash(/*seed=*/0);
  EXPECT_EQ(*files->Size("/disk/a"), 3);
  EXPECT_EQ(*files->Size("/disk/b"), 0);
  EXPECT_FALSE(files->Exists("/disk/c"));
}

TEST(MemoryFilesTest, StepsFailAsTold) {
  auto files = std::make_shared<MemoryFiles>();
  auto file = *files->Open("/disk/a", true);
  files->FailSteps(files->steps() + 1, 1, absl::ResourceExhaustedError("full"));
  const std::byte byte{1};
  EXPECT_EQ(files->Write(file, 0, {&byte, 1}), absl::OkStatus());
  EXPECT_TRUE(absl::IsResourceExhausted(files->Write(file, 1, {&byte, 1})));
  EXPECT_EQ(files->Write(file, 1, {&byte, 1}), absl::OkStatus());
}

}  // namespace
}  // namespace forecache
