// Queues with a limit whose elements are reused, so that they never allocate.
#ifndef FORECACHE_KVSTORE_BOUNDED_QUEUE_H_
#define FORECACHE_KVSTORE_BOUNDED_QUEUE_H_

#include <algorithm>
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

// Lines of several peers that share `limit` places and take turns.  What one
// peer asked for stays in order; what it asked for does not hold others up.
//
// A line may hold tokens (buffers under way): it lasts until it is empty and
// its tokens are back, even when its peer is forgotten.
//
// Threads: one thread.
template <typename Peer, typename T>
class PeerLines {
 public:
  PeerLines(size_t limit, size_t tokens)
      : places_(limit), lines_(limit + tokens) {
    turns_.reserve(lines_.size());
    for (size_t i = 0; i < places_.size(); ++i) places_[i].next = int(i) + 1;
  }

  bool full() const { return free_place_ == int(places_.size()); }
  size_t size() const { return size_; }

  // A place at the end of the peer's line, to be filled.  REQUIRES: !full().
  T& Push(Peer* peer) {
    FC_CHECK(!full());
    const int place = free_place_;
    free_place_ = places_[place].next;
    places_[place].next = kNone;
    Line& line = lines_[LineOf(peer)];
    if (line.first == kNone) {
      line.first = place;
    } else {
      places_[line.last].next = place;
    }
    line.last = place;
    ++size_;
    return places_[place].item;
  }

  // Lines, in the order of their turns.
  size_t lines() const { return turns_.size(); }
  int LineAt(size_t i) const { return turns_[(turn_ + i) % turns_.size()]; }
  // Null when nothing waits there, only tokens are out.
  T* Front(int line) {
    const int place = lines_[line].first;
    return place == kNone ? nullptr : &places_[place].item;
  }
  // REQUIRES: Front(line) != nullptr.
  void Pop(int line) {
    const int place = lines_[line].first;
    FC_CHECK(place != kNone);
    lines_[line].first = places_[place].next;
    places_[place].next = free_place_;
    free_place_ = place;
    --size_;
    EndIfDone(line);
  }
  // `line` had its turn: it is the last now.
  void EndTurn(int line) {
    turn_ = (PositionOf(line) + 1) % turns_.size();
  }

  int tokens(int line) const { return lines_[line].tokens; }
  void TakeToken(int line) { ++lines_[line].tokens; }
  void ReturnToken(int line) {
    FC_CHECK(lines_[line].tokens > 0);
    --lines_[line].tokens;
    EndIfDone(line);
  }

  // Calls `visit(T&)` on all that waits for the peer.
  template <typename Visit>
  void ForEach(const Peer* peer, Visit visit) {
    for (int line : turns_) {
      if (lines_[line].peer != peer) continue;
      for (int i = lines_[line].first; i != kNone; i = places_[i].next) {
        visit(places_[i].item);
      }
    }
  }
  // A new peer may come at the same address: it gets a line of its own.
  void Forget(const Peer* peer) {
    for (int line : turns_) {
      if (lines_[line].peer == peer) lines_[line].peer = nullptr;
    }
  }

 private:
  static constexpr int kNone = -1;
  struct Place {
    T item;
    int next = kNone;  // in its line, or of the free places
  };
  struct Line {
    const Peer* peer = nullptr;
    int first = kNone;
    int last = kNone;
    int tokens = 0;
    bool used = false;
  };

  int LineOf(const Peer* peer) {
    for (int line : turns_) {
      if (lines_[line].peer == peer) return line;
    }
    auto unused = std::find_if(lines_.begin(), lines_.end(),
                               [](const Line& line) { return !line.used; });
    FC_CHECK(unused != lines_.end());
    unused->peer = peer;
    unused->used = true;
    const int line = static_cast<int>(unused - lines_.begin());
    // Behind all that wait: right before whose turn it is.
    turns_.insert(turns_.begin() + turn_, line);
    turn_ = (turn_ + 1) % turns_.size();
    return line;
  }
  size_t PositionOf(int line) const {
    return std::find(turns_.begin(), turns_.end(), line) - turns_.begin();
  }
  void EndIfDone(int line) {
    if (lines_[line].first != kNone || lines_[line].tokens > 0) return;
    const size_t position = PositionOf(line);
    turns_.erase(turns_.begin() + position);
    if (position < turn_) --turn_;
    if (turn_ >= turns_.size()) turn_ = 0;
    lines_[line] = {};
  }

  std::vector<Place> places_;
  std::vector<Line> lines_;
  std::vector<int> turns_;  // of the lines in use
  size_t turn_ = 0;         // whose turn it is, in turns_
  int free_place_ = 0;      // places_.size(): none
  size_t size_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_BOUNDED_QUEUE_H_
