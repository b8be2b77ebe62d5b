// How soon segments are used again, learned from those that were.
#ifndef FORECACHE_KVSTORE_EVICTION_REUSE_MODEL_H_
#define FORECACHE_KVSTORE_EVICTION_REUSE_MODEL_H_

#include <array>
#include <vector>

#include "common/clock.h"

namespace forecache {

// For each class of segments and each age since the last use, the chance that
// the next use comes at that age: uses seen / segments that lived to see it.
// Both counts fade, so that the model follows its load.  A class that was
// seldom seen borrows from all classes.
//
// Threads: one at a time.
class ReuseModel {
 public:
  // Ages: [0, 5 s), then steps of 1.3 up to half a day.
  static constexpr int kAges = 36;
  static int AgeOf(Nanos since_use);
  // The first moment of an age.
  static Nanos StartOf(int age);

  explicit ReuseModel(int classes);

  // A segment of `of_class` was not used again before `age` began.
  void CountAlive(int of_class, int age);
  // ... and was used at that age.
  void CountReuse(int of_class, int age);
  // One use of any segment passes: older counts weigh a little less.
  void Fade();

  // Computes the values anew from the counts.
  void Update();

  // What a segment is worth: the uses it can still be hoped to have for each
  // second that it is kept, when it is let go at the best time (Gittins'
  // index).  As of the last Update.
  float Value(int of_class, int age) const { return values_[of_class][age]; }

 private:
  using Row = std::array<double, kAges>;
  struct Counts {
    Row alive{};
    Row reused{};
  };

  std::array<float, kAges> ValuesOf(const Row& chance) const;
  void Rescale();

  double weight_ = 1;  // of one count now; it grows as older ones fade
  Counts all_;
  std::vector<Counts> counts_;  // by class
  std::vector<std::array<float, kAges>> values_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_REUSE_MODEL_H_
