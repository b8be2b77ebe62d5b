// The weights that the binary carries: predictor/weights/{conv,paper}.fccv.
#ifndef FORECACHE_PREDICTOR_CONV_BUILTIN_H_
#define FORECACHE_PREDICTOR_CONV_BUILTIN_H_

#include "common/bytes.h"

namespace forecache {

// Threads: safe to call from any thread.
ByteView BuiltinConvFile();
// The paper's own shape, input and loss: see predictor/train/README.md.
ByteView BuiltinPaperFile();

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_CONV_BUILTIN_H_
