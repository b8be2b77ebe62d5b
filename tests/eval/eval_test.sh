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
run one.json --policy stream,last,last+c,default,oracle,ema/5 --budget 1/8 || exit 1
run two.json --policy last --budget 1/8,9/10 || exit 1
cp "$TMPDIR/two.json" "$TMPDIR/before.json"
run two.json --policy last --budget 1/8,9/10 --resume |
  grep -q "last at" && { echo "--resume runs rows that are there"; exit 1; }
cmp "$TMPDIR/two.json" "$TMPDIR/before.json" || exit 1
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
whole = {row["budget"]: row for row in two}
assert by["last"]["rises"] == whole["1/8"]["rises"], "runs differ"
assert len(whole["1/1"]["nll"]) == len(whole["1/8"]["rises"])
assert abs(whole["9/10"]["dnll"]) < 0.05, "nearly a whole context lost"
assert by["stream"]["changed"] == 0
assert by["stream"]["scan_bytes"] == 0
assert 0 < by["ema/5"]["scan_bytes"] < by["last"]["scan_bytes"] / 4
one_scan = by["last"]["scan_bytes"]
assert abs(by["default"]["scan_bytes"] / one_scan - 1) < 0.1
assert by["last+c"]["scan_bytes"] > 1.8 * one_scan
assert 0 < by["default"]["missed_mass"] < 1
assert by["oracle"]["changed"] > by["last"]["changed"]
CHECK
