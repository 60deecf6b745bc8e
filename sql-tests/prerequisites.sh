#!/usr/bin/env bash
# Checks that programs are here, and on Debian as root installs those that are not.
#
#   prerequisites.sh cargo java maven psql python ...
set -euo pipefail

fail() { printf 'prerequisites: error: %s\nprerequisites: hint: %s\n' "$1" "$2" >&2; exit 1; }

is_here() {
  case $1 in
    cargo) command -v cargo >/dev/null && command -v cc >/dev/null ;;
    java)
      local candidate
      for candidate in "${JAVA_HOME:-/nonexistent}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*17*/bin/java; do
        if [ -x "$candidate" ] && [[ $("$candidate" -version 2>&1 || true) == *'version "17'* ]]; then return 0; fi
      done
      return 1
      ;;
    maven) command -v mvn >/dev/null ;;
    psql) command -v psql >/dev/null ;;
    python) command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null ;;
    node) command -v node >/dev/null && command -v npm >/dev/null ;;
    go) command -v go >/dev/null ;;
    chromium) command -v chromium >/dev/null ;;
    *) fail "nothing is known of '$1'" "known are cargo, java, maven, psql, python, node, go, chromium" ;;
  esac
}

package_of() {
  case $1 in
    java) echo openjdk-17-jdk-headless ;;
    maven) echo maven ;;
    psql) echo postgresql-client ;;
    python) echo python3-venv ;;
    node) echo nodejs npm ;;
    go) echo golang-go ;;
    chromium) echo chromium ;;
  esac
}

missing=()
for name in "$@"; do
  if is_here "$name"; then continue; fi
  if [ "$name" = cargo ]; then
    fail "Rust 1.94 or newer and a C compiler are needed" "https://rustup.rs, and on Debian: apt-get install build-essential"
  fi
  read -ra packages <<<"$(package_of "$name")"
  missing+=("${packages[@]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  printf 'prerequisites: installing %s\n' "${missing[*]}" >&2
  apt-get update -qq >/dev/null || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null ||
    fail "apt-get could not install ${missing[*]}" "install them by hand and run again"
else
  fail "missing: ${missing[*]} (names of Debian's packages)" "install them and run again"
fi
