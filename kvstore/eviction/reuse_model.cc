#include "kvstore/eviction/reuse_model.h"

#include <algorithm>
#include <cmath>

namespace forecache {
namespace {

constexpr Nanos kFirstAge = 5 * kSecond;
constexpr double kAgeStep = 1.3;
constexpr double kHalfLifeUses = 100'000;
// Counts that a class borrows from all classes, and those from nothing.
constexpr double kBorrowed = 20;
constexpr double kBorrowedByAll = 50;
constexpr double kChanceMax = 0.98;
constexpr double kAliveMin = 1e-4;  // too few are left to matter
constexpr double kWeightMax = 1e100;

using Starts = std::array<Nanos, ReuseModel::kAges + 1>;

const Starts& AgeStarts() {
  static const Starts starts = [] {
    Starts all{};
    double start = kFirstAge;
    for (size_t i = 1; i < all.size(); ++i, start *= kAgeStep) {
      all[i] = static_cast<Nanos>(start);
    }
    return all;
  }();
  return starts;
}

}  // namespace

int ReuseModel::AgeOf(Nanos since_use) {
  const Starts& starts = AgeStarts();
  auto after =
      std::upper_bound(starts.begin() + 1, starts.end() - 1, since_use);
  return static_cast<int>(after - starts.begin()) - 1;
}

Nanos ReuseModel::StartOf(int age) { return AgeStarts()[age]; }

ReuseModel::ReuseModel(int classes) : counts_(classes), values_(classes) {}

void ReuseModel::CountAlive(int of_class, int age) {
  counts_[of_class].alive[age] += weight_;
  all_.alive[age] += weight_;
}

void ReuseModel::CountReuse(int of_class, int age) {
  counts_[of_class].reused[age] += weight_;
  all_.reused[age] += weight_;
}

void ReuseModel::Fade() {
  static const double growth = std::exp2(1 / kHalfLifeUses);
  weight_ *= growth;
  if (weight_ > kWeightMax) Rescale();
}

void ReuseModel::Rescale() {
  auto scale = [this](Counts* counts) {
    for (double& alive : counts->alive) alive /= weight_;
    for (double& reused : counts->reused) reused /= weight_;
  };
  scale(&all_);
  for (Counts& counts : counts_) scale(&counts);
  weight_ = 1;
}

void ReuseModel::Update() {
  const double borrowed = kBorrowed * weight_;
  // The last age has no end, so nothing can be said of its rate.
  constexpr int kKnown = kAges - 1;
  Row of_all{};
  for (int age = 0; age < kKnown; ++age) {
    of_all[age] =
        all_.reused[age] / (all_.alive[age] + kBorrowedByAll * weight_);
  }
  for (size_t i = 0; i < counts_.size(); ++i) {
    Row chance{};
    for (int age = 0; age < kKnown; ++age) {
      chance[age] = std::min(
          kChanceMax, (counts_[i].reused[age] + borrowed * of_all[age]) /
                          (counts_[i].alive[age] + borrowed));
    }
    values_[i] = ValuesOf(chance);
  }
}

std::array<float, ReuseModel::kAges> ReuseModel::ValuesOf(
    const Row& chance) const {
  const Starts& starts = AgeStarts();
  std::array<float, kAges> values{};
  for (int from = 0; from < kAges; ++from) {
    double alive = 1, uses = 0, seconds = 0, best = 0;
    for (int age = from; age < kAges && alive > kAliveMin; ++age) {
      const double length =
          static_cast<double>(starts[age + 1] - starts[age]) / kSecond;
      uses += alive * chance[age];
      // Those that are used at this age are kept for half of it.
      seconds += alive * length * (1 - chance[age] / 2);
      best = std::max(best, uses / seconds);
      alive *= 1 - chance[age];
    }
    values[from] = static_cast<float>(best);
  }
  return values;
}

}  // namespace forecache
