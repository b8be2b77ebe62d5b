#!/usr/bin/env bash
# A benchmark runs at its smoke size and writes the figures it promises.
# smoke.sh BINARY WANTED-FIGURE OPTIONS...
set -euo pipefail
binary=$1 figure=$2
shift 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
if [[ -z ${FORECACHE_MODEL:-} ]]; then
  echo "SKIPPED: FORECACHE_MODEL is not set: no model to run"
  exit 0
fi
"$binary" --smoke --json "$out/bench.json" --model "$FORECACHE_MODEL" "$@"
grep -q "$figure" "$out/bench.json" || { echo "no figure '$figure'"; exit 1; }
if "$binary" --nonsense 2>/dev/null; then echo "a wrong flag passes"; exit 1; fi
echo "ok"
