// The cpu backend's door for both kinds of code planes.
#include "kernels/code_scan.h"

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/cpu/code_scan.h"

namespace forecache {

void EncodeCodePlane(CodeKind kind, const std::byte* keys, KvType type,
                     int head_dim, std::byte* code_plane) {
  FC_CHECK(keys != nullptr && code_plane != nullptr);
  CodePlaneBytes(kind, head_dim);  // checks both
  if (kind == CodeKind::k4Bit) {
    EncodeCodePlane(keys, type, head_dim, code_plane);
  } else {
    EncodeRotatedPlaneCpu(keys, type, head_dim, code_plane);
  }
}

void ScanCodesCpu(const CodeScan& args) {
  CheckArguments(args);
  if (args.kind == CodeKind::k4Bit) {
    Scan4BitCpu(args);
  } else {
    ScanRotatedCpu(args);
  }
}

void CodeScoresCpu(const CodeScores& args) {
  CheckArguments(args);
  CodeScan scan;
  scan.head_dim = args.head_dim;
  scan.group = args.group;
  scan.planes = &args.code_plane;
  scan.plane_count = 1;
  scan.q = args.q;
  scan.scale = args.scale;
  scan.block_max = args.block_max;
  scan.row_stride = args.row_stride;
  scan.lse = args.lse;
  Scan4BitCpu(scan);
}

}  // namespace forecache
