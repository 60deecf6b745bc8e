#!/usr/bin/env bash
# Measures Sluice beside its peers in one run: ratios on the terminal and in results beside this script.
#
#   bench.sh            everything; about half an hour on two cores at scale 1, without the build
#
#   tpch        the 22 queries over Parquet: Sluice embedded and as a cluster, DataFusion in one process, DuckDB
#   cassandra   orders in three real nodes, written from Parquet: writes, scans, joins, point reads and a backup; beside
#               the plain scylla driver (the limit), and Spark 3.5 with its Cassandra connector and Trino (the peers);
#               peak memory of an executor that reads a table larger than its budget
#   memory      peak memory of the coordinator after a result of the whole lineitem, and after one five times as large
#
# Peers that are not to be had are skipped, with a line that says why. What was started is stopped in the end.
#
#   BENCH_ONLY             parts to run, separated by commas (default: tpch,cassandra,memory)
#   BENCH_SF               TPC-H scale factor of tpch (1)
#   BENCH_MEMORY_SF        TPC-H scale factor of memory, of which five times as much is read as well (0.2)
#   BENCH_CASSANDRA_SF     the same for the table in Cassandra (1: 1.5 million rows)
#   BENCH_CASSANDRA        what cassandra measures (write,scan,keys,join,point,backup,memory); without write the tables
#                          are loaded only if their rows are not there
#   BENCH_RUNS             runs of each query, of which the best counts (3)
#   BENCH_PEER_RUNS        the same for Spark and Trino (1)
#   BENCH_PEERS_WRITE_ALL=1   have Spark and Trino write all of orders too, not a fifth only
#   BENCH_SERVE_FLAGS      flags of the embedded service (--executors 3)
#   BENCH_EXECUTOR_MEMORY  budget of the executor whose peak memory is measured (96MB)
#   BENCH_SPARK=0, BENCH_TRINO=0   leave a peer out; BENCH_PEER_HEAP is the memory of each (2g)
#   BENCH_RESULTS          where results are written (results beside this script)
#   BENCH_SUBNET           first three parts of the addresses of the bench's own Cassandra nodes (127.0.2)
#   SLUICE_CASSANDRA       contact points of your own cluster (host:port,host:port); none is started then
#   SLUICE_BIN, PLAIN_DRIVER_BIN   programs to use instead of building them
#   SLUICE_CACHE_DIR       where data, jars and environments are kept (default: the user's cache folder, sluice)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CLUSTER=$HERE/../cassandra/cluster.sh
export SLUICE_CACHE_DIR=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
export SLUICE_CASSANDRA_DIR=$SLUICE_CACHE_DIR/bench/cassandra
export SLUICE_CASSANDRA_SUBNET=${BENCH_SUBNET:-127.0.2}
# The source tree stays clean.
export PYTHONDONTWRITEBYTECODE=1
BENCH_DIR=$SLUICE_CACHE_DIR/bench
RUN_DIR=$BENCH_DIR/run
SPARK_JARS=$BENCH_DIR/spark-jars
# The newest that runs on Java 24; later ones want 25.
TRINO_VERSION=476
TRINO_HOME=$BENCH_DIR/trino-$TRINO_VERSION
PARTS=${BENCH_ONLY:-tpch,cassandra,memory}
SF=${BENCH_SF:-1}
MEMORY_SF=${BENCH_MEMORY_SF:-0.2}
CASSANDRA_SF=${BENCH_CASSANDRA_SF:-1}
CASSANDRA_MEASURES=${BENCH_CASSANDRA:-write,scan,keys,join,point,backup,memory}
EXECUTOR_MEMORY=${BENCH_EXECUTOR_MEMORY:-96MB}
RESULTS=${BENCH_RESULTS:-$HERE/results}
SERVE_FLAGS=${BENCH_SERVE_FLAGS:---executors 3}
NODE_COUNT=3
START_TIMEOUT_S=120
STOP_TIMEOUT_S=20
CORES=$(getconf _NPROCESSORS_ONLN)

# shellcheck source=sql-tests/processes.sh
. "$HERE/../processes.sh"
fail() { printf 'bench: error: %s\nbench: hint: %s\n' "$1" "$2" >&2; exit 1; }

OWN_CASSANDRA=
EXECUTOR_FLAGS=()

clean_up() {
  local status=$?
  trap - EXIT
  trap '' HUP INT TERM
  stop_processes
  [ -z "$OWN_CASSANDRA" ] || "$CLUSTER" down 8>&- || true
  if [ "$status" = 0 ]; then rm -rf "$RUN_DIR"; else echo "bench: logs and parts of this run: $RUN_DIR" >&2; fi
  exit "$status"
}

# In the background with a wait, because a trap runs at once only while the shell waits.
interruptibly() {
  "$@" 8>&- &
  wait $!
}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

build() {
  # One after the other: together they would want other features of what they share, and build it all again.
  if [ -z "${SLUICE_BIN:-}" ]; then
    say "Building sluice (the first release build takes a while)"
    (cd "$ROOT" && cargo build --release --locked -p sluice-server)
  fi
  if wants cassandra && [ -z "${PLAIN_DRIVER_BIN:-}" ]; then
    (cd "$ROOT" && cargo build --release --locked -p sluice-sql-tests --bin plain_driver)
  fi
  local release=${CARGO_TARGET_DIR:-$ROOT/target}/release
  SLUICE_BIN=$(absolute "${SLUICE_BIN:-$release/sluice}")
  PLAIN_DRIVER_BIN=$(absolute "${PLAIN_DRIVER_BIN:-$release/plain_driver}")
  "$SLUICE_BIN" --version | grep sluice >/dev/null || fail "$SLUICE_BIN is not Sluice" "check SLUICE_BIN"
}

# The folder with TPC-H at scale $1 as Parquet, made once.
sample_data() {
  local dir=$BENCH_DIR/tpch-sf$1
  if [ ! -f "$dir/.complete" ]; then
    "$SLUICE_BIN" sample-data --scale-factor "$1" --output-dir "$dir" >&2
    touch "$dir/.complete"
  fi
  printf '%s' "$dir"
}

# Waits until the service at port $2, process $3, knows $4 executors.
wait_for() {
  local name=$1 port=$2 pid=$3 executor_count=$4 waited_s=0 found
  while true; do
    found=$(PGCONNECT_TIMEOUT=5 psql -XAtq -h 127.0.0.1 -p "$port" -U bench -d sluice \
      -c 'SELECT count(*) FROM system.executors' 2>/dev/null || true)
    if [ "${found:-0}" -ge "$executor_count" ]; then return; fi
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 20 "$RUN_DIR/$name.log" >&2
      fail "the $name service ended" "its words are above"
    fi
    [ "$waited_s" -lt "$START_TIMEOUT_S" ] ||
      fail "the $name service had ${found:-no} executors after $START_TIMEOUT_S s" "its log: $RUN_DIR/$name.log"
    sleep 1
    waited_s=$((waited_s + 1))
  done
}

# Starts both layouts, the cluster with an executor for each address given, with the flags in EXECUTOR_FLAGS; LAYOUTS
# becomes bench.py's arguments.
start_services() {
  local ports vcores index=0 host
  read -ra ports < <(free_ports 7)
  # Words of a list of flags.
  # shellcheck disable=SC2086
  start embedded "$SLUICE_BIN" serve --data-dir "$RUN_DIR/embedded" --grace-seconds 2 $SERVE_FLAGS \
    --pg-port "${ports[0]}" --flight-port "${ports[1]}" --http-port "${ports[2]}"
  EMBEDDED_PID=$PID
  start coordinator "$SLUICE_BIN" coordinator --data-dir "$RUN_DIR/coordinator" --grace-seconds 2 \
    --pg-port "${ports[3]}" --flight-port "${ports[4]}" --http-port "${ports[5]}" --scheduler-port "${ports[6]}"
  COORDINATOR_PID=$PID
  vcores=$((CORES / $#))
  [ "$vcores" -gt 0 ] || vcores=1
  EXECUTOR_PIDS=()
  for host in "$@"; do
    start "executor-$index" "$SLUICE_BIN" executor --data-dir "$RUN_DIR/executor-$index" --grace-seconds 2 \
      --coordinator "127.0.0.1:${ports[6]}" --host "$host" --vcores "$vcores" \
      ${EXECUTOR_FLAGS[@]+"${EXECUTOR_FLAGS[@]}"}
    EXECUTOR_PIDS+=("$PID")
    index=$((index + 1))
  done
  wait_for embedded "${ports[0]}" "$EMBEDDED_PID" 1
  wait_for coordinator "${ports[3]}" "$COORDINATOR_PID" $#
  LAYOUTS=(--embedded-port "${ports[0]}" "--embedded-layout=serve $SERVE_FLAGS"
    --cluster-port "${ports[3]}"
    "--cluster-layout=$# executors with $vcores vcores each${EXECUTOR_FLAGS[*]:+ ${EXECUTOR_FLAGS[*]}}")
}

# Executors of a cluster whose host does not matter: as many as there are cores for, up to two.
local_hosts() { if [ "$CORES" -gt 1 ]; then echo 127.0.0.1 127.0.0.1; else echo 127.0.0.1; fi; }

# Runs a part of bench.py. A part with failures does not keep the others from running.
measure() {
  interruptibly "$PYTHON" "$HERE/bench.py" "$@" "${LAYOUTS[@]}" --output "$RUN_DIR/$1.json" || FAILED+=("$1")
  stop_processes
}

# A JDK of a version from $1 to $2; a JRE would not do, because Spark is run from its source.
find_jdk() {
  local candidate version
  for candidate in "${JAVA_HOME:-/nonexistent}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    if [ ! -x "$candidate" ]; then continue; fi
    version=$("$candidate" -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge "$1" ] && [ "$version" -le "$2" ] && [ -x "${candidate%java}javac" ]; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# PEERS becomes bench.py's arguments for Spark, or for why there is none.
prepare_spark() {
  local java
  if [ "${BENCH_SPARK:-1}" = 0 ]; then PEERS+=(--spark-skipped "BENCH_SPARK=0"); return; fi
  if ! java=$(find_jdk 17 17); then PEERS+=(--spark-skipped "no JDK 17"); return; fi
  if [ ! -f "$SPARK_JARS/.complete" ]; then
    if ! command -v mvn >/dev/null; then PEERS+=(--spark-skipped "Maven (mvn) is not installed"); return; fi
    say "Getting Spark and its Cassandra connector by Maven (about 155 jars, 230 MB, once)"
    if ! interruptibly mvn -B -f "$HERE/spark/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$SPARK_JARS" \
      >"$BENCH_DIR/maven.log" 2>&1; then
      PEERS+=(--spark-skipped "Maven could not get its jars")
      return
    fi
    touch "$SPARK_JARS/.complete"
  fi
  PEERS+=(--spark-jars "$SPARK_JARS" --spark-java "$java")
}

# The same for Trino. Of its server only what is needed here is kept: the core and two of 47 connectors.
prepare_trino() {
  local java server=trino-server-$TRINO_VERSION
  if [ "${BENCH_TRINO:-1}" = 0 ]; then PEERS+=(--trino-skipped "BENCH_TRINO=0"); return; fi
  if ! java=$(find_jdk 24 25); then PEERS+=(--trino-skipped "no JDK 24 or 25"); return; fi
  if [ ! -f "$TRINO_HOME/.complete" ]; then
    if ! command -v mvn >/dev/null; then PEERS+=(--trino-skipped "Maven (mvn) is not installed"); return; fi
    say "Getting Trino by Maven (820 MB, once)"
    rm -rf "$TRINO_HOME"
    mkdir -p "$TRINO_HOME/plugin"
    if ! interruptibly mvn -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
      "-Dartifact=io.trino:trino-server:$TRINO_VERSION:tar.gz" "-DoutputDirectory=$RUN_DIR" \
      >"$BENCH_DIR/maven.log" 2>&1; then
      PEERS+=(--trino-skipped "Maven could not get its server")
      return
    fi
    # All of it, because the archive has links from one connector to another.
    interruptibly tar xzf "$RUN_DIR/$server.tar.gz" -C "$RUN_DIR"
    mv "$RUN_DIR/$server/lib" "$TRINO_HOME/"
    mv "$RUN_DIR/$server/plugin/cassandra" "$RUN_DIR/$server/plugin/hive" "$TRINO_HOME/plugin/"
    rm -rf "${RUN_DIR:?}/$server" "$RUN_DIR/$server.tar.gz" "$TRINO_HOME/plugin/hive/hdfs"
    touch "$TRINO_HOME/.complete"
  fi
  PEERS+=(--trino-home "$TRINO_HOME" --trino-java "$java")
}

bench_tpch() {
  say "TPC-H at scale $SF over Parquet"
  local data; data=$(sample_data "$SF")
  # shellcheck disable=SC2046
  start_services $(local_hosts)
  measure tpch --scale "$SF" --runs "${BENCH_RUNS:-3}" --data "$data" --queries "$HERE/../tpch"
}

bench_cassandra() {
  say "Cassandra: orders at scale $CASSANDRA_SF"
  local data contact_points hosts=() arguments=() node pid measures
  data=$(sample_data "$CASSANDRA_SF")
  PEERS=(--peer-heap "${BENCH_PEER_HEAP:-2g}" --peer-runs "${BENCH_PEER_RUNS:-1}")
  prepare_spark
  prepare_trino
  if [ -n "${SLUICE_CASSANDRA:-}" ]; then
    contact_points=$SLUICE_CASSANDRA
    read -ra hosts < <(local_hosts)
  else
    OWN_CASSANDRA=yes
    interruptibly "$CLUSTER" up "$NODE_COUNT"
    for node in $(seq 1 "$NODE_COUNT"); do hosts+=("$SLUICE_CASSANDRA_SUBNET.$node"); done
    contact_points=$(printf '%s:9042,' "${hosts[@]}")
    contact_points=${contact_points%,}
    arguments=(--own-nodes "$NODE_COUNT")
    VERSIONS+=(--version "cassandra=$(sed -n 's/^VERSION=//p' "$CLUSTER")")
  fi
  [ -z "${BENCH_PEERS_WRITE_ALL:-}" ] || arguments+=(--peers-write-all)
  if [ -x "$PLAIN_DRIVER_BIN" ]; then arguments+=(--plain-driver "$PLAIN_DRIVER_BIN"); fi
  measures=$(tr ',' '\n' <<<"${CASSANDRA_MEASURES// /}" | sed '/^memory$/d' | paste -sd, -)
  if [ -n "$measures" ]; then
    start_services "${hosts[@]}"
    measure cassandra --scale "$CASSANDRA_SF" --runs "${BENCH_RUNS:-3}" --data "$data" --scratch "$RUN_DIR" \
      --contact-points "$contact_points" --cluster-script "$CLUSTER" --measures "$measures" \
      "${arguments[@]}" "${PEERS[@]}"
  fi
  if [[ ",$CASSANDRA_MEASURES," == *,memory,* ]]; then
    say "Cassandra: peak memory of an executor with $EXECUTOR_MEMORY"
    EXECUTOR_FLAGS=(--memory "$EXECUTOR_MEMORY")
    start_services "${hosts[0]}"
    EXECUTOR_FLAGS=()
    measure cassandra_memory --scale "$CASSANDRA_SF" --scratch "$RUN_DIR" --contact-points "$contact_points" \
      --executor-pid "${EXECUTOR_PIDS[0]}"
  fi
  if [ -n "$OWN_CASSANDRA" ]; then
    "$CLUSTER" down 8>&-
    OWN_CASSANDRA=
  fi
}

bench_memory() {
  say "Memory: results of lineitem at scale $MEMORY_SF"
  local data; data=$(sample_data "$MEMORY_SF")
  # shellcheck disable=SC2046
  start_services $(local_hosts)
  measure memory --scale "$MEMORY_SF" --data "$data" --embedded-pid "$EMBEDDED_PID" --coordinator-pid "$COORDINATOR_PID"
}

main() {
  local part
  for part in ${PARTS//,/ }; do
    [[ " tpch cassandra memory " == *" $part "* ]] ||
      fail "there is no part '$part'" "parts are tpch, cassandra, memory"
  done
  mkdir -p "$BENCH_DIR"
  if command -v flock >/dev/null; then
    exec 8>"$BENCH_DIR/lock"
    flock -n 8 || fail "another bench is running" "wait for it: two would measure each other"
  fi
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap clean_up EXIT
  rm -rf "$RUN_DIR"
  mkdir -p "$RUN_DIR"
  build
  PYTHON=$("$HERE/../clients/venv.sh" "$HERE/requirements.txt")
  VERSIONS=(--version "sluice=$("$SLUICE_BIN" --version | cut -d' ' -f2)")
  if commit=$(git -C "$ROOT" describe --always --dirty=+ 2>/dev/null); then VERSIONS+=(--version "commit=$commit"); fi
  FAILED=()
  for part in tpch cassandra memory; do
    if wants "$part"; then "bench_$part"; fi
  done
  local parts=("$RUN_DIR"/*.json)
  [ -e "${parts[0]}" ] || fail "no part has results" "what went wrong is told above"
  "$PYTHON" "$HERE/bench.py" report --results "$RESULTS" "${VERSIONS[@]}" "${parts[@]}"
  [ ${#FAILED[@]} -eq 0 ] || fail "failures in ${FAILED[*]}" "they are marked FAILED above and in $RESULTS/latest.md"
}

case ${1:-} in
  "") main ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" ;;
esac
