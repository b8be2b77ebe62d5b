#include "predictor/conv_builtin.h"

#include <span>

namespace forecache {
namespace {

constexpr unsigned char kFile[] = {
#include "predictor/conv_builtin.inc"
};

constexpr unsigned char kPaperFile[] = {
#include "predictor/paper_builtin.inc"
};

}  // namespace

ByteView BuiltinConvFile() {
  return AsBytes(std::span<const unsigned char>(kFile));
}

ByteView BuiltinPaperFile() {
  return AsBytes(std::span<const unsigned char>(kPaperFile));
}

}  // namespace forecache
