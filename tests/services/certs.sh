#!/usr/bin/env bash
# certs.sh DIR: throw-away certificates for one broker on loopback.
#   ca.pem                    the authority that brokers and clients trust
#   server.{pem,key}          the broker, for 127.0.0.1 and localhost
#   client.{pem,key}          a client that the authority signed, CN=catchment
#   client-locked.key         the same key, encrypted; its password is catchment-secret
#   rogue.{pem,key}           a client that another authority signed; rogue-ca.pem is that authority
set -euo pipefail
dir=$1
[ -e "$dir/.done" ] && exit 0
mkdir -p "$dir"
cd "$dir"

authority() { # NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=catchment test $1" \
    -keyout "$1.key" -out "$1.pem" 2> openssl.log
}
leaf() { # NAME AUTHORITY CN EXTENSIONS
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1.key" -out "$1.csr" 2> openssl.log
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 30 -extfile <(printf '%s\n' "$4") \
    -out "$1.pem" 2> openssl.log
}

authority ca
authority rogue-ca
leaf server ca localhost "subjectAltName=IP:127.0.0.1,DNS:localhost"
leaf client ca catchment "extendedKeyUsage=clientAuth"
leaf rogue rogue-ca catchment "extendedKeyUsage=clientAuth"
openssl pkey -in client.key -aes256 -passout pass:catchment-secret -out client-locked.key
cat ca.pem >> server.pem
touch .done
