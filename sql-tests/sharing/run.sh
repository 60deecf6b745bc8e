#!/usr/bin/env bash
# Measures how executors are shared between tenants: shares, dominant shares, and the tail of short queries in a flood.
#
#   run.sh              everything; about a quarter of an hour on two cores, without the build
#
#   shares      three executors of 4 vcores: who is first in a flood, shares by weight, dominant shares, a queue alone
#   latency     three executors of 1 vcore: the tail of short queries in a flood, then the same with a FIFO scheduler
#
# Executors of the second part have one vcore each, because all of them share this machine: with more vcores than it has
# cores, a short query would wait for the machine's cores after its scheduler had given it one.
#
#   SHARING_ONLY        parts to run, separated by commas (default: shares,latency)
#   SHARING_QUICK=1     the size of the tests instead of the full one
#   SHARING_SUBNET      first three parts of the executors' addresses (127.0.4)
#   SLUICE_BIN          the program to use instead of building it
#   SLUICE_CACHE_DIR    where the Python environment is kept (default: the user's cache folder, sluice)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
export SLUICE_CACHE_DIR=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
# The source tree stays clean.
export PYTHONDONTWRITEBYTECODE=1
PARTS=${SHARING_ONLY:-shares,latency}
SUBNET=${SHARING_SUBNET:-127.0.4}
EXECUTOR_COUNT=3
EXECUTOR_MEMORY=1GB
SCALE_FACTOR=0.1
START_TIMEOUT_S=120
STOP_TIMEOUT_S=20

# shellcheck source=sql-tests/processes.sh
. "$HERE/../processes.sh"
fail() { printf 'sharing: error: %s\nsharing: hint: %s\n' "$1" "$2" >&2; exit 1; }

RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/sluice-sharing-XXXXXX")

clean_up() {
  local status=$?
  trap - EXIT
  trap '' HUP INT TERM
  stop_processes
  if [ "$status" = 0 ]; then rm -rf "$RUN_DIR"; else echo "sharing: logs of this run: $RUN_DIR" >&2; fi
  exit "$status"
}

build() {
  if [ -z "${SLUICE_BIN:-}" ]; then
    say "Building sluice (the first release build takes a while)"
    (cd "$ROOT" && cargo build --release --locked -p sluice-server)
    SLUICE_BIN=${CARGO_TARGET_DIR:-$ROOT/target}/release/sluice
  fi
  case $SLUICE_BIN in /*) ;; *) SLUICE_BIN=$PWD/$SLUICE_BIN ;; esac
  "$SLUICE_BIN" --version | grep sluice >/dev/null || fail "$SLUICE_BIN is not Sluice" "check SLUICE_BIN"
}

executors_joined() {
  "$PYTHON" -c 'import psycopg, sys
with psycopg.connect(host="127.0.0.1", port=sys.argv[1], dbname="sluice", user="sluice", connect_timeout=5) as connection:
    (count,) = connection.execute("SELECT count(*) FROM system.executors").fetchone()
sys.exit(count < int(sys.argv[2]))' "$PORT" "$EXECUTOR_COUNT" 2>/dev/null
}

# Starts a coordinator by a name with these flags, and its executors with so many vcores; PORT is where it listens.
start_cluster() {
  local name=$1 vcores=$2 ports index coordinator waited_s=0; shift 2
  read -ra ports < <(free_ports 4)
  PORT=${ports[0]}
  start "$name" "$SLUICE_BIN" coordinator --data-dir "$RUN_DIR/$name" --grace-seconds 2 --pg-port "$PORT" \
    --flight-port "${ports[1]}" --http-port "${ports[2]}" --scheduler-port "${ports[3]}" "$@"
  coordinator=$PID
  for index in $(seq 1 "$EXECUTOR_COUNT"); do
    start "$name-executor-$index" "$SLUICE_BIN" executor --data-dir "$RUN_DIR/$name-$index" --grace-seconds 2 \
      --coordinator "127.0.0.1:${ports[3]}" --host "$SUBNET.$index" --vcores "$vcores" --memory "$EXECUTOR_MEMORY"
  done
  until executors_joined; do
    kill -0 "$coordinator" 2>/dev/null || fail "the coordinator ended" "its log: $RUN_DIR/$name.log"
    [ "$waited_s" -lt "$START_TIMEOUT_S" ] ||
      fail "not all executors joined within $START_TIMEOUT_S s" "their logs are in $RUN_DIR"
    sleep 1
    waited_s=$((waited_s + 1))
  done
}

# Runs phases against the cluster that runs, and stops it. A broken bound does not keep the other parts from running.
measure() {
  local quick=(); [ -z "${SHARING_QUICK:-}" ] || quick=(--quick)
  # In the background with a wait, because a trap runs at once only while the shell waits.
  "$PYTHON" "$HERE/sharing.py" "$PORT" --data "$RUN_DIR/data" ${quick[@]+"${quick[@]}"} "$@" &
  wait $! || BROKEN=1
  stop_processes
}

main() {
  trap clean_up EXIT
  trap 'exit 130' HUP INT TERM
  build
  PYTHON=$(bash "$HERE/../clients/venv.sh")
  BROKEN=0
  "$SLUICE_BIN" sample-data --scale-factor "$SCALE_FACTOR" --output-dir "$RUN_DIR/data"
  if wants shares; then
    say "Shares on $EXECUTOR_COUNT executors of 4 vcores"
    start_cluster shares 4
    measure --phase first --phase shares --phase dominant --phase alone
  fi
  if wants latency; then
    say "Latency on $EXECUTOR_COUNT executors of 1 vcore, by dominant resource fairness"
    start_cluster drf 1
    measure --phase latency --output "$RUN_DIR/drf.json"
    say "Latency on $EXECUTOR_COUNT executors of 1 vcore, first come, first served"
    start_cluster fifo 1 --scheduler-policy fifo
    measure --phase latency --policy fifo --beside "$RUN_DIR/drf.json"
  fi
  [ "$BROKEN" = 0 ] || fail "a bound is broken" "the lines above say which"
}

main "$@"
