#!/usr/bin/env bash
# The transport's benchmark and the doctor run, and write the JSON they promise.
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$1" --smoke --json "$out/bench.json"
for figure in "messages of 64 B" "stream 64K" "round trip 64 B p50"; do
  grep -q "tcp $figure" "$out/bench.json" || { echo "no tcp $figure"; exit 1; }
done

code=0
"$2" --json "$out/doctor.json" || code=$?
[[ $code == 0 || $code == 3 ]] || { echo "doctor: exit $code"; exit 1; }
for name in cores UCX tcp "same host" gRPC; do
  grep -q "\"name\": \"$name\"" "$out/doctor.json" ||
    { echo "doctor does not tell of $name"; exit 1; }
done
if "$2" --nonsense 2>/dev/null; then echo "a wrong flag passes"; exit 1; fi
echo "ok"
