#include "predictor/conv_builtin.h"

#include <span>

namespace forecache {
namespace {

constexpr unsigned char kFile[] = {
#include "predictor/conv_builtin.inc"
};

}  // namespace

ByteView BuiltinConvFile() {
  return AsBytes(std::span<const unsigned char>(kFile));
}

}  // namespace forecache
