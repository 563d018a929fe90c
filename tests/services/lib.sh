# Shared by the service scripts: where things lie, free ports, life and death by pid. Sourced, never run.
#
# A service lives in a directory of its own (--dir): its data, its log, its `pid`, its `ports` and its `env`, which is what
# the harness reads. Nothing here depends on a fixed port, and nothing is ever killed but by the pid that was started.

cache=${CATCHMENT_CACHE:-$HOME/.cache/catchment}

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# running PID: whether any thread of the process is left. A process that nobody has waited for stays as a zombie, and its main
# thread becomes one while others still run; so a zombie counts as gone only when it is the last thread.
running() {
  local stat tasks
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  [ "${stat%% *}" = Z ] || return 0
  tasks=$(ls "/proc/$1/task" 2>/dev/null | wc -l)
  [ "$tasks" -gt 1 ]
}

# alive DIR: whether the service of DIR runs. A pid file may outlive its process, and pids come again: the command line
# must name the directory too.
alive() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF -- "$1/"
}

# free_ports N: N loopback ports that nobody listens on, below the range that outgoing connections take theirs from.
free_ports() {
  local n=$1 port
  while [ "$n" -gt 0 ]; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    case " ${taken:-} " in *" $port "*) continue ;; esac
    taken="${taken:-} $port" n=$((n - 1))
  done
  echo "$taken"
}

# end DIR SIGNAL SECONDS: ends the service of DIR, by force once SECONDS have passed.
end() {
  local pid
  alive "$1" || { rm -f "$1/pid"; return 0; }
  pid=$(cat "$1/pid")
  kill "-$2" "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true # a frozen process takes no SIGTERM
  for _ in $(seq $(($3 * 20))); do
    running "$pid" || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  while running "$pid"; do sleep 0.05; done
  rm -f "$1/pid"
}

# watch_owner DIR PID: ends the service of DIR when process PID is gone, however it went, and drops its directory.
watch_owner() {
  [ -n "$2" ] || return 0
  (
    trap '' HUP INT
    exec > /dev/null 2>&1 < /dev/null
    served=$(cat "$1/pid")
    while running "$2"; do
      [ "$(cat "$1/pid" 2>/dev/null)" = "$served" ] || exit 0 # stopped or started anew: another watcher's business
      sleep 1
    done
    kill -KILL "$served"
    rm -rf "$1"
  ) &
  disown
}

# once LOCKFILE COMMAND...: runs COMMAND under a lock, so that two test runs do not fill the cache at the same time.
once() {
  mkdir -p "$(dirname "$1")"
  (
    flock 9
    shift
    "$@"
  ) 9> "$1"
}
