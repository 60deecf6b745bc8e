#!/usr/bin/env bash
# Makes a virtual environment with the packages of a requirements file and prints the path of its Python.
#
#   venv.sh [REQUIREMENTS]     default: requirements.txt beside this script
#
# It lives under SLUICE_CACHE_DIR (default: the user's cache folder, sluice), is made once for each content of the file, and
# is found by its hash afterwards. Needs python3 (3.10 or newer) with venv.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REQUIREMENTS=${1:-$HERE/requirements.txt}
CACHE_DIR=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/venv

fail() { printf 'venv: error: %s\nvenv: hint: %s\n' "$1" "$2" >&2; exit 1; }

command -v python3 >/dev/null || fail "python3 is not installed" "Debian: apt-get install python3-venv"
python3 -c 'import venv, ensurepip' 2>/dev/null || fail "python3 has no venv" "Debian: apt-get install python3-venv"
VENV=$CACHE_DIR/$( (python3 --version; cat "$REQUIREMENTS") | cksum | cut -d' ' -f1)
mkdir -p "$CACHE_DIR"
if command -v flock >/dev/null; then
  exec 9>"$CACHE_DIR/lock"
  flock 9
fi
if [ ! -f "$VENV/.complete" ]; then
  printf 'venv: installing %s\n' "$(grep -cv '^#' "$REQUIREMENTS") packages of ${REQUIREMENTS##*/} into $VENV" >&2
  rm -rf "$VENV"
  python3 -m venv "$VENV" >&2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$REQUIREMENTS" >&2 ||
    fail "the packages could not be installed" "see pip's words above"
  touch "$VENV/.complete"
fi
printf '%s\n' "$VENV/bin/python"
