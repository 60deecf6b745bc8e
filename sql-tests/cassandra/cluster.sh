#!/usr/bin/env bash
# A real Apache Cassandra on loopback addresses, one java process a node, for tests, the demo and the bench.
#
#   cluster.sh up [N]          start N nodes (default 3) on 127.0.0.1 .. 127.0.0.N, port 9042; those already up stay up
#   cluster.sh down            stop every node; the data stay
#   cluster.sh status          one line a node
#   cluster.sh clean           stop every node and delete its data (the jars stay)
#   cluster.sh stop-node I     stop node I in good order
#   cluster.sh kill-node I     kill node I, as a crash would
#   cluster.sh start-node I    start node I again
#   cluster.sh pause-node I    stop node I's process where it is: it holds its connections and answers nothing
#   cluster.sh resume-node I   let it go on
#   cluster.sh nodetool I ...  Cassandra's nodetool against node I
#
# Needs a JDK or JRE 17 and Maven, which copies Cassandra's jars from its repository once. No root, no container.
#
#   SLUICE_CACHE_DIR         where the jars and the default cluster live (default: the user's cache folder, sluice)
#   SLUICE_CASSANDRA_DIR     the folder of this cluster's data, logs and process ids (default: <cache>/cassandra/cluster)
#   SLUICE_CASSANDRA_SUBNET  first three parts of the nodes' addresses (default 127.0.0), so that several clusters can run
#   SLUICE_CASSANDRA_HEAP    heap of each node (default 512M)
#   SLUICE_CASSANDRA_TLS     1: clients must use TLS; client: and show a certificate. The files are in tls/ of the
#                            cluster's folder: ca.pem, client.pem, client.key, and other-ca.pem, which signed nothing
#   SLUICE_CASSANDRA_AUTH    1: clients must log in; cassandra, with the password cassandra, may do everything
#   SLUICE_CASSANDRA_YAML    lines that are added to every cassandra.yaml
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=5.0.5
CACHE_DIR=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/cassandra
CLUSTER_DIR=${SLUICE_CASSANDRA_DIR:-$CACHE_DIR/cluster}
SUBNET=${SLUICE_CASSANDRA_SUBNET:-127.0.0}
HEAP=${SLUICE_CASSANDRA_HEAP:-512M}
TLS=${SLUICE_CASSANDRA_TLS:-}
AUTH=${SLUICE_CASSANDRA_AUTH:-}
YAML=${SLUICE_CASSANDRA_YAML:-}
# Of key stores that only tests read.
STORE_PASSWORD=cassandra
JARS_DIR=$CACHE_DIR/jars-$VERSION
CQL_PORT=9042
# A cold start takes about 10 s on an idle machine; a machine that compiles at the same time takes many times that.
MOST_STARTS=5
START_TIMEOUT_S=240
STOP_TIMEOUT_S=30

say() { printf 'cassandra: %s\n' "$*" >&2; }
fail() { say "error: $1"; [ $# -lt 2 ] || say "hint: $2"; exit 1; }

address() { printf '%s.%s' "$SUBNET" "$1"; }
node_dir() { printf '%s/node%s' "$CLUSTER_DIR" "$1"; }
jmx_port() { local third=${SUBNET##*.}; printf '%s' $((7100 + third * 10 + $1)); }

# The process id of node $1 if it is alive and is ours; the pid file alone could name somebody else's process by now.
node_pid() {
  local pid_file; pid_file=$(node_dir "$1")/pid
  [ -f "$pid_file" ] || return 1
  local pid; pid=$(cat "$pid_file")
  [[ $(ps -ww -o args= -p "$pid" 2>/dev/null || true) == *"-Dsluice.node=$(node_dir "$1") "* ]] || return 1
  printf '%s' "$pid"
}

known_nodes() {
  local dir
  for dir in "$CLUSTER_DIR"/node[0-9]*; do
    if [ -d "$dir" ]; then printf '%s\n' "${dir##*/node}"; fi
  done | sort -n
}

tcp_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Whether node $1 takes clients. With TLS its certificate has to do, because this script speaks no more of it.
node_answers() {
  if [ -n "$TLS" ]; then
    local answer
    answer=$(timeout 5 openssl s_client -connect "$(address "$1"):$CQL_PORT" </dev/null 2>/dev/null || true)
    [[ $answer == *'BEGIN CERTIFICATE'* ]]
  else
    cql_answers "$(address "$1")"
  fi
}

# Sends OPTIONS of the native protocol v4 and wants SUPPORTED back: the node speaks CQL, not only TCP.
cql_answers() {
  (
    exec 3<>"/dev/tcp/$1/$CQL_PORT" || exit 1
    printf '\x04\x00\x00\x00\x05\x00\x00\x00\x00' >&3
    [ "$(timeout 5 head -c 5 <&3 | od -An -tx1 | tr -d ' \n')" = 8400000006 ]
  ) 2>/dev/null
}

# How many other nodes the node at address $1 knows: STARTUP, then `SELECT count(*)`, whose one bigint ends the answer.
peer_count() {
  (
    local query='SELECT count(*) FROM system.peers_v2' header length
    exec 3<>"/dev/tcp/$1/$CQL_PORT" || exit 1
    printf '\x04\x00\x00\x01\x01\x00\x00\x00\x16\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0' >&3
    timeout 5 head -c 9 <&3 >/dev/null
    printf "\\x04\\x00\\x00\\x02\\x07\\x00\\x00\\x00\\x$(printf %02x $((${#query} + 7)))" >&3
    printf "\\x00\\x00\\x00\\x$(printf %02x ${#query})%s\\x00\\x01\\x00" "$query" >&3
    header=$(timeout 5 head -c 9 <&3 | od -An -tx1 | tr -d ' \n')
    [ "${header:8:2}" = 08 ] || exit 1
    length=$((16#${header:10:8}))
    printf '%d' "0x$(timeout 5 head -c "$length" <&3 | tail -c 1 | od -An -tx1 | tr -d ' \n')"
  ) 2>/dev/null
}

find_java() {
  local candidate
  for candidate in "${JAVA_HOME:-/nonexistent}/bin/java" "$(command -v java || true)" \
    /usr/lib/jvm/*17*/bin/java /Library/Java/JavaVirtualMachines/*17*/Contents/Home/bin/java; do
    if [ -x "$candidate" ] && [[ $("$candidate" -version 2>&1 || true) == *'version "17'* ]]; then
      printf '%s' "$candidate"
      return
    fi
  done
  fail "no Java 17 found (Cassandra $VERSION does not run on a newer one)" \
    "install it (Debian: apt-get install openjdk-17-jdk-headless) or set JAVA_HOME"
}

fetch_jars() {
  [ -f "$JARS_DIR/.complete" ] && return
  command -v mvn >/dev/null || fail "Maven (mvn) is not installed; it copies Cassandra's jars" \
    "install it (Debian: apt-get install maven)"
  mkdir -p "$JARS_DIR"
  local log=$CACHE_DIR/maven.log jar_count shown=-1
  say "getting Cassandra $VERSION by Maven (about 100 jars, 66 MB, once)"
  mvn -B -f "$HERE/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$JARS_DIR" >"$log" 2>&1 &
  local mvn_pid=$!
  while kill -0 "$mvn_pid" 2>/dev/null; do
    sleep 2
    jar_count=$(grep -c '^Downloaded from .*\.jar' "$log" || true)
    if [ "$jar_count" -ge $((shown + 20)) ]; then
      say "  $jar_count jars so far"
      shown=$jar_count
    fi
  done
  wait "$mvn_pid" || { grep -m 5 ERROR "$log" >&2 || true; fail "Maven could not get Cassandra's jars" "its log: $log"; }
  touch "$JARS_DIR/.complete"
  say "  all $(find "$JARS_DIR" -name '*.jar' | wc -l | tr -d ' ') jars are here"
}

# A key and a certificate $1.key and $1.pem with subject $2 and extensions $3, signed by the authority ca.
make_certificate() {
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -days 365 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile <(printf '%s\n' "$3") \
    -out "$1.pem" 2>/dev/null
  rm "$1.csr"
}

# The authorities, the client's certificate, and the store of whom the nodes trust.
make_tls_files() {
  local dir=$CLUSTER_DIR/tls authority
  [ -f "$dir/.complete" ] && return
  command -v openssl >/dev/null || fail "openssl is not installed; it makes certificates" "Debian: apt-get install openssl"
  mkdir -p "$dir"
  (
    cd "$dir"
    for authority in ca other-ca; do
      openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=sluice test $authority" \
        -keyout "$authority.key" -out "$authority.pem" 2>/dev/null
    done
    make_certificate client client extendedKeyUsage=clientAuth
    rm -f truststore.p12
    "$(dirname "$(find_java)")/keytool" -importcert -noprompt -alias ca -file ca.pem -keystore truststore.p12 \
      -storetype PKCS12 -storepass "$STORE_PASSWORD" 2>/dev/null
  )
  touch "$dir/.complete"
}

# Node $1's certificate is for its address.
tls_config() {
  local dir=$CLUSTER_DIR/tls
  make_tls_files
  (
    cd "$dir"
    [ -f "node$1.p12" ] || {
      make_certificate "node$1" "node$1" "subjectAltName=IP:$(address "$1")"
      openssl pkcs12 -export -name node -inkey "node$1.key" -in "node$1.pem" -out "node$1.p12" \
        -passout "pass:$STORE_PASSWORD"
    }
  )
  cat <<END

client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: $([ "$TLS" = client ] && echo true || echo false)
  store_type: PKCS12
  keystore: $dir/node$1.p12
  keystore_password: $STORE_PASSWORD
  truststore: $dir/truststore.p12
  truststore_password: $STORE_PASSWORD
END
}

write_config() {
  local dir authenticator=AllowAllAuthenticator; dir=$(node_dir "$1")
  [ -z "$AUTH" ] || authenticator=PasswordAuthenticator
  mkdir -p "$dir/conf" "$dir/logs"
  sed -e "s|@ADDRESS@|$(address "$1")|g" -e "s|@SEED@|$(address 1)|g" -e "s|@NODE_DIR@|$dir|g" \
    -e "s|@AUTHENTICATOR@|$authenticator|g" "$HERE/conf/cassandra.yaml.template" >"$dir/conf/cassandra.yaml"
  [ -z "$TLS" ] || tls_config "$1" >>"$dir/conf/cassandra.yaml"
  [ -z "$YAML" ] || printf '\n%s\n' "$YAML" >>"$dir/conf/cassandra.yaml"
  cp "$HERE/conf/cassandra-rackdc.properties" "$HERE/conf/logback.xml" "$dir/conf/"
}

# Waits until nobody listens on port $2 of node $1's address: a process that ends holds its ports for a moment.
wait_for_port() {
  local waited_s=0
  while tcp_open "$(address "$1")" "$2"; do
    [ "$waited_s" -lt "$STOP_TIMEOUT_S" ] || fail "$(address "$1"):$2 is in use by another process" \
      "stop it, or choose other addresses with SLUICE_CASSANDRA_SUBNET=127.0.1"
    sleep 1
    waited_s=$((waited_s + 1))
  done
}

launch() {
  local dir java port; dir=$(node_dir "$1"); java=$(find_java)
  for port in "$CQL_PORT" 7000; do wait_for_port "$1" "$port"; done
  write_config "$1"
  local options=() line
  while read -r line; do [ -z "$line" ] || options+=($line); done <"$HERE/conf/jdk17.options"
  # The lock of this script (descriptor 9) must not stay with the node.
  nohup setsid "$java" "-Dsluice.node=$dir" \
    "-Xms$HEAP" "-Xmx$HEAP" -Xss512k -XX:MaxDirectMemorySize=256M -XX:+UseSerialGC -XX:+AlwaysPreTouch -XX:+PerfDisableSharedMem \
    -XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true -Djdk.attach.allowAttachSelf=true \
    ${options[@]+"${options[@]}"} \
    "-Dcassandra.config=file:$dir/conf/cassandra.yaml" "-Dcassandra.storagedir=$dir" "-Dcassandra.logdir=$dir/logs" \
    "-Dlogback.configurationFile=logback.xml" "-Dcassandra.jmx.local.port=$(jmx_port "$1")" \
    -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=20000 \
    -Dcassandra.size_recorder_interval=10 -Dcassandra.superuser_setup_delay_ms=0 \
    -Dcassandra-foreground=yes \
    -cp "$dir/conf:$JARS_DIR/*" org.apache.cassandra.service.CassandraDaemon \
    >"$dir/logs/stdout.log" 2>&1 </dev/null 9>&- &
  printf '%s\n' "$!" >"$dir/pid"
}

wait_for_cql() {
  local waited_s=0 starts=1 dir; dir=$(node_dir "$1")
  until node_answers "$1"; do
    if ! node_pid "$1" >/dev/null; then
      # A node gives up if its seed does not answer at once, as on a machine that is busy.
      starts=$((starts + 1))
      if [ "$starts" -gt "$MOST_STARTS" ]; then
        tail -n 15 "$dir/logs/stdout.log" >&2 || true
        fail "node $1 ended while it started" "its logs: $dir/logs"
      fi
      say "node $1 ended while it started; starting it again after its last words:"
      tail -n 5 "$dir/logs/stdout.log" >&2 || true
      launch "$1"
    fi
    [ "$waited_s" -lt "$START_TIMEOUT_S" ] || fail "node $1 did not answer CQL within $START_TIMEOUT_S s" "its logs: $dir/logs"
    sleep 1
    waited_s=$((waited_s + 1))
  done
}

start_node() {
  fetch_jars
  mkdir -p "$(node_dir "$1")"
  local started_s=$SECONDS
  if node_pid "$1" >/dev/null; then
    if node_answers "$1"; then
      say "node $1 is up already on $(address "$1"):$CQL_PORT"
      return
    fi
  else
    say "node $1 starting on $(address "$1"):$CQL_PORT"
    launch "$1"
  fi
  wait_for_cql "$1"
  say "node $1 answers CQL after $((SECONDS - started_s)) s (process $(node_pid "$1"))"
}

# Every running node must know all the others before a client is told that the cluster is up.
wait_for_ring() {
  local node waited_s=0
  # Nobody may ask whom a node knows without logging in.
  [ -z "$TLS$AUTH" ] || return 0
  for node in $(seq 1 "$1"); do
    until [ "$(peer_count "$(address "$node")" || echo 0)" -ge $(($1 - 1)) ]; do
      [ "$waited_s" -lt 60 ] || fail "node $node does not know the $(($1 - 1)) others after 60 s" "its logs: $(node_dir "$node")/logs"
      sleep 1
      waited_s=$((waited_s + 1))
    done
  done
}

end_node() {
  local node=$1 signal=$2 pid waited_s=0
  if ! pid=$(node_pid "$node"); then
    rm -f "$(node_dir "$node")/pid"
    say "node $node is not running"
    return
  fi
  kill "-$signal" "$pid"
  while node_pid "$node" >/dev/null; do
    if [ "$waited_s" -ge "$STOP_TIMEOUT_S" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    [ "$waited_s" -lt $((STOP_TIMEOUT_S + 10)) ] || fail "node $node (process $pid) does not end"
    sleep 0.5
    waited_s=$((waited_s + 1))
  done
  rm -f "$(node_dir "$node")/pid"
  say "node $node $([ "$signal" = KILL ] && echo killed || echo stopped)"
}

status() {
  local node nodes state pid; nodes=$(known_nodes)
  [ -n "$nodes" ] || { echo "no cluster in $CLUSTER_DIR"; return 1; }
  for node in $nodes; do
    if ! pid=$(node_pid "$node"); then state=down pid=-
    elif node_answers "$node"; then state=up
    else state=starting; fi
    printf 'node %s  %s:%s  %-8s  process %s  %s\n' "$node" "$(address "$node")" "$CQL_PORT" "$state" "$pid" "$(node_dir "$node")"
  done
}

node_argument() {
  [[ ${1:-} =~ ^[1-9]$ ]] || fail "wanted the number of a node, 1 to 9, found '${1:-}'" "cluster.sh status lists the nodes"
  printf '%s' "$1"
}

lock() {
  mkdir -p "$CLUSTER_DIR"
  command -v flock >/dev/null || return 0
  exec 9>"$CLUSTER_DIR/lock"
  flock -w 600 9 || fail "another cluster.sh is at work on $CLUSTER_DIR"
}

main() {
  local command=${1:-help} node
  [ $# -eq 0 ] || shift
  case $command in
    up)
      local node_count=${1:-3}
      node_count=$(node_argument "$node_count")
      lock
      for node in $(seq 1 "$node_count"); do start_node "$node"; done
      wait_for_ring "$node_count"
      say "$node_count nodes are up; contact points $(for node in $(seq 1 "$node_count"); do printf '%s:%s ' "$(address "$node")" "$CQL_PORT"; done)"
      ;;
    down)
      lock
      for node in $(known_nodes | sort -rn); do end_node "$node" TERM; done
      ;;
    clean)
      lock
      for node in $(known_nodes | sort -rn); do end_node "$node" KILL; done
      for node in $(known_nodes); do rm -rf "$(node_dir "$node")"; done
      rm -rf "$CLUSTER_DIR/tls"
      say "data deleted from $CLUSTER_DIR"
      ;;
    status) status ;;
    stop-node) node=$(node_argument "${1:-}"); lock; end_node "$node" TERM ;;
    kill-node) node=$(node_argument "${1:-}"); lock; end_node "$node" KILL ;;
    pause-node) node=$(node_argument "${1:-}"); kill -STOP "$(node_pid "$node")" ;;
    resume-node) node=$(node_argument "${1:-}"); kill -CONT "$(node_pid "$node")" ;;
    start-node) node=$(node_argument "${1:-}"); lock; start_node "$node" ;;
    nodetool)
      node=$(node_argument "${1:-}"); shift
      local options=() line
      while read -r line; do [ -z "$line" ] || options+=($line); done <"$HERE/conf/jdk17.options"
      exec "$(find_java)" ${options[@]+"${options[@]}"} -Xmx128M "-Dcassandra.config=file:$(node_dir "$node")/conf/cassandra.yaml" \
        "-Dcassandra.logdir=$(node_dir "$node")/logs" -cp "$(node_dir "$node")/conf:$JARS_DIR/*" \
        org.apache.cassandra.tools.NodeTool -p "$(jmx_port "$node")" "$@"
      ;;
    help | -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" ;;
    *) fail "unknown command '$command'" "cluster.sh help" ;;
  esac
}

main "$@"
