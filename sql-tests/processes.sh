# For scripts that measure a service of their own: starting its processes and stopping them. To be sourced; the script
# sets RUN_DIR (logs), STOP_TIMEOUT_S, PARTS (what is to run, separated by commas) and PYTHON.

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
wants() { [[ ",${PARTS// /,}," == *",$1,"* ]]; }

# Runs a command in the background and sets PID; nothing of this shell stays open in it but its log, no lock on 8 either.
start() {
  local name=$1; shift
  (cd "$RUN_DIR" && exec env -u SLUICE_CONFIG "$@") >"$RUN_DIR/$name.log" 2>&1 </dev/null 8>&- &
  PID=$!
}

# Ends what runs in the background. The shell's list of jobs names only processes that are still ours.
stop_processes() {
  local pid waited_s=0
  for pid in $(jobs -rp); do kill -TERM "$pid" 2>/dev/null || true; done
  while [ -n "$(jobs -rp)" ]; do
    if [ "$waited_s" -ge "$STOP_TIMEOUT_S" ]; then
      for pid in $(jobs -rp); do kill -KILL "$pid" 2>/dev/null || true; done
    fi
    sleep 1
    waited_s=$((waited_s + 1))
  done
}

# So many ports that were free a moment ago, on a line.
free_ports() {
  "$PYTHON" -c 'import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))' "$1"
}
