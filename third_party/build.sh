# Building with Bazel.  Sourced by ../forecache.

# Bazel from Debian, offline, with one disk cache for all clones.
fc_bazel() {  # COMMAND ARGUMENTS...
  local command=$1
  shift
  (cd "$FC_ROOT" && FORECACHE_LLAMA="$FC_LLAMA_DIR" bazel "$command" \
      --disk_cache="$FORECACHE_CACHE/bazel" \
      --repo_env=FORECACHE_LLAMA="$FC_LLAMA_DIR" "$@")
}

fc_build() {  # TARGETS...
  local log="$FORECACHE_CACHE/bazel-build.log"
  [[ -t 2 ]] && fc_say "building $*"
  if [[ -t 2 ]]; then
    fc_bazel build "$@" || exit 1
  else
    fc_say "building $* (log: $log)"
    fc_bazel build --color=no --curses=no --show_progress_rate_limit=15 "$@" \
      >"$log" 2>&1 || { tail -n 60 "$log" >&2; exit 1; }
  fi
}

fc_demo() {
  fc_setup
  fc_build //demo:demo //kvstore:store //worker:worker
  exec "$FC_ROOT/bazel-bin/demo/demo" --bin-dir "$FC_ROOT/bazel-bin" \
    --story "$FC_ROOT/demo" --model "$FC_MODEL_PATH" "$@"
}

fc_bench() {
  local name=""
  if (( $# )) && [[ $1 != --* ]]; then
    name=$1
    shift
  fi
  fc_setup
  case $name in
    "") fc_build //bench/... ; exec "$FC_ROOT/bazel-bin/bench/all" "$@" ;;
    *)
      [[ -f $FC_ROOT/bench/${name}_bench.cc ]] || fc_usage \
        "no bench '$name'; there are: $(cd "$FC_ROOT/bench" && ls -- *_bench.cc | sed 's/_bench.cc//' | tr '\n' ' ')"
      fc_run "//bench:${name}_bench" --model "$FC_MODEL_PATH" "$@" ;;
  esac
}
