#!/usr/bin/env bash
# The driver finds a planted mistake, saves the input that shows it, finds it
# again by the seed, and shows it again from the file alone.
set -uo pipefail
fuzz=$PWD/tests/fuzz/planted_fuzz
export TEST_UNDECLARED_OUTPUTS_DIR
TEST_UNDECLARED_OUTPUTS_DIR=$(mktemp -d)
trap 'rm -rf "$TEST_UNDECLARED_OUTPUTS_DIR"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

first=$("$fuzz" --seconds 60 --seed 7 2>&1) && fail "it found nothing: $first"
grep -q "read past the end" <<<"$first" || fail "no reason: $first"
line=$(grep "fuzz: FAILED" <<<"$first") || fail "no input named: $first"
second=$("$fuzz" --seconds 60 --seed 7 2>&1) && fail "not found again"
[[ $(grep "fuzz: FAILED" <<<"$second") == "$line" ]] \
  || fail "another input by the same seed: $line, then $second"
saved=$TEST_UNDECLARED_OUTPUTS_DIR/planted_fuzz.input
[[ -s $saved ]] || fail "no input was saved"
"$fuzz" "$saved" >/dev/null 2>&1 && fail "the saved input shows nothing"
"$fuzz" --no-such-flag >/dev/null 2>&1
[[ $? == 2 ]] || fail "wrong use is not 2"
echo "found: $line"
