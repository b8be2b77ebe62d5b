#include "transport/mailbox.h"

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/transport/testing.h"
#include "transport/shared_memory.h"

namespace forecache {
namespace {

constexpr uint64_t kToken = 42;

class MailboxTest : public testing::Test {
 protected:
  void SetUp() override {
    memory_ = *SharedMemory::Create(MailboxBytes());
    reader_.Format(memory_->bytes(), kToken);
    auto opened = SharedMemory::Open(memory_->key());
    ASSERT_TRUE(opened.ok()) << opened.status();
    mapped_ = *std::move(opened);
    ASSERT_TRUE(writer_.Attach(mapped_->bytes(), kToken));
  }
  // One message, as strings; empty when there is none.
  std::pair<std::string, std::string> Read() {
    ByteView header, payload;
    if (!reader_.Read(&header, &payload)) return {};
    std::pair<std::string, std::string> message = {ToString(header),
                                                   ToString(payload)};
    reader_.Release();
    return message;
  }

  std::unique_ptr<SharedMemory> memory_;
  std::unique_ptr<SharedMemory> mapped_;
  MailboxReader reader_;
  MailboxWriter writer_;
};

TEST_F(MailboxTest, EverySizePasses) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{256}, size_t{257},
                      size_t{8192}, size_t{65536}, size_t{65537},
                      size_t{262144}, kMailboxPayloadMax}) {
    for (size_t header : {size_t{0}, size_t{48}, kHeaderBytesMax}) {
      const std::string head = Pattern(header, size);
      const std::string body = Pattern(size, header);
      ASSERT_TRUE(writer_.Write(ToBytes(head), ToBytes(body)));
      EXPECT_TRUE(reader_.HasMessages());
      const auto message = Read();
      EXPECT_TRUE(message.first == head) << size;
      EXPECT_TRUE(message.second == body) << size;
      EXPECT_FALSE(reader_.HasMessages());
    }
  }
}

TEST_F(MailboxTest, WhatIsReservedIsPublishedByCommit) {
  const std::string payload(100, 'p');
  MutableBytes place = writer_.Reserve(300);
  ASSERT_EQ(place.size(), 300u);
  std::memset(place.data(), '?', place.size());
  EXPECT_FALSE(reader_.HasMessages());
  // Another message takes the place back.
  ASSERT_TRUE(writer_.Write(ToBytes("first"), ToBytes(std::string(300, 'f'))));
  place = writer_.Reserve(300);
  std::memcpy(place.data(), payload.data(), payload.size());
  writer_.Commit(ToBytes("second"), payload.size());
  EXPECT_EQ(Read().second, std::string(300, 'f'));
  const auto second = Read();
  EXPECT_EQ(second.first, "second");
  EXPECT_EQ(second.second, payload);
  EXPECT_FALSE(reader_.HasMessages());
  // A full class has no place.
  const size_t most = kMailboxClasses[4].payload_bytes;
  for (uint32_t i = 0; i < kMailboxClasses[4].slots; ++i) {
    ASSERT_FALSE(writer_.Reserve(most).empty());
    writer_.Commit({}, most);
  }
  EXPECT_TRUE(writer_.Reserve(most).empty());
}

TEST_F(MailboxTest, AFullClassRefusesAndEmptiesInOrder) {
  for (int i = 0; i < kMailboxClassCount; ++i) {
    const std::string payload(kMailboxClasses[i].payload_bytes, 'p');
    uint32_t written = 0;
    while (writer_.Write(AsBytes(written), ToBytes(payload))) ++written;
    EXPECT_EQ(written, kMailboxClasses[i].slots);
    EXPECT_FALSE(writer_.HasRoom(i));
    for (uint32_t number = 0; number < written; ++number) {
      EXPECT_EQ(Read().first, ToString(AsBytes(number)));
      EXPECT_TRUE(writer_.HasRoom(i));
    }
  }
}

TEST_F(MailboxTest, ASmallFloodDoesNotStarveALargeMessage) {
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(writer_.Write(ToBytes("small"), {}));
  }
  const std::string large(100000, 'l');
  ASSERT_TRUE(writer_.Write(ToBytes("large"), ToBytes(large)));
  EXPECT_EQ(Read().first, "small");
  EXPECT_EQ(Read().first, "large");
}

TEST_F(MailboxTest, DoorbellsAreTakenOnce) {
  EXPECT_FALSE(writer_.TakeReaderSleeps());
  reader_.SetReaderSleeps(true);
  EXPECT_TRUE(writer_.TakeReaderSleeps());
  EXPECT_FALSE(writer_.TakeReaderSleeps());
  writer_.SetWriterSleeps(true);
  EXPECT_TRUE(reader_.TakeWriterSleeps());
  EXPECT_FALSE(reader_.TakeWriterSleeps());
}

TEST_F(MailboxTest, AnotherReadersMemoryIsRefused) {
  MailboxWriter other;
  EXPECT_FALSE(other.Attach(mapped_->bytes(), kToken + 1));
  EXPECT_FALSE(other.Attach(mapped_->bytes().subspan(0, 4096), kToken));
  std::vector<std::byte> zeros(MailboxBytes());
  EXPECT_FALSE(other.Attach(zeros, 0));
}

// The writer is another process: what it claims is checked.
TEST_F(MailboxTest, AMessageLargerThanItsSlotIsDropped) {
  ASSERT_TRUE(writer_.Write(ToBytes("header"), ToBytes("payload")));
  // Of the first message of its class: the sizes follow its number.
  const std::string mark = "header";
  std::byte* bytes = mapped_->bytes().data();
  size_t at = 0;
  while (memcmp(bytes + at, mark.data(), mark.size()) != 0) ++at;
  const uint32_t huge = 1 << 30;
  memcpy(bytes + at - sizeof(huge), &huge, sizeof(huge));
  EXPECT_EQ(Read().first, "");
  ASSERT_TRUE(writer_.Write(ToBytes("next"), {}));
  EXPECT_EQ(Read().first, "next");
}

TEST_F(MailboxTest, TwoThreads) {
  constexpr uint64_t kCount = 20000;
  const std::string payload = Pattern(9000, 1);
  std::thread writing([&] {
    for (uint64_t i = 0; i < kCount; ++i) {
      const ByteView part = ToBytes(payload).subspan(0, i % 9000);
      while (!writer_.Write(AsBytes(i), part)) std::this_thread::yield();
    }
  });
  uint64_t sum = 0;
  bool whole = true;
  for (uint64_t read = 0; read < kCount;) {
    ByteView header, body;
    if (!reader_.Read(&header, &body)) {
      std::this_thread::yield();
      continue;
    }
    uint64_t id;
    memcpy(&id, header.data(), sizeof(id));
    whole = whole && body.size() == id % 9000 &&
            memcmp(body.data(), payload.data(), body.size()) == 0;
    reader_.Release();
    sum += id;
    ++read;
  }
  writing.join();
  EXPECT_TRUE(whole);
  EXPECT_EQ(sum, kCount * (kCount - 1) / 2);
}

TEST(SharedMemoryTest, KeysThatAreNone) {
  EXPECT_EQ(SharedMemory::Open("x").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(SharedMemory::Open("memfd:1:2:3").ok());
  EXPECT_FALSE(SharedMemory::Open("memfd:0:0").ok());
  std::string key;
  {
    auto memory = SharedMemory::Create(4096);
    ASSERT_TRUE(memory.ok()) << memory.status();
    key = (*memory)->key();
  }
  EXPECT_EQ(SharedMemory::Open(key).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace forecache
