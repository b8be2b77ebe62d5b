#include "eval/policy.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache::eval {
namespace {

absl::StatusOr<int> Number(const std::string& text, int least, int most,
                           const std::string& policy) {
  int number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < least || number > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("--policy: '", policy, "': '", text,
                     "' is not a number in ", least, "..", most));
  }
  return number;
}

}  // namespace

absl::StatusOr<Policy> ParsePolicy(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '+');
  const std::vector<std::string> head = absl::StrSplit(parts[0], '/');
  Policy policy{.name = text, .predictor = head[0]};
  policy.is_default = text == "default";
  if (head[0].empty() || head.size() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--policy: '", text, "' is not NAME[/EVERY][+c[N]][+tail]"));
  }
  if (head.size() == 2) {
    FC_ASSIGN_OR_RETURN(policy.probe_every,
                        Number(head[1], 1, kContextTokensMax, text));
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "tail") {
      policy.tail = true;
    } else if (parts[i][0] == 'c') {
      policy.corrects = true;
      if (parts[i].size() > 1) {
        FC_ASSIGN_OR_RETURN(
            policy.corrected,
            Number(parts[i].substr(1), 0, kContextBlocksMax, text));
      }
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--policy: '", text, "': '+", parts[i],
                       "' is neither +c, +cN nor +tail"));
    }
  }
  return policy;
}

void Policy::Describe(v1::GenerateRequest* request) const {
  if (is_default) return;
  request->set_predictor(predictor);
  request->set_probe_every(probe_every);
  request->set_no_tail(!tail);
  if (!corrects) request->set_corrected_blocks(0);
  if (corrected.has_value()) request->set_corrected_blocks(*corrected);
}

}  // namespace forecache::eval
