#!/usr/bin/env bash
# The evaluation runs, and its figures hang together: twice the same, and next
# to nothing lost where the budget is the prompt's whole length.
set -uo pipefail
if [[ -z ${FORECACHE_MODEL:-} ]]; then
  echo "SKIPPED: FORECACHE_MODEL is not set: no model to run"
  exit 0
fi
export TMPDIR
TMPDIR=$(mktemp -d)
trap 'rm -rf "$TMPDIR"' EXIT
mkdir "$TMPDIR/text"
cp demo/text.txt "$TMPDIR/text"
run() {  # FILE ARGUMENTS...
  local file=$1
  shift
  eval/eval --bin-dir . --facts eval/facts.json --model "$FORECACHE_MODEL" \
    --text "$TMPDIR/text" --tokens 1500 --decoded 40 \
    --json "$TMPDIR/$file" --plot "$TMPDIR/plot.svg" "$@"
}
run one.json --policy stream,last,default,oracle,ema/5 --budget 1/8 || exit 1
run two.json --policy last --budget 1/8,1/1 || exit 1
grep -q "<svg" "$TMPDIR/plot.svg" || { echo "no plot"; exit 1; }
run bad.json --policy nonsense >/dev/null 2>&1
code=$?
(( code == 2 )) || { echo "a bad policy ended with $code"; exit 1; }
python3 - "$TMPDIR" <<'CHECK'
import json, sys

one, two = (json.load(open(f"{sys.argv[1]}/{name}.json"))
            for name in ("one", "two"))
for row in one + two:
    for key in ("policy budget text dnll dnll_worst5 facts facts_exact "
                "compression changed fetch_bytes scan_bytes "
                "predict_us").split():
        assert key in row, key
by = {row["policy"]: row for row in one}
assert by["last"]["rises"] == two[0]["rises"], "runs differ"
assert abs(two[1]["dnll"]) < 0.05, "a whole context lost"
assert by["stream"]["changed"] == 0
assert by["stream"]["scan_bytes"] == 0
assert 0 < by["ema/5"]["scan_bytes"] < by["last"]["scan_bytes"] / 4
assert by["default"]["scan_bytes"] > by["last"]["scan_bytes"]
assert by["oracle"]["changed"] > by["last"]["changed"]
CHECK
