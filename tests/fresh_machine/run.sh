#!/usr/bin/env bash
# Does the README hold on a machine that has nothing?  Makes a minimal Debian
# 12 in a folder, clones the last commit into it, and runs the README's two
# commands there.
#
#   run.sh [--setup-only] [--keep]
#     --setup-only   stop after ./forecache setup
#     --keep         leave the folder behind, to look into
#
# Needs root, the right to make namespaces, and the package registries; says
# "SKIPPED: why" and succeeds where it cannot run.  Takes about an hour.
#
# Everything is mounted in a namespace of its own, so that no end of this
# script, however sudden, leaves a mount behind.
set -uo pipefail
export PATH=$PATH:/usr/sbin:/sbin  # debootstrap's; a test's has not got them

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
repository=$(cd "$here/../.." && pwd)
setup_only=false
keep=false

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
skip() { echo "SKIPPED: $*"; exit 0; }
fail() { say "FAILED: $*"; exit 1; }

usage() { echo "usage: run.sh [--setup-only] [--keep]" >&2; exit 2; }
while (( $# )); do
  case $1 in
    --setup-only) setup_only=true ;;
    --keep) keep=true ;;
    *) usage ;;
  esac
  shift
done

check_machine() {
  (( EUID == 0 )) || skip "it needs root to make a system of its own"
  unshare --mount --pid --fork --kill-child true 2>/dev/null \
    || skip "this machine does not allow new namespaces"
  command -v apt-get >/dev/null || skip "it needs apt, to know the registries"
  command -v debootstrap >/dev/null && return
  say "installing debootstrap"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
      --no-install-recommends debootstrap; } >/dev/null 2>&1 \
    || skip "debootstrap is not to be had here"
}

clean_up() {
  # unshare ignores gentler signals; its child, and all in it, dies with it.
  [[ -n $inside_pid ]] && kill -KILL "$inside_pid" 2>/dev/null \
    && wait "$inside_pid" 2>/dev/null
  if "$keep"; then say "kept: $folder"; else rm -rf "$folder"; fi
}

main() {
  check_machine
  folder=$(mktemp -d "${TMPDIR:-/var/tmp}/forecache-fresh.XXXXXX")
  inside_pid=
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  say "cloning the last commit"
  mkdir "$folder/system"
  git -c safe.directory='*' clone -q --no-local "$repository" "$folder/clone" \
    || fail "git clone $repository"

  "$setup_only" && export FRESH_SETUP_ONLY=1
  unshare --mount --pid --fork --kill-child --propagation private \
    bash "$here/inside.sh" "$folder" </dev/null &
  inside_pid=$!
  wait "$inside_pid"
  code=$?
  inside_pid=
  (( code == 0 )) || fail "the fresh machine ended with $code"
  "$setup_only" && say "setup works on a fresh machine" && return
  say "the README holds on a fresh machine"
}

main; exit
