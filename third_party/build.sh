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

fc_eval() {
  fc_setup
  fc_build //eval:eval //kvstore:store //worker:worker
  local data=${FORECACHE_DATA:-$FC_ROOT/../shared/data} extra=()
  [[ " $* " == *" --data"[\ =]* || ! -d $data ]] || extra=(--data "$data")
  exec "$FC_ROOT/bazel-bin/eval/eval" --bin-dir "$FC_ROOT/bazel-bin" \
    --facts "$FC_ROOT/eval/facts.json" --model "$FC_MODEL_PATH" \
    "${extra[@]}" "$@"
}

# The benches, by name: bench/NAME_bench.cc.
fc_bench_names() {
  (cd "$FC_ROOT/bench" && ls -- *_bench.cc) | sed 's/_bench\.cc$//'
}

fc_bench_help() {
  cat <<HELP
usage: ./forecache bench [NAME] [--smoke] [--json FILE] [--repeats N]

Prints figures: median and best of interleaved repeats, beside what bounds
them, with the CPU and the load average.  Without a name, all of them.

  NAME: $(fc_bench_names | tr '\n' ' ')
HELP
}

# Runs one bench.
fc_bench_one() {  # NAME OPTIONS...
  local name=$1 extra=()
  shift
  fc_build "//bench:${name}_bench" || return
  if [[ $name == decode ]]; then
    fc_build //kvstore:store //worker:worker
    extra=(--bin-dir "$FC_ROOT/bazel-bin" --story "$FC_ROOT/demo")
  elif [[ $name =~ ^(wire|store|restart|tenants)$ ]]; then
    fc_build //kvstore:store
    extra=(--bin-dir "$FC_ROOT/bazel-bin")
  fi
  if [[ $name == restart ]]; then
    local trace=${FORECACHE_DATA:-$FC_ROOT/../shared/data}/traces
    trace+=/conversation_trace.jsonl
    [[ ! -f $trace ]] || extra+=(--trace "$trace")
  fi
  if [[ $name == codes ]]; then
    extra=(--text "$FC_ROOT/demo/text.txt")
  elif [[ $name == trace ]]; then
    extra=(--traces "${FORECACHE_DATA:-$FC_ROOT/../shared/data}/traces")
  fi
  "$FC_ROOT/bazel-bin/bench/${name}_bench" --model "$FC_MODEL_PATH" \
    "${extra[@]}" "$@"
}

fc_bench() {
  [[ ${1:-} == --help || ${1:-} == -h ]] && { fc_bench_help; exit 0; }
  local name
  if (( $# )) && [[ $1 != --* ]]; then
    name=$1
    shift
    [[ -f $FC_ROOT/bench/${name}_bench.cc ]] \
      || fc_usage "no bench '$name'; there are: $(fc_bench_names | tr '\n' ' ')"
    fc_setup
    fc_bench_one "$name" "$@"
    exit
  fi
  # All of them: --json gets one object, a key for each.
  local json="" options=() parts
  while (( $# )); do
    case $1 in
      --json) json=${2:?--json needs a file}; shift 2 ;;
      *) options+=("$1"); shift ;;
    esac
  done
  fc_setup
  parts=$(mktemp -d)
  for name in $(fc_bench_names); do
    fc_bench_one "$name" "${options[@]}" --json "$parts/$name.json" || exit
  done
  [[ -z $json ]] || python3 -c 'import json, pathlib, sys
print(json.dumps({f.stem: json.loads(f.read_text())
                  for f in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))},
                 indent=2))' "$parts" >"$json"
  rm -r "$parts"
}
