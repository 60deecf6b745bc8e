#!/usr/bin/env bash
# The main job on real input: psql joins raw events in Parquet with roll-ups in a live Cassandra.
#
#   demo.sh up       build, start Cassandra and Sluice, load, ask; leaves the service running
#   demo.sh stop     stop the service and the nodes; the data stay
#   demo.sh clean    stop, and delete the demo's data
#
#   SF                 TPC-H scale factor (default 0.1)
#   SLUICE_CASSANDRA   contact points of your own cluster (host:port,host:port); none is started then
#   SLUICE_BIN         a binary to use instead of building one
#   SLUICE_CACHE_DIR   where everything is kept (default: the user's cache folder, sluice)
#   SLUICE_PG_PORT, SLUICE_FLIGHT_PORT, SLUICE_HTTP_PORT   ports of the service (5433, 50051, 8080)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CLUSTER=$HERE/../cassandra/cluster.sh
CACHE_DIR=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
DEMO_DIR=$CACHE_DIR/demo
PID_FILE=$DEMO_DIR/pid
SF=${SF:-0.1}
PG_PORT=${SLUICE_PG_PORT:-5433}
FLIGHT_PORT=${SLUICE_FLIGHT_PORT:-50051}
HTTP_PORT=${SLUICE_HTTP_PORT:-8080}
START_TIMEOUT_S=60
STOP_TIMEOUT_S=60

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'demo: error: %s\ndemo: hint: %s\n' "$1" "$2" >&2; exit 1; }

build() {
  if [ -n "${SLUICE_BIN:-}" ]; then return; fi
  say "1. Building sluice (the first release build takes a while)"
  (cd "$HERE/../.." && cargo build --release --locked -p sluice-server)
  SLUICE_BIN=${CARGO_TARGET_DIR:-$HERE/../../target}/release/sluice
}

# The process of the demo's service if it is alive and ours; a number in a file could be somebody else's by now.
service_pid() {
  [ -f "$PID_FILE" ] || return 1
  local pid; pid=$(cat "$PID_FILE")
  [[ $(ps -ww -o args= -p "$pid" 2>/dev/null || true) == *"--data-dir $DEMO_DIR/data"* ]] || return 1
  printf '%s' "$pid"
}

start_cassandra() {
  if [ -n "${SLUICE_CASSANDRA:-}" ]; then
    say "2. Using the Cassandra at $SLUICE_CASSANDRA"
    CONTACT_POINTS=$SLUICE_CASSANDRA
    return
  fi
  say "2. Starting three nodes of Apache Cassandra"
  "$CLUSTER" up 3
  CONTACT_POINTS=127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042
}

sample_data() {
  say "3. TPC-H at scale $SF as Parquet"
  TPCH_DIR=$DEMO_DIR/tpch-sf$SF
  if [ ! -f "$TPCH_DIR/lineitem.parquet" ]; then
    "$SLUICE_BIN" sample-data --scale-factor "$SF" --output-dir "$TPCH_DIR"
  fi
  du -sh "$TPCH_DIR"
}

start_service() {
  say "4. Starting the service: scheduler, three executors and all protocols in one process"
  if service_pid >/dev/null; then
    echo "it is running already (process $(service_pid))"
    return
  fi
  mkdir -p "$DEMO_DIR"
  nohup setsid "$SLUICE_BIN" serve --data-dir "$DEMO_DIR/data" --executors 3 \
    --pg-port "$PG_PORT" --flight-port "$FLIGHT_PORT" --http-port "$HTTP_PORT" >"$DEMO_DIR/service.log" 2>&1 </dev/null &
  echo $! >"$PID_FILE"
  local waited_s=0
  until psql_ -c 'SELECT 1' >/dev/null 2>&1; do
    service_pid >/dev/null || { cat "$DEMO_DIR/service.log" >&2; fail "the service did not start" "its words are above"; }
    [ "$waited_s" -lt "$START_TIMEOUT_S" ] || fail "the service did not answer within $START_TIMEOUT_S s" "its log: $DEMO_DIR/service.log"
    sleep 1
    waited_s=$((waited_s + 1))
  done
  cat "$DEMO_DIR/service.log"
}

psql_() { psql -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PG_PORT" -U demo -d sluice "$@"; }

variables() {
  printf '%s\n' -v "contact_points=$CONTACT_POINTS" -v "tpch=$TPCH_DIR" -v "events=$DEMO_DIR/events"
}

up() {
  build
  start_cassandra
  sample_data
  start_service
  local options; mapfile -t options < <(variables)
  say "5. Loading into Cassandra through Sluice"
  # COPY adds files to a folder; a second run must not add the events a second time.
  rm -rf "$DEMO_DIR/events"
  psql_ "${options[@]}" -f "$HERE/load.sql"
  say "6. Raw events in Parquet, joined with campaigns and roll-ups in Cassandra"
  psql_ "${options[@]}" -f "$HERE/ask.sql"
  say "The service goes on."
  cat <<TEXT
  connect    psql -h 127.0.0.1 -p $PG_PORT -d sluice
             try: SELECT c_mktsegment, count(*) FROM cass.demo.customer c JOIN orders o ON c.c_custkey = o.o_custkey GROUP BY 1;
  look       http://127.0.0.1:$HTTP_PORT/
  stop       make demo-stop
  clean up   make demo-clean
TEXT
}

stop() {
  local pid waited_s=0
  if pid=$(service_pid); then
    kill "$pid"
    while service_pid >/dev/null; do
      [ "$waited_s" -lt "$STOP_TIMEOUT_S" ] || fail "the service (process $pid) does not end" "kill -9 $pid"
      sleep 1
      waited_s=$((waited_s + 1))
    done
    echo "the service has stopped"
  else
    echo "the service is not running"
  fi
  rm -f "$PID_FILE"
  [ -n "${SLUICE_CASSANDRA:-}" ] || "$CLUSTER" down
}

clean() {
  stop
  rm -rf "$DEMO_DIR"
  [ -n "${SLUICE_CASSANDRA:-}" ] || "$CLUSTER" clean
}

case ${1:-} in
  up) up ;;
  stop) stop ;;
  clean) clean ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" ;;
esac
