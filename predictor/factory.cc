#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/limits.h"
#include "common/status.h"
#include "predictor/adaptive.h"
#include "predictor/conv.h"
#include "predictor/conv_builtin.h"
#include "predictor/conv_net.h"
#include "predictor/ema.h"
#include "predictor/full.h"
#include "predictor/h2o.h"
#include "predictor/last.h"
#include "predictor/linear4.h"
#include "predictor/predictor.h"
#include "predictor/quest.h"
#include "predictor/recycled.h"
#include "predictor/stream.h"
#include "predictor/tactic.h"

namespace forecache {
namespace {

constexpr int kRecycledStepsMax = 1024;

absl::Status CheckExtent(const char* field, int value, int limit) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("PredictorOptions::", field, " is ", value,
                   ", but may be 1 to ", limit));
}

absl::Status CheckShare(const char* field, float value) {
  if (value > 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("PredictorOptions::", field,
                                                 " is ", value,
                                                 ", but may be above 0 and "
                                                 "up to 1"));
}

absl::Status CheckProfile(const PredictorOptions& options) {
  const std::vector<float>& profile = options.adaptive_profile;
  const size_t heads =
      size_t{1} * options.shape.layers * options.shape.kv_heads;
  const bool is_good = std::all_of(profile.begin(), profile.end(),
                                   [](float x) { return x >= 0 && x < 1e6f; });
  if (profile.empty() || (profile.size() == heads && is_good)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "PredictorOptions::adaptive_profile has ", profile.size(),
      " numbers, but may have none, or ", heads, " from 0 to 1e6"));
}

absl::Status CheckOptions(const PredictorOptions& options) {
  const Predictor::Shape& shape = options.shape;
  FC_RETURN_IF_ERROR(CheckExtent("shape.layers", shape.layers, kLayersMax));
  FC_RETURN_IF_ERROR(
      CheckExtent("shape.kv_heads", shape.kv_heads, kKvHeadsMax));
  FC_RETURN_IF_ERROR(CheckExtent("shape.group", shape.group, kGroupMax));
  if (options.name == "quest") {
    FC_RETURN_IF_ERROR(
        CheckExtent("shape.head_dim", shape.head_dim, kHeadDimMax));
  }
  FC_RETURN_IF_ERROR(
      CheckExtent("recycled_steps", options.recycled_steps, kRecycledStepsMax));
  FC_RETURN_IF_ERROR(CheckShare("ema_alpha", options.ema_alpha));
  FC_RETURN_IF_ERROR(CheckShare("tactic_share", options.tactic_share));
  FC_RETURN_IF_ERROR(CheckShare("adaptive_share", options.adaptive_share));
  return CheckProfile(options);
}

absl::StatusOr<std::unique_ptr<Predictor>> MakePolicy(
    const PredictorOptions& options) {
  const Predictor::Shape& shape = options.shape;
  const std::string& name = options.name;
  if (name == "full") return std::make_unique<FullPredictor>();
  if (name == "stream") return std::make_unique<StreamPredictor>();
  if (name == "last") return std::make_unique<LastPredictor>(shape);
  if (name == "ema") {
    return std::make_unique<EmaPredictor>(shape, options.ema_alpha);
  }
  if (name == "linear4") return std::make_unique<Linear4Predictor>(shape);
  if (name == "conv") {
    FC_ASSIGN_OR_RETURN(const ConvNet net, LoadConvNet(options.conv_weights));
    return std::make_unique<ConvPredictor>(shape, net);
  }
  if (name == "paper") {
    FC_ASSIGN_OR_RETURN(const ConvNet net, ParseConvNet(BuiltinPaperFile()));
    return std::make_unique<ConvPredictor>(shape, net, name);
  }
  if (name == "h2o") return std::make_unique<H2oPredictor>(shape);
  if (name == "quest") return std::make_unique<QuestPredictor>(shape);
  if (name == "recycled") {
    return std::make_unique<RecycledPredictor>(shape, options.recycled_steps);
  }
  if (name == "tactic") {
    return std::make_unique<TacticPredictor>(shape, options.tactic_share);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("PredictorOptions::name is \"", name,
                   "\", but may be ", absl::StrJoin(PredictorNames(), ", ")));
}

}  // namespace

std::vector<std::string> PredictorNames() {
  return {"full",  "stream", "last",     "ema",   "linear4", "conv",
          "paper", "h2o",    "recycled", "quest", "tactic"};
}

absl::StatusOr<std::unique_ptr<Predictor>> MakePredictor(
    const PredictorOptions& options) {
  FC_RETURN_IF_ERROR(CheckOptions(options));
  auto policy = MakePolicy(options);
  if (!policy.ok() || !options.adaptive) return policy;
  return std::make_unique<AdaptivePredictor>(
      *std::move(policy), options.shape,
      AdaptiveOptions{.share = options.adaptive_share,
                      .profile = options.adaptive_profile});
}

}  // namespace forecache
