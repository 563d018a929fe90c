#!/usr/bin/env bash
# One real Apache Kafka node (KRaft, broker and controller in one process) on loopback, in a directory of its own.
#   kafka.sh up    --dir DIR [--version 4|3] [--heap 512m] [--set KEY=VALUE]... [--owner PID]
#                                   starts it and waits until it serves; formats the storage the first time; ports and data
#                                   stay the same from start to start; with --owner it ends when that process does
#   kafka.sh down  --dir DIR        SIGTERM: a clean shutdown
#   kafka.sh kill  --dir DIR        SIGKILL
#   kafka.sh stop  --dir DIR        SIGSTOP: a broker that hangs
#   kafka.sh cont  --dir DIR        SIGCONT
#   kafka.sh reset --dir DIR [...]  down, data dropped, up: an empty cluster with another id on the same ports
#   kafka.sh jars  [--version 4|3]  only fills the cache
# `up` and `reset` print DIR/env: listeners, pid, users and certificates as KEY=VALUE lines.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

cmd=${1:-help}
shift || true
dir= version= heap=512m owner= sets=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2 ;;
    --version) version=$2 ;;
    --heap) heap=$2 ;;
    --set) sets+=("$2") ;;
    --owner) owner=$2 ;;
    *) die "unknown argument $1" ;;
  esac
  shift 2
done

# The one account that SASL listeners know. Not a secret: it guards nothing but a test.
user=catchment password=catchment-secret

libs() { echo "$cache/kafka$version/$(cksum < "$here/kafka/pom$version.xml" | cut -d' ' -f1)"; }

collect_jars() {
  local to
  to=$(libs)
  [ -e "$to/.done" ] && return
  rm -rf "$cache/kafka$version"
  mkdir -p "$to"
  mvn -q -B -ntp -f "$here/kafka/pom$version.xml" -Dmaven.repo.local="$cache/m2" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$to" >&2
  touch "$to/.done"
}

choose_ports() {
  local p
  read -ra p <<< "$(free_ports 6)"
  cat > "$dir/ports" <<P
plain=${p[0]} sasl=${p[1]} sasl_ssl=${p[2]} ssl=${p[3]} mtls=${p[4]} controller=${p[5]} version=$version
P
}

# A PEM file as one property value. Given as files, brokers before 3.3 insist on an encrypted key.
pem() { awk '{ printf "%s\\n", $0 }' "$1"; }

write_config() {
  . "$dir/ports"
  local at=127.0.0.1 jaas=org.apache.kafka.common.security s m
  local clients="PLAINTEXT://$at:$plain,SASL://$at:$sasl,SASLSSL://$at:$sasl_ssl,TLS://$at:$ssl,MTLS://$at:$mtls"
  {
    cat <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$at:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=$clients,CONTROLLER://$at:$controller
advertised.listeners=$clients
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLSSL:SASL_SSL,TLS:SSL,MTLS:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.key=$(pem "$dir/certs/server.key")
ssl.keystore.certificate.chain=$(pem "$dir/certs/server.pem")
ssl.truststore.type=PEM
ssl.truststore.location=$dir/certs/ca.pem
listener.name.mtls.ssl.client.auth=required
log.dirs=$dir/data
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
num.partitions=1
num.network.threads=2
num.io.threads=4
message.max.bytes=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
P
    if [ "$version" = 4 ]; then
      cat <<P
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
log.initial.task.delay.ms=1000
P
    fi
    for s in sasl saslssl; do
      echo "listener.name.$s.plain.sasl.jaas.config=$jaas.plain.PlainLoginModule required user_$user=\"$password\";"
      for m in scram-sha-256 scram-sha-512; do
        echo "listener.name.$s.$m.sasl.jaas.config=$jaas.scram.ScramLoginModule required;"
      done
      # Without further settings this module takes unsecured tokens: signature "none", but a subject and a lifetime.
      echo "listener.name.$s.oauthbearer.sasl.jaas.config=$jaas.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
    done
    for s in ${sets[@]+"${sets[@]}"}; do echo "$s"; done
  } > "$dir/server.properties"
}

format_storage() {
  [ -e "$dir/data/meta.properties" ] && return
  local id scram=()
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AA' | tr -d '=')
  # Kafka keeps SCRAM accounts in its metadata; only a 4.x broker takes them at format time.
  if [ "$version" = 4 ]; then
    for m in SCRAM-SHA-256 SCRAM-SHA-512; do scram+=(--add-scram "$m=[name=$user,iterations=4096,password=$password]"); done
  fi
  mkdir -p "$dir/data"
  java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$(libs)/*" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" \
    ${scram[@]+"${scram[@]}"} > "$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; exit 1; }
}

write_env() {
  . "$dir/ports"
  cat > "$dir/env" <<P
KAFKA_VERSION=$version
KAFKA_PID=$(cat "$dir/pid")
KAFKA_DIR=$dir
KAFKA_PLAINTEXT=127.0.0.1:$plain
KAFKA_SASL=127.0.0.1:$sasl
KAFKA_SASL_SSL=127.0.0.1:$sasl_ssl
KAFKA_SSL=127.0.0.1:$ssl
KAFKA_MTLS=127.0.0.1:$mtls
KAFKA_USER=$user
KAFKA_PASSWORD=$password
KAFKA_CERTS=$dir/certs
P
}

# The light compiler and collector: a start costs 3 s of CPU instead of 5.5 s, and tests start many nodes on few cores.
# Starts the node; fails when it ends by itself (a port that somebody took) or does not serve within 90 s.
launch() {
  [ ! -e "$dir/kafka.log" ] || mv "$dir/kafka.log" "$dir/kafka.log.1"
  : > "$dir/kafka.log"
  nohup java "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" \
    -Dlog4j.configuration="file:$here/kafka/log4j.properties" -cp "$(libs)/*" kafka.Kafka "$dir/server.properties" \
    >> "$dir/kafka.log" 2>&1 < /dev/null &
  local pid=$!
  echo $pid > "$dir/pid"
  for _ in $(seq 1800); do
    grep -q 'Kafka Server started' "$dir/kafka.log" && return 0
    running $pid || return 1
    sleep 0.05
  done
  return 1
}

up() {
  mkdir -p "$dir"
  [ -e "$dir/ports" ] && [ -z "$version" ] && version=$(sed -n 's/.*version=//p' "$dir/ports")
  version=${version:-4}
  if ! alive "$dir"; then
    once "$cache/kafka$version.lock" collect_jars
    "$here/certs.sh" "$dir/certs"
    local fresh=
    [ -e "$dir/ports" ] || { fresh=1; choose_ports; }
    write_config
    format_storage
    if ! launch; then
      end "$dir" KILL 1
      [ -n "$fresh" ] && grep -q 'Address already in use' "$dir/kafka.log" || { tail -20 "$dir/kafka.log" >&2; die "kafka $version did not start"; }
      choose_ports # a port was taken between the choice and the start; an old node keeps its ports
      write_config
      launch || { tail -20 "$dir/kafka.log" >&2; die "kafka $version did not start"; }
    fi
    write_env
    watch_owner "$dir" "$owner"
  fi
  cat "$dir/env"
}

if [ "$cmd" != jars ] && [ "$cmd" != help ]; then
  [ -n "$dir" ] || die "--dir is missing"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
fi
case $cmd in
  up) up ;;
  down) end "$dir" TERM 20 ;;
  kill) end "$dir" KILL 5 ;;
  stop) alive "$dir" && kill -STOP "$(cat "$dir/pid")" ;;
  cont) alive "$dir" && kill -CONT "$(cat "$dir/pid")" ;;
  reset)
    end "$dir" TERM 20
    rm -rf "$dir/data"
    up
    ;;
  jars)
    version=${version:-4}
    once "$cache/kafka$version.lock" collect_jars
    ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
