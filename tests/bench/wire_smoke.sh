#!/usr/bin/env bash
# `bench wire` runs at its smoke size, writes every figure that it promises,
# and leaves nothing behind when it is interrupted.
# wire_smoke.sh BINARY OPTIONS...
set -euo pipefail
binary=$1
shift
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$binary" --smoke --repeats 1 --json "$out/bench.json" "$@"
python3 - "$out/bench.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    figures = json.load(file)
both = ("tcp", "shm")
wanted = [("gather_256x4k_ms", path) for path in both]
wanted += [("get_64k_p50_ms", path) for path in both]
wanted += [("probe_p50_ms", length, path)
           for length in ("8k", "32k", "128k") for path in both]
wanted += [("token_ms", length, "1_store", path)
           for length in ("32k", "128k") for path in both]
wanted += [("token_ms", length, "2_stores", "shm") for length in ("32k", "128k")]
wanted += [("correct_p50_ms", length) for length in ("8k", "32k", "128k")]
wanted += [("scan_keys_gbps", bits) for bits in ("4", "2")]
if "fetch_ratio skipped" not in figures["notes"]:
    wanted += [("fetch_ratio", size, path)
               for size in ("4k", "8k", "64k", "1m") for path in both]
if "scaling skipped" not in figures["notes"]:
    wanted += [("scaling_2_stores",)]
for path in wanted:
    place = figures
    for key in path:
        place = place[key]
    if not (place["best"] > 0 and place["median"] > 0):
        sys.exit(f"no figure {'/'.join(path)}: {place}")
PYTHON
if "$binary" --nonsense 2>/dev/null; then echo "a wrong flag passes"; exit 1; fi

# Interrupted while it has namespaces, links and three stores.
links=$(ls /sys/class/net)
mkfifo "$out/told"
setsid "$binary" --smoke --repeats 1 "$@" >/dev/null 2>"$out/told" &
pid=$!
exec 3<"$out/told"
while read -r line <&3; do
  [[ $line == *"two stores"* ]] && break
done
kill -INT "$pid" || { echo "it ended before it was interrupted"; exit 1; }
code=0
wait "$pid" || code=$?
(( code == 130 )) || { echo "interrupted, it ends with $code"; exit 1; }
cat <&3 >&2  # until its children are gone too
left=$(pgrep -l -s "$pid" || true)
[[ -z $left ]] || { echo "processes are left: $left"; exit 1; }
[[ $(ls /sys/class/net) == "$links" ]] || { echo "a link is left"; exit 1; }
echo "ok"
