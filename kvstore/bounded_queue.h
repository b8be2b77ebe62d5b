// A queue with a limit whose elements are reused, so that it never allocates.
#ifndef FORECACHE_KVSTORE_BOUNDED_QUEUE_H_
#define FORECACHE_KVSTORE_BOUNDED_QUEUE_H_

#include <cstddef>
#include <vector>

#include "common/check.h"

namespace forecache {

// First in, first out.  A popped element keeps what it owns (a vector's
// memory) for the one that takes its place.
//
// Threads: one thread.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t limit) : items_(limit) {}

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == items_.size(); }
  size_t size() const { return size_; }

  // The place of a new last element, to be filled.  REQUIRES: !full().
  T& Push() {
    FC_CHECK(!full());
    return items_[(first_ + size_++) % items_.size()];
  }
  // REQUIRES: !empty().
  T& Front() {
    FC_CHECK(!empty());
    return items_[first_];
  }
  void Pop() {
    FC_CHECK(!empty());
    first_ = (first_ + 1) % items_.size();
    --size_;
  }
  // The element `i` places behind the front.  REQUIRES: i < size().
  T& At(size_t i) {
    FC_CHECK(i < size_);
    return items_[(first_ + i) % items_.size()];
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_BOUNDED_QUEUE_H_
