# What a fresh Debian or Ubuntu with git and Rust lacks. Sourced by scripts/demo and scripts/test, never run.
#
#   need build            C toolchain for librdkafka, OpenSSL, zstd and mimalloc, which are built from source
#   need services         beside that: Java 17, Maven and openssl for Kafka, Go for MinIO and Helm, Python for the readers, promtool and
#                         systemd-analyze for deploy/, Chromium for the console, Valgrind for counts of instructions
#
# By the system's package manager as root or with passwordless sudo; else, or for what it does not have (Ubuntu: Chromium), given Docker,
# the whole script again in a container that is root; else one line that says what to install.

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
have() { command -v "$1" > /dev/null 2>&1; }

java_major() { java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'; }

# go_new_enough GO: whether it can build MinIO and Helm. From 1.21 on, Go fetches the toolchain that a module asks for.
go_new_enough() {
  local minor
  minor=$("$1" env GOVERSION 2> /dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ -n "$minor" ] && [ "$minor" -ge 21 ]
}

# What Go is there for is built already.
needs_no_go() { [ -x "$minio_built" ] && [ -x "$helm_built" ]; }

# missing KIND: the packages to install, by their names in Debian and Ubuntu.
missing() {
  local lacking=()
  have cc && have g++ && have make || lacking+=(build-essential)
  have perl || lacking+=(perl)
  have cmake || lacking+=(cmake)
  have pkg-config || lacking+=(pkg-config)
  if [ "$1" = services ]; then
    have java && [ "$(java_major)" -ge 17 ] || lacking+=("$(java_package)")
    have mvn || lacking+=(maven)
    have openssl || lacking+=(openssl)
    have go || [ -x "$go_own" ] || needs_no_go || lacking+=(golang-go)
    have python3 && python3 -c 'import ensurepip, venv' 2> /dev/null || lacking+=(python3 python3-venv)
    have flock || lacking+=(util-linux)
    have promtool || lacking+=(prometheus)
    have valgrind || lacking+=(valgrind)
    have systemd-analyze || lacking+=(systemd)
    have_browser || lacking+=("$(browser_packages)")
  fi
  echo "${lacking[*]}"
}

# The newest Java that the release has; default-jre-headless is too old on some.
java_package() {
  local version
  for version in 25 21 17; do
    if offered "openjdk-$version-jre-headless"; then break; fi
  done
  echo "openjdk-$version-jre-headless"
}

have_browser() { { have chromium || have chromium-browser; } && have chromedriver; }

# Chromium and its driver by the names that the release has them under, or Debian's if it has neither.
browser_packages() {
  local browser driver
  while read -r browser driver; do
    if offered "$browser" "$driver"; then echo "$browser $driver"; return 0; fi
  done <<< $'chromium chromium-driver\nchromium-browser chromium-chromedriver'
  echo chromium chromium-driver
}

# offered PACKAGE...: whether the release has them all. Ubuntu's packages of Chromium are transitional: they hold nothing and fetch a snap, which
# neither a container nor a machine without snapd can have.
offered() {
  local package
  for package in "$@"; do
    apt-cache policy "$package" 2> /dev/null | grep 'Candidate: [^(]' > /dev/null || return 1
    if apt-cache show --no-all-versions "$package" 2> /dev/null | grep -i '^Description.*transitional.*snap' > /dev/null; then return 1; fi
  done
}

# unoffered PACKAGE...: those that the release does not have.
unoffered() {
  local package lacking=()
  for package in "$@"; do
    offered "$package" || lacking+=("$package")
  done
  echo "${lacking[*]}"
}

need() {
  have cargo || { echo "install Rust first: rustup with its default toolchain is enough" >&2; exit 1; }
  local packages lacking root=()
  packages=$(missing "$1")
  [ -n "$packages" ] || { own_go "$1"; return 0; }
  if have apt-get; then
    if [ "$(id -u)" = 0 ]; then root=(env); elif have sudo && sudo -n true 2> /dev/null; then root=(sudo -n); fi
  fi
  if [ ${#root[@]} -gt 0 ]; then
    say "installing: $packages"
    "${root[@]}" apt-get update -qq
    packages=$(missing "$1") # which Java and which browser there are, is known only now
    # shellcheck disable=SC2086
    lacking=$(unoffered $packages)
    [ -z "$lacking" ] || elsewhere "$lacking"
    # shellcheck disable=SC2086
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages > /dev/null
  else
    elsewhere "$packages"
  fi
  own_go "$1"
}

# elsewhere PACKAGES: what the package manager may not or cannot install. The script again in a container, given Docker; else one line.
elsewhere() {
  local snap=
  if have docker && docker info > /dev/null 2>&1; then in_container; fi
  case " $1 " in
    *" chromium "*) snap="; Ubuntu's Chromium: snap install chromium, and chromium.chromedriver in the PATH as chromedriver" ;;
  esac
  echo "please install, then run this again: $1 (Debian's names; Java 17 or newer, Go 1.24 or newer$snap)" >&2
  exit 1
}

# Runs the calling script in a container of the pinned Rust with this clone and the cache in it. It is root there, so `need` goes on. One test mounts a small
# disk; the cgroups of a container are not its own to divide.
in_container() {
  local channel
  channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root_dir/rust-toolchain.toml")
  say "no package manager to use: running in a container of rust:$channel-bookworm"
  mkdir -p "$cache"
  exec docker run --rm --init --cap-add SYS_ADMIN -v "$root_dir:/catchment" -v "$cache:/cache" -e CATCHMENT_CACHE=/cache \
    -e CATCHMENT_TEST_WITHOUT_CGROUP=1 ${CI:+-e "CI=$CI"} -w /catchment "rust:$channel-bookworm" "scripts/$(basename "$0")" ${arguments[@]+"${arguments[@]}"}
}

# Where the distribution's Go is too old to fetch a toolchain by itself: that toolchain is a module, and any Go can fetch a module.
own_go() {
  [ "$1" = services ] || return 0
  needs_no_go && return 0
  if go_new_enough go; then export CATCHMENT_GO=go; return 0; fi
  if [ ! -x "$go_own" ]; then
    local arch module
    case $(uname -m) in
      x86_64) arch=amd64 ;;
      aarch64) arch=arm64 ;;
      *) echo "please install Go 1.24 or newer" >&2; exit 1 ;;
    esac
    module=golang.org/toolchain@v0.0.1-go1.25.0.linux-$arch
    say "this Go is too old for MinIO and Helm; fetching a newer one"
    mkdir -p "$cache/go/fetch"
    (
      cd "$cache/go/fetch"
      [ -e go.mod ] || go mod init fetch > /dev/null 2>&1
      # Go checks a toolchain's sum only since it knows toolchains; the download itself is by the module's own rules.
      GOMODCACHE=$cache/go/mod GONOSUMDB=golang.org/toolchain GOFLAGS=-modcacherw go mod download "$module"
    )
    chmod -R u+rwx "$cache/go/mod/$module"
    mv "$cache/go/mod/$module" "$cache/go/root"
    rm -rf "$cache/go/mod" "$cache/go/fetch" 2> /dev/null || true
  fi
  export CATCHMENT_GO=$go_own GOTOOLCHAIN=local
}

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CATCHMENT_CACHE=${CATCHMENT_CACHE:-$HOME/.cache/catchment}
cache=$CATCHMENT_CACHE
go_own=$cache/go/root/bin/go
minio_built=$("$root_dir/tests/services/minio.sh" where)
helm_built=$("$root_dir/tests/deploy/helm.sh" where)
# Outside the clone, so that a fresh clone does not build librdkafka and OpenSSL again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
