// What waits to be sent, shared fairly between tenants and between peers.
#ifndef FORECACHE_KVSTORE_PEER_LINES_H_
#define FORECACHE_KVSTORE_PEER_LINES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {

// Lines of several peers that share `limit` places.  What one peer asked for
// stays in order; what it asked for does not hold others up.
//
// Tenants take turns by deficit round robin: a turn is worth a tenant's share
// in pushes, of bytes and not of requests, so that neither large blocks nor
// many connections get it more.  Within a tenant its peers take turns, a push
// each.  A tenant that cannot send leaves its turn to others for now.
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

  // A place at the end of the peer's line for this tenant, to be filled.
  // REQUIRES: !full() and share > 0.
  T& Push(Peer* peer, uint32_t tenant, int share) {
    FC_CHECK(!full());
    const int place = free_place_;
    free_place_ = places_[place].next;
    places_[place].next = kNone;
    Line& line = lines_[LineOf(peer, tenant)];
    GroupOf(tenant).share = share;
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
  int LineAt(size_t i) const { return turns_[i]; }
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
  // `line` sent `bytes`: it is the last of its tenant now, and its tenant is
  // the last of all once it has sent its share.
  void EndTurn(int line, size_t bytes) {
    const uint32_t tenant = lines_[line].tenant;
    const auto in_group = [&](int other) {
      return lines_[other].tenant == tenant;
    };
    // A tenant's lines are neighbours in turns_.
    const auto first = std::find_if(turns_.begin(), turns_.end(), in_group);
    const auto end = std::find_if_not(first, turns_.end(), in_group);
    const auto at = std::find(first, end, line);
    std::rotate(at, at + 1, end);
    Group& group = GroupOf(tenant);
    group.credit -= static_cast<int64_t>(bytes);
    if (group.credit > 0) return;
    // What it owes it pays with the turns to come, but no more than a few.
    const int64_t quantum = int64_t{group.share} * kPushBytesMax;
    group.credit = std::max(group.credit + quantum, -quantum);
    std::rotate(first, end, turns_.end());
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
  // A new peer may come at the same address: it gets lines of its own.
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
    uint32_t tenant = 0;
    int first = kNone;
    int last = kNone;
    int tokens = 0;
    bool used = false;
  };
  // A tenant that has lines.
  struct Group {
    uint32_t tenant = 0;
    int share = 1;
    int64_t credit = 0;  // bytes that its turn is still worth
    int lines = 0;
  };

  Group& GroupOf(uint32_t tenant) {
    for (Group& group : groups_) {
      if (group.tenant == tenant) return group;
    }
    groups_.push_back({.tenant = tenant});
    return groups_.back();
  }
  int LineOf(const Peer* peer, uint32_t tenant) {
    for (int line : turns_) {
      if (lines_[line].peer == peer && lines_[line].tenant == tenant) {
        return line;
      }
    }
    auto unused = std::find_if(lines_.begin(), lines_.end(),
                               [](const Line& line) { return !line.used; });
    FC_CHECK(unused != lines_.end());
    unused->peer = peer;
    unused->tenant = tenant;
    unused->used = true;
    ++GroupOf(tenant).lines;
    const int line = static_cast<int>(unused - lines_.begin());
    // Behind its tenant's others; a new tenant behind all.
    auto at = turns_.end();
    while (at != turns_.begin() && lines_[*(at - 1)].tenant != tenant) --at;
    turns_.insert(at == turns_.begin() ? turns_.end() : at, line);
    return line;
  }
  void EndIfDone(int line) {
    if (lines_[line].first != kNone || lines_[line].tokens > 0) return;
    turns_.erase(std::find(turns_.begin(), turns_.end(), line));
    const uint32_t tenant = lines_[line].tenant;
    if (--GroupOf(tenant).lines == 0) {
      std::erase_if(groups_, [&](const Group& group) {
        return group.tenant == tenant;
      });
    }
    lines_[line] = {};
  }

  std::vector<Place> places_;
  std::vector<Line> lines_;
  // The lines in use: whose turn it is first, a tenant's beside each other.
  std::vector<int> turns_;
  std::vector<Group> groups_;
  int free_place_ = 0;  // places_.size(): none
  size_t size_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PEER_LINES_H_
