#include "absl/strings/str_join.h"
#include "common/limits.h"
#include "common/status.h"
#include "predictor/ema.h"
#include "predictor/full.h"
#include "predictor/last.h"
#include "predictor/predictor.h"
#include "predictor/stream.h"

namespace forecache {
namespace {

absl::Status CheckExtent(const char* field, int value, int limit) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("PredictorOptions::", field, " is ", value,
                   ", but may be 1 to ", limit));
}

absl::Status CheckOptions(const PredictorOptions& options) {
  const Predictor::Shape& shape = options.shape;
  FC_RETURN_IF_ERROR(CheckExtent("shape.layers", shape.layers, kLayersMax));
  FC_RETURN_IF_ERROR(
      CheckExtent("shape.kv_heads", shape.kv_heads, kKvHeadsMax));
  FC_RETURN_IF_ERROR(CheckExtent("shape.group", shape.group, kGroupMax));
  if (!(options.ema_alpha > 0 && options.ema_alpha <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("PredictorOptions::ema_alpha is ", options.ema_alpha,
                     ", but may be above 0 and up to 1"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> PredictorNames() {
  return {"full", "stream", "last", "ema"};
}

absl::StatusOr<std::unique_ptr<Predictor>> MakePredictor(
    const PredictorOptions& options) {
  FC_RETURN_IF_ERROR(CheckOptions(options));
  if (options.name == "full") return std::make_unique<FullPredictor>();
  if (options.name == "stream") return std::make_unique<StreamPredictor>();
  if (options.name == "last") {
    return std::make_unique<LastPredictor>(options.shape);
  }
  if (options.name == "ema") {
    return std::make_unique<EmaPredictor>(options.shape, options.ema_alpha);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("PredictorOptions::name is \"", options.name,
                   "\", but may be ", absl::StrJoin(PredictorNames(), ", ")));
}

}  // namespace forecache
