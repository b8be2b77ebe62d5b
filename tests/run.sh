# Running the tests.  Sourced by ../forecache.

fc_test_help() {
  cat <<'HELP'
usage: ./forecache test [--all]

Builds everything and runs the tests, but for those tagged "slow".

  --all   the slow tests too, then the tests once more with the address and
          undefined-behaviour sanitizers, each fuzzer for ten minutes with
          them (FORECACHE_FUZZ_SECONDS says otherwise), tests tagged "tsan"
          with the thread sanitizer, and as root the README's commands in a
          fresh Debian

A line for each test program as it ends, then what failed and what was skipped,
and why.  The last line counts test cases: "N passed, N failed[, N skipped]".
Exit: 0 all passed, 1 something failed or nothing ran, 2 wrong use, 3 something
is missing.
HELP
}

# Runs one Bazel invocation and remembers it in FC_TEST_RUNS for the count.
fc_test_suite() {  # NAME BAZEL-ARGUMENTS...
  local name=$1 events="$FC_TEST_DIR/${1:-tests}.json" teller
  shift
  : >"$events"
  # It tells of each target as it ends, until this end of its pipe closes.
  exec {teller}> >(python3 "$FC_ROOT/tests/count_results.py" follow "$events")
  local teller_pid=$!
  local look=(--color=no --curses=no --show_progress_rate_limit=15
              --nosandbox_debug)  # Debian turns that on for all
  [[ -t 2 ]] && look=()
  # The summary at the end has the logs, so Bazel itself need not print them.
  fc_bazel test --build_event_json_file="$events" --keep_going \
    --test_output=summary "${look[@]}" "$@" {teller}>&- </dev/null >&2
  local code=$?
  exec {teller}>&-
  wait "$teller_pid"
  FC_TEST_RUNS+=("$name=$events:$code")
}

fc_test_all() {
  fc_test_suite "" //...
  # Outputs of their own, or each run would throw the other's builds away.
  # Not with sanitizers: what needs the machine for itself, or real processes.
  fc_test_suite asan --config=asan --platform_suffix=-asan --symlink_prefix=/ \
    --build_tests_only \
    --test_tag_filters=-slow,-exclusive,-local,-no-asan,-fuzz //tests/...
  local seconds=${FORECACHE_FUZZ_SECONDS:-600}
  fc_test_suite fuzz --config=fuzz --platform_suffix=-fuzz \
    --symlink_prefix=/ --build_tests_only --test_tag_filters=fuzz \
    --test_env=FORECACHE_FUZZ_SECONDS="$seconds" --local_test_jobs="$(nproc)" \
    --test_timeout=$((seconds + 300)) //tests/fuzz/...
  # Debian's gRPC tells the thread sanitizer nothing, so that it sees races
  # where there are none, and UCX's hooks do not get along with it: tests over
  # the loopback run.  Of absl's locks tests/testing/tsan_absl.cc tells it.
  fc_test_suite tsan --config=tsan --platform_suffix=-tsan --symlink_prefix=/ \
    --build_tests_only --test_timeout=900 \
    --test_tag_filters=-slow,-exclusive,-local,-no-tsan,-fuzz -- \
    //tests/testing/... //tests/contract/... //tests/kvstore/... \
    //tests/worker/... -//tests/worker/model/...
  local name registries=()
  for name in $(compgen -e | grep -iE '^(PIP_|https?_proxy$|no_proxy$)'); do
    registries+=("--test_env=$name")
  done
  fc_test_suite fresh --test_output=streamed --test_timeout=7200 \
    "${registries[@]}" //tests/fresh_machine:fresh_machine_test
}

fc_test() {
  local all=false
  while (( $# )); do
    case $1 in
      --all) all=true ;;
      --help|-h) fc_test_help; return 0 ;;
      *) fc_usage "test takes --all, got '$1'" ;;
    esac
    shift
  done
  fc_setup
  export FORECACHE_MODEL=$FC_MODEL_PATH
  local data="$FC_ROOT/../shared/data"
  if [[ -z ${FORECACHE_DATA:-} && -d $data ]]; then
    export FORECACHE_DATA=$(cd "$data" && pwd)
  fi
  FC_TEST_RUNS=()
  FC_TEST_DIR=$(mktemp -d "$FORECACHE_CACHE/test.XXXXXX")
  trap 'rm -rf "$FC_TEST_DIR"' EXIT
  if "$all"; then
    fc_test_all
  else
    fc_test_suite "" --test_tag_filters=-slow //...
  fi
  python3 "$FC_ROOT/tests/count_results.py" count "${FC_TEST_RUNS[@]}"
}
