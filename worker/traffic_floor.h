// What a block must be worth to move, so that only so many do.
#ifndef FORECACHE_WORKER_TRAFFIC_FLOOR_H_
#define FORECACHE_WORKER_TRAFFIC_FLOOR_H_

namespace forecache {

// A TrafficFloor steers one floor of probability for a whole session, so that
// the blocks that move come to a target on average.  Every (layer, KV head)
// has the same floor: then what moves is what is worth most, wherever it is,
// and a token that must retrieve may move many, for which later ones pay.
//
// Each token's surplus over the target raises the logarithm of the floor, what
// it leaves lowers it.  So while the floor is not at one of its bounds the sum
// of surpluses is the change of that logarithm: over n tokens the average is
// off by at most kTrafficFollowTokens / n targets for each factor e that
// the floor has gone.  It follows from what was counted alone: equal counts,
// equal floors.
//
// Threads: one thread at a time.
class TrafficFloor {
 public:
  // `target`: blocks a token, of each of `heads` (layer, KV head)s; 0: the
  // floor stays what `fixed` is.
  // REQUIRES: 0 <= target <= kTrafficTargetMax, heads > 0.
  TrafficFloor(double target, int heads, float fixed);

  // So many blocks were asked for.
  void Count(int blocks) { moved_ += blocks; }
  // The token whose blocks were counted is over.
  void EndToken();

  bool steers() const { return target_ > 0; }
  // The least probability that is worth a correction.
  float floor() const { return floor_; }
  // By how much a block's score must pass that of one that is here, to take
  // its place: less than the floor, since it is likely to stay for some tokens.
  float margin() const;

 private:
  const double target_;
  const int heads_;
  float floor_;
  int moved_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_TRAFFIC_FLOOR_H_
