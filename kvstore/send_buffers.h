// Memory for messages on their way out.
#ifndef FORECACHE_KVSTORE_SEND_BUFFERS_H_
#define FORECACHE_KVSTORE_SEND_BUFFERS_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "common/bytes.h"

namespace forecache {

// A fixed number of buffers of one size, aligned to 64.  When all are taken,
// the caller waits for one to come back: that is the store's back-pressure.
//
// Threads: one thread.
class SendBuffers {
 public:
  SendBuffers(int count, size_t buffer_bytes)
      : buffer_bytes_((buffer_bytes + 63) / 64 * 64),
        memory_(new (std::align_val_t{64}) std::byte[count * buffer_bytes_]) {
    free_.reserve(count);
    for (int i = count - 1; i >= 0; --i) free_.push_back(i);
  }

  bool Available() const { return !free_.empty(); }
  // A buffer's number.  REQUIRES: Available().
  int Take() {
    int number = free_.back();
    free_.pop_back();
    return number;
  }
  void Return(int number) { free_.push_back(number); }
  MutableBytes At(int number) const {
    return {memory_.get() + number * buffer_bytes_, buffer_bytes_};
  }

 private:
  struct Delete {
    void operator()(std::byte* memory) const {
      operator delete[](memory, std::align_val_t{64});
    }
  };
  const size_t buffer_bytes_;
  const std::unique_ptr<std::byte[], Delete> memory_;
  std::vector<int> free_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SEND_BUFFERS_H_
