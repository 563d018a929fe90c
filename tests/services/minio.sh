#!/usr/bin/env bash
# One real MinIO server on loopback, one drive, in a directory of its own.
#   minio.sh up    --dir DIR [--policy] [--owner PID]
#                                   starts it and waits until it serves; port and data stay the same from start to start; with
#                                   --owner it ends when that process does; with --policy every request is first put to
#                                   policy.py, which refuses the actions listed in DIR/deny (one a line, `s3:PutObject`) and
#                                   writes what it was asked to DIR/asked (`action key`)
#   minio.sh down  --dir DIR        SIGTERM
#   minio.sh kill  --dir DIR        SIGKILL
#   minio.sh stop  --dir DIR        SIGSTOP: a store that hangs
#   minio.sh cont  --dir DIR        SIGCONT
#   minio.sh reset --dir DIR [...]  down, data dropped, up
#   minio.sh where                  prints the path of the binary, built or not
#   minio.sh build                  only fills the cache: MinIO's releases are source only, so it is built from its Go module
# `up` and `reset` print DIR/env: endpoint, pid and keys as KEY=VALUE lines.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

# Pinned: the last revision of the community edition.
revision=v0.0.0-20260212201848-7aac2a2c5b7c
user=catchment password=catchment-secret
bin=$cache/minio/$revision/minio

cmd=${1:-help}
shift || true
dir= owner= policy=
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2; shift ;;
    --owner) owner=$2; shift ;;
    --policy) policy=1 ;;
    *) die "unknown argument $1" ;;
  esac
  shift
done

build() {
  [ -x "$bin" ] && return
  local to
  to=$(dirname "$bin")
  mkdir -p "$to"
  GOBIN=$to/new GOCACHE=$cache/minio/gocache GOFLAGS=${GOFLAGS:-} CGO_ENABLED=0 \
    "${CATCHMENT_GO:-go}" install -trimpath -ldflags "-s -w" "github.com/minio/minio@$revision" >&2
  mv "$to/new/minio" "$bin"
  rm -rf "$to/new" "$cache/minio/gocache" # a gigabyte that nobody needs again
}

launch() {
  local port plugin=()
  port=$(cat "$dir/port")
  mkdir -p "$dir/data"
  [ -z "$policy" ] || plugin=(MINIO_POLICY_PLUGIN_URL="http://$(policy_address)/")
  : > "$dir/minio.log"
  env MINIO_ROOT_USER=$user MINIO_ROOT_PASSWORD=$password MINIO_UPDATE=off MINIO_BROWSER=off MINIO_CI_CD=1 ${plugin[@]+"${plugin[@]}"} \
    nohup "$bin" server --quiet --address "127.0.0.1:$port" "$dir/data" >> "$dir/minio.log" 2>&1 < /dev/null &
  local pid=$!
  echo $pid > "$dir/pid"
  for _ in $(seq 600); do
    ready "$port" && return 0
    running $pid || return 1
    sleep 0.05
  done
  return 1
}

# ready PORT: asks the health check, without a client program.
ready() {
  (
    exec 3<> "/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET /minio/health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r -t 2 -u 3 status
    [[ $status == *" 200 "* ]]
  ) 2> /dev/null
}

# Starts the policy server beside this one, with an owner so that it ends with it, and prints its address.
policy_address() {
  if ! alive "$dir/policy"; then
    mkdir -p "$dir/policy"
    touch "$dir/deny"
    rm -f "$dir/policy/address"
    nohup python3 "$here/policy.py" --deny "$dir/deny" --asked "$dir/asked" --address-file "$dir/policy/address" \
      > "$dir/policy/log" 2>&1 < /dev/null &
    echo $! > "$dir/policy/pid"
    for _ in $(seq 200); do [ -s "$dir/policy/address" ] && break; sleep 0.05; done
  fi
  cat "$dir/policy/address"
}

up() {
  mkdir -p "$dir"
  if ! alive "$dir"; then
    once "$cache/minio.lock" build
    [ ! -d "$dir/policy" ] || policy=1
    local fresh=
    [ -e "$dir/port" ] || { fresh=1; free_ports 1 | tr -d ' ' > "$dir/port"; }
    if ! launch; then
      end "$dir" KILL 1
      [ -n "$fresh" ] || { tail -n 20 "$dir/minio.log" >&2; die "minio did not start"; }
      free_ports 1 | tr -d ' ' > "$dir/port"
      launch || { tail -n 20 "$dir/minio.log" >&2; die "minio did not start"; }
    fi
    cat > "$dir/env" <<P
MINIO_PID=$(cat "$dir/pid")
MINIO_DIR=$dir
MINIO_ENDPOINT=http://127.0.0.1:$(cat "$dir/port")
MINIO_ACCESS_KEY=$user
MINIO_SECRET_KEY=$password
P
    watch_owner "$dir" "$owner"
  fi
  cat "$dir/env"
}

down() {
  end "$dir" "$1" 10
  [ ! -d "$dir/policy" ] || [ -n "${2:-}" ] || end "$dir/policy" TERM 2
}

if [ "$cmd" != build ] && [ "$cmd" != where ] && [ "$cmd" != help ]; then
  [ -n "$dir" ] || die "--dir is missing"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
fi
case $cmd in
  up) up ;;
  down) down TERM ;;
  kill) down KILL ;;
  stop) alive "$dir" && kill -STOP "$(cat "$dir/pid")" ;;
  cont) alive "$dir" && kill -CONT "$(cat "$dir/pid")" ;;
  reset)
    down TERM
    rm -rf "$dir/data"
    up
    ;;
  where) echo "$bin" ;;
  build) once "$cache/minio.lock" build ;;
  *)
    sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
