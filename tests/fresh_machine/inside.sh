#!/usr/bin/env bash
# inside.sh FOLDER: what run.sh does in namespaces of its own.  FOLDER has
# system/, empty, which becomes a Debian, and clone/, the repository.
set -uo pipefail

folder=$1
system=$folder/system
home=/root/forecache
start_args=()  # environment of the commands inside

say() { printf '[%4d s] fresh machine: %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }

# The Debian entries of the host's apt sources, and the keys that they name.
copy_apt_sources() {
  local file key
  mkdir -p "$system/etc/apt/sources.list.d" "$system/etc/apt/apt.conf.d"
  : >"$system/etc/apt/sources.list"
  [[ -f /etc/apt/sources.list ]] && grep -E '^deb .*/debian' \
    /etc/apt/sources.list >>"$system/etc/apt/sources.list"
  for file in /etc/apt/sources.list.d/*; do
    [[ -f $file ]] && grep -q -E '/debian(-security)?/?( |$)' "$file" \
      && cp "$file" "$system/etc/apt/sources.list.d/"
  done
  grep -rhoE '/(usr/share|etc/apt)/keyrings/[^] ]+' "$system/etc/apt" \
    | sort -u | while read -r key; do
        [[ -f $key && ! -f $system$key ]] && install -D -m 644 "$key" \
          "$system$key"
      done
  apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' \
    >"$system/etc/apt/apt.conf.d/90host" || true
}

# Where debootstrap finds Debian: the first URI that apt knows.
first_mirror() {
  sed -nE 's/^URIs: *([^ ]+debian)\/?( .*)?$/\1/p;
           s/^deb (\[[^]]*\] )?([^ ]+debian)\/? .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1
}

# pip's registries: configuration, PIP_*, and indexes that are local folders.
copy_pip_settings() {
  local file name path
  for file in /etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf; do
    [[ -f $file ]] && install -D -m 644 "$file" "$system$file"
  done
  while IFS= read -r name; do
    start_args+=("$name=${!name}")
  done < <(compgen -e | grep -iE '^(PIP_|https?_proxy$|no_proxy$)')
  { cat /etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf
    printf '%s\n' "${start_args[@]}"; } 2>/dev/null \
    | grep -iE 'index|find.links' | grep -oE '(file://)?/[^ ,]+' \
    | sed -e 's|^file://||' -e 's|/simple/*$||' | sort -u \
    | while read -r path; do
        [[ $path == /* && -d $path ]] || continue
        mkdir -p "$system$path"
        mount --bind -o ro "$path" "$system$path"
      done
}

copy_network() {
  cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
  local file
  mkdir -p "$system/usr/local/share/ca-certificates" "$system/etc/ssl/certs"
  for file in /usr/local/share/ca-certificates/*.crt; do
    [[ -f $file ]] && cp "$file" "$system/usr/local/share/ca-certificates/"
  done
  [[ -f /etc/ssl/certs/ca-certificates.crt ]] \
    && cp -L /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"
}

mount_devices() {
  mount -t proc proc "$system/proc" || fail "mounting /proc"
  mount -t sysfs -o ro sysfs "$system/sys" || mount --rbind /sys "$system/sys"
  mount -t tmpfs -o mode=755 tmpfs "$system/dev" || fail "mounting /dev"
  local device
  for device in null zero full random urandom tty; do
    : >"$system/dev/$device"
    mount --bind "/dev/$device" "$system/dev/$device"
  done
  mkdir "$system/dev/shm" "$system/dev/pts"
  # UCX's shared memory lives here.
  mount -t tmpfs -o mode=1777,size=2g tmpfs "$system/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$system/dev/pts"
  ln -s pts/ptmx "$system/dev/ptmx"
  ln -s /proc/self/fd "$system/dev/fd"
  ln -s fd/0 "$system/dev/stdin"
  ln -s fd/1 "$system/dev/stdout"
  ln -s fd/2 "$system/dev/stderr"
}

# Runs a command of the README in the clone, with nothing of the host's
# environment but the registries.
run_readme() {  # COMMAND...
  say "running: $*"
  chroot "$system" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${start_args[@]}" bash -c 'cd "$1" && shift && exec "$@"' \
    bash "$home" "$@" </dev/null
}

check_demo_json() {
  python3 - "$system/root/demo.json" <<'PYTHON' || fail "demo.json is not right"
import json, sys
report = json.load(open(sys.argv[1], encoding="utf-8"))
assert isinstance(report, dict) and report, "an object with fields"
print("demo.json has", ", ".join(sorted(report)))
PYTHON
}

make_system() {
  local mirror
  mirror=$(first_mirror)
  say "debootstrap from ${mirror:=http://deb.debian.org/debian}"
  debootstrap --variant=minbase bookworm "$system" "$mirror" \
    >"$folder/debootstrap.log" 2>&1 \
    || { tail -n 20 "$folder/debootstrap.log"; fail "debootstrap"; }
  say "a Debian of $(du -sm "$system" | cut -f1) MiB, without a compiler"
  mount_devices
  copy_apt_sources
  copy_network
  copy_pip_settings
  mv "$folder/clone" "$system$home"
}

main() {
  make_system
  if [[ -n ${FRESH_SETUP_ONLY:-} ]]; then
    run_readme ./forecache setup || fail "setup ended with $?"
    exit 0
  fi
  run_readme ./forecache demo --json /root/demo.json || fail "demo ended with $?"
  check_demo_json
  run_readme ./forecache test | tee "$folder/test.log"
  code=${PIPESTATUS[0]}
  (( code == 0 )) || fail "test ended with $code"
  tail -n 1 "$folder/test.log" | grep -qE '^[1-9][0-9]* passed, 0 failed' \
    || fail "the last line of test does not count"
}

main; exit
