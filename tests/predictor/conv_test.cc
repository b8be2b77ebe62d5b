// The moving window is the network, at every step; its file is refused when
// it is not what it should be.
#include "predictor/conv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>

#include "common/crc32c.h"
#include "predictor/conv_builtin.h"
#include "predictor/conv_plain.h"
#include "predictor/history.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

using ::testing::HasSubstr;

std::vector<float> Weights(size_t count, float size, Rng* rng) {
  std::vector<float> weights(count);
  for (float& w : weights) w = size * rng->Normal();
  return weights;
}

ConvNet RandomNet(int window, int one, int two, ConvScale scale, Rng* rng) {
  return {.window = window,
          .channels1 = one,
          .channels2 = two,
          .scale = scale,
          .conv1 = Weights(9 * one, 0.3f, rng),
          .bias1 = Weights(one, 0.1f, rng),
          .conv2 = Weights(9 * one * two, 0.1f, rng),
          .bias2 = Weights(two, 0.1f, rng),
          .conv3 = Weights(two, 0.3f, rng),
          .bias3 = 0.02f};
}

// The last rows, as long as the context was at each; what is past them is 0.
//
// Threads: one thread at a time.
class Film {
 public:
  Film(int rows, int blocks, Rng* rng) : rng_(rng), blocks_(blocks) {
    rows_.assign(rows, Row());
  }
  void Step() {
    rows_.pop_front();
    rows_.push_back(Row());
  }
  void Grow(int blocks) {
    blocks_ = blocks;
    for (auto& row : rows_) row.resize(blocks, 0);
  }
  int blocks() const { return blocks_; }
  // The newest `count` rows, oldest first.
  std::vector<const uint16_t*> Newest(int count) const {
    std::vector<const uint16_t*> rows;
    for (size_t i = rows_.size() - count; i < rows_.size(); ++i) {
      rows.push_back(rows_[i].data());
    }
    return rows;
  }

 private:
  std::vector<uint16_t> Row() {
    std::vector<uint16_t> row(blocks_);
    for (uint16_t& code : row) {
      const float depth = static_cast<float>(rng_->Uniform());
      code = EncodeScore(std::exp(-10.0f * depth));
      if (rng_->Below(8) == 0) code = 0;
    }
    return row;
  }

  Rng* const rng_;
  int blocks_;
  std::deque<std::vector<uint16_t>> rows_;
};

// Relative to the scores of the row: one alone may be next to nothing, the
// difference of terms that are not.
template <typename Float>
void ExpectNear(const std::vector<float>& got, const std::vector<Float>& want,
                double tolerance, const char* what, int step) {
  double largest = 0;
  for (const Float score : want) {
    largest = std::max(largest, std::abs(double{score}));
  }
  for (size_t b = 0; b < want.size(); ++b) {
    ASSERT_NEAR(got[b], want[b], tolerance * largest)
        << what << ", step " << step << ", block " << b;
  }
}

void HoldToPlain(const ConvNet& net, int steps, int check_every, Rng* rng) {
  ConvWindow window(net);
  Film film(net.window + 1, 5, rng);
  std::vector<double> sums(400);
  std::vector<float> scores(400);
  window.Evaluate(film.Newest(net.window), 5, sums.data(), scores.data());
  int grown = 0;
  for (int step = 1; step <= steps; ++step) {
    const int old_blocks = film.blocks();
    if (step % (check_every / 2 + 3) == 0 && film.blocks() < 200) {
      film.Grow(film.blocks() + 1 + step % 3);
      ++grown;
    }
    film.Step();
    window.Advance(film.Newest(net.window + 1), old_blocks, film.blocks(),
                   sums.data(), scores.data());
    if (step % check_every != 0 && step > 40) continue;
    const auto rows = film.Newest(net.window);
    scores.resize(film.blocks());
    ExpectNear(scores, PlainConvScores<double>(net, rows, film.blocks()), 1e-5,
               "plain f64", step);
    ExpectNear(scores, PlainConvScores<float>(net, rows, film.blocks()), 1e-5,
               "plain f32", step);
    scores.resize(400);
  }
  EXPECT_GT(grown, 3);
}

TEST(ConvWindowTest, IsThePlainNetworkForTenThousandSteps) {
  Rng rng(1);
  HoldToPlain(RandomNet(8, 4, 8, ConvScale::kLogarithm, &rng), 10'000, 100,
              &rng);
}

TEST(ConvWindowTest, IsThePlainNetworkAtThePapersShape) {
  Rng rng(2);
  HoldToPlain(RandomNet(64, 16, 32, ConvScale::kLinear, &rng), 300, 50, &rng);
}

TEST(ConvWindowTest, TenThousandStepsLeaveTheSumsAsTheyWouldStart) {
  Rng rng(3);
  const ConvNet net = RandomNet(64, 8, 16, ConvScale::kLogarithm, &rng);
  ConvWindow window(net);
  Film film(net.window + 1, 20, &rng);
  std::vector<double> sums(20), fresh(20);
  std::vector<float> scores(20), fresh_scores(20);
  window.Evaluate(film.Newest(net.window), 20, sums.data(), scores.data());
  for (int step = 0; step < 10'000; ++step) {
    film.Step();
    window.Advance(film.Newest(net.window + 1), 20, 20, sums.data(),
                   scores.data());
  }
  window.Evaluate(film.Newest(net.window), 20, fresh.data(),
                  fresh_scores.data());
  for (int b = 0; b < 20; ++b) {
    EXPECT_NEAR(sums[b], fresh[b], 1e-11 * net.window) << b;
    EXPECT_FLOAT_EQ(scores[b], fresh_scores[b]) << b;
  }
}

TEST(ConvWindowTest, StartsAsIfTheFirstRowHadAlwaysBeen) {
  Rng rng(4);
  const ConvNet net = RandomNet(16, 4, 8, ConvScale::kLinear, &rng);
  ConvWindow window(net);
  for (const int blocks : {1, 2, 15, 63, 64, 65, 130}) {
    Film film(1, blocks, &rng);
    const uint16_t* row = film.Newest(1)[0];
    const std::vector<const uint16_t*> rows(net.window, row);
    std::vector<double> sums(blocks);
    std::vector<float> scores(blocks);
    window.Start(row, blocks, sums.data(), scores.data());
    ExpectNear(scores, PlainConvScores<double>(net, rows, blocks), 1e-5,
               "start", blocks);
  }
}

TEST(ConvWindowTest, NeedsAnEighthOfTheWork) {
  Rng rng(5);
  const ConvWindow window(RandomNet(64, 16, 32, ConvScale::kLinear, &rng));
  EXPECT_GE(window.EvaluateFlops() / window.AdvanceFlops(), 8);
}

// --- The policy -------------------------------------------------------------

TEST(ConvTest, ScoresAsTheNetworkSays) {
  Rng rng(6);
  const ConvNet net = RandomNet(8, 4, 4, ConvScale::kLinear, &rng);
  ConvPredictor conv({.layers = 2, .kv_heads = 2, .group = 1}, net);
  std::deque<std::vector<uint16_t>> film;
  int blocks = 30;
  for (int step = 0; step < 60; ++step, blocks += step % 5 == 0) {
    OwnedRow row = RandomRow(blocks, 1, &rng);
    for (int b = 0; b < blocks && step % 3 == 1; b += 2) row.seen.push_back(b);
    std::vector<uint16_t> codes(blocks);
    for (int b = 0; b < blocks; ++b) {
      const bool seen = row.seen.empty() || b % 2 == 0;
      codes[b] = seen ? EncodeScore(row.probabilities[b]) : 0;
    }
    if (film.empty()) film.assign(net.window, codes);
    film.pop_front();
    film.push_back(codes);
    for (auto& old : film) old.resize(blocks, 0);
    conv.Observe(1, 0, row.View());
    std::vector<const uint16_t*> rows;
    for (const auto& old : film) rows.push_back(old.data());
    const auto scores = PlainConvScores<double>(net, rows, blocks);
    std::vector<BlockChoice> choices;
    conv.Predict(1, 0, {0, blocks}, blocks, &choices);
    for (const BlockChoice& choice : choices) {
      ASSERT_NEAR(choice.confidence,
                  std::clamp(scores[choice.block], 0.0, 1.0), 1e-3);
    }
  }
}

// --- The file ---------------------------------------------------------------

std::vector<std::byte> GoodFile() {
  Rng rng(7);
  return SerializeConvNet(RandomNet(16, 8, 4, ConvScale::kLogarithm, &rng));
}

std::string Refusal(const std::vector<std::byte>& file) {
  const auto net = ParseConvNet(file);
  return net.ok() ? "accepted" : net.status().ToString();
}

// `file` with one field of its header changed, and a checksum that is right.
std::vector<std::byte> WithField(size_t index, uint32_t value) {
  std::vector<std::byte> file = GoodFile();
  std::memcpy(file.data() + 4 * index, &value, 4);
  const uint32_t crc = Crc32c(ByteView(file).first(file.size() - 4));
  std::memcpy(file.data() + file.size() - 4, &crc, 4);
  return file;
}

TEST(ConvNetFileTest, ComesBackAsItWas) {
  const auto file = GoodFile();
  const auto net = ParseConvNet(file);
  ASSERT_TRUE(net.ok()) << net.status().ToString();
  EXPECT_EQ(net->window, 16);
  EXPECT_EQ(SerializeConvNet(*net), file);
}

TEST(ConvNetFileTest, RefusesEveryFlippedBit) {
  auto file = GoodFile();
  for (size_t byte = 0; byte < file.size(); ++byte) {
    file[byte] ^= std::byte{0x10};
    ASSERT_FALSE(ParseConvNet(file).ok()) << byte;
    file[byte] ^= std::byte{0x10};
  }
  file[100] ^= std::byte{1};
  EXPECT_THAT(Refusal(file), HasSubstr("corrupt: wrong checksum"));
}

TEST(ConvNetFileTest, RefusesEveryLength) {
  const auto file = GoodFile();
  for (size_t size = 0; size < file.size(); size += 1 + size / 9) {
    EXPECT_THAT(Refusal({file.begin(), file.begin() + size}),
                HasSubstr("truncated"));
  }
  auto longer = file;
  longer.push_back(std::byte{0});
  EXPECT_THAT(Refusal(longer), HasSubstr("too long"));
}

TEST(ConvNetFileTest, NamesWhatItCannotRead) {
  EXPECT_THAT(Refusal(WithField(0, 7)), HasSubstr("not a file of conv"));
  EXPECT_THAT(Refusal(WithField(1, 9)),
              HasSubstr("version 9, but this program reads 1"));
  EXPECT_THAT(Refusal(WithField(2, 1000)), HasSubstr("1000 rows"));
  EXPECT_THAT(Refusal(WithField(3, 6)), HasSubstr("6 and 4 channels"));
  EXPECT_THAT(Refusal(WithField(5, 2)), HasSubstr("scale 2"));
  EXPECT_THAT(Refusal(WithField(8, 0x7FC00000)), HasSubstr("not all finite"));
  EXPECT_TRUE(absl::IsUnimplemented(ParseConvNet(WithField(1, 9)).status()));
  EXPECT_TRUE(absl::IsNotFound(LoadConvNet("/nowhere.fccv").status()));
}

TEST(ConvNetFileTest, TheBinaryCarriesAGoodOne) {
  EXPECT_EQ(Refusal({BuiltinConvFile().begin(), BuiltinConvFile().end()}),
            "accepted");
}

}  // namespace
}  // namespace forecache
