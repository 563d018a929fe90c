#!/usr/bin/env bash
# The real Helm, which renders the chart in tests.
#   helm.sh where                  prints the path of the binary, built or not
#   helm.sh build                  only fills the cache: it is built from its Go module
set -euo pipefail
# shellcheck source=../services/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../services/lib.sh"

version=v3.19.0
bin=$cache/helm/$version/helm

build() {
  [ -x "$bin" ] && return
  local to
  to=$(dirname "$bin")
  mkdir -p "$to"
  GOBIN=$to/new GOCACHE=$cache/helm/gocache GOFLAGS=${GOFLAGS:-} CGO_ENABLED=0 \
    "${CATCHMENT_GO:-go}" install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$version" >&2
  mv "$to/new/helm" "$bin"
  rm -rf "$to/new" "$cache/helm/gocache"
}

case ${1:-help} in
  where) echo "$bin" ;;
  build) build ;;
  *) die "helm.sh where | build" ;;
esac
