// A policy as the evaluation's command line names it.
#ifndef FORECACHE_EVAL_POLICY_H_
#define FORECACHE_EVAL_POLICY_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/worker.pb.h"

namespace forecache::eval {

// NAME[:ALPHA][/EVERY][+c[N][@FLOOR]][+t[T]][+shared][+lent][+profile][+pSHARE]
// [+tail]
//
//   NAME    a predictor, "oracle", or "default": what the worker does when
//           nothing is asked for (it takes no modifiers)
//   :ALPHA  the weight of the newest row, where the predictor has one
//   /EVERY  probes every so many tokens; between, only what was attended is
//           observed
//   +c      the default share of the chosen blocks is corrected; +cN: N blocks;
//           @FLOOR: only those of that estimated probability or more
//   +t      the worker's default of blocks move a (layer, KV head, token), on
//           average; +tT: T blocks.  Without, nothing is held back
//   +shared corrections' scans are all the predictor sees: no probes besides
//   +lent   corrections' places go round beside the budget of each head
//   +profile  the budget is shared out by the model's profile
//   +pSHARE probes are adaptive, at most that share of them
//   +tail   what is not resident weighs in by the stores' attention over it;
//           needs +c, or the oracle
struct Policy {
  std::string name;  // as given
  std::string predictor;
  bool is_default = false;
  double alpha = 0;  // 0: the worker's
  int probe_every = 1;
  bool corrects = false;
  std::optional<int> corrected;  // with `corrects`; none: the default share
  double correction_floor = 0;
  std::optional<double> traffic_target = 0;  // none: the worker's
  bool shared_scan = false;
  bool lent = false;
  bool profiled = false;
  double probe_share = 0;
  bool tail = false;

  void Describe(v1::GenerateRequest* request) const;
};

// kInvalidArgument says which part is wrong.
absl::StatusOr<Policy> ParsePolicy(const std::string& text);

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_POLICY_H_
