#!/usr/bin/env bash
# Makes this checkout ready to run, asking for nothing: `scripts/setup.sh run|dev|bench`.
#
# It finds a Python, makes .venv and installs the package there with the pins of constraints.txt; on Debian and Ubuntu
# it also installs the system packages that are missing. Elsewhere it says exactly what is missing and stops.
# `make` calls it when pyproject.toml or constraints.txt changed since the last time, so a second run costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly PYTHON_WANTED="Python 3.11 or newer"
APT_UPDATED=no

say() { printf '%s\n' "setup: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# Runs a command as root: directly, or by sudo where that needs no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_apt() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

# Installs Debian packages, or says which ones somebody else has to install.
install_packages() {
    can_apt || die "missing: $* (Debian package names). Without apt-get, and root or a sudo that asks for no password," \
        "this script cannot install them: please do, and run this again."
    say "installing system packages: $*"
    if [ "$APT_UPDATED" = no ]; then
        as_root apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
        APT_UPDATED=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null ||
        die "missing: $*. apt-get could not install them; the reason stands above."
}

# Prints the first Python that is new enough; PYTHON=... in the environment is tried first.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

ensure_venv() {
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    local python version
    if ! python=$(find_python); then
        can_apt || die "missing: $PYTHON_WANTED. Please install it, or name one: make PYTHON=/path/to/python3.11"
        install_packages python3 python3-venv
        python=$(find_python) || {
            install_packages python3.11 python3.11-venv
            python=$(find_python) || die "missing: $PYTHON_WANTED"
        }
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        install_packages "python$version-venv"
    fi
    say "making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
}

install_python_packages() {
    local target
    case "$1" in
    run) target='.[etcd,history,platform]' ;;
    dev) target='.[dev,bench,dns,etcd,history,platform]' ;; # the linters read the benchmarks too, and want to know the peers' types
    bench) target='.[bench,etcd,history,platform]' ;;
    *) target=".[$1]" ;;
    esac
    say "installing Python packages for: $1"
    # The build backend comes first, from the same pins, so that building needs no environment of its own.
    local pip=("$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt)
    "${pip[@]}" hatchling editables </dev/null
    "${pip[@]}" --no-build-isolation -e "$target" </dev/null
}

# PostgreSQL, for history in SQL and to measure beside us; Debian keeps its programs off the PATH. Where tests are run
# without it, those that need it are skipped and say so.
ensure_postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null && return
    if can_apt; then
        (install_packages postgresql) || say "no PostgreSQL: what needs it will fail or be skipped"
    else
        say "missing: postgresql (a Debian package); what needs it will fail or be skipped"
    fi
}

# PostgreSQL's failover, to measure beside ours (`make bench-failover`). The package's own service starts nothing here:
# it wants a configuration (/etc/patroni/config.yml, postgres.yml) that the package does not bring, and neither do we.
ensure_patroni() {
    command -v patroni >/dev/null && return
    if can_apt; then
        (install_packages patroni) || say "no patroni: 'make bench-failover' will say so"
    else
        say "missing: patroni (a Debian package); 'make bench-failover' needs it"
    fi
}

ensure_bench_packages() {
    command -v wrk >/dev/null || install_packages wrk
    command -v dnsperf >/dev/null || install_packages dnsperf
}

# The servers that a platform is made of: etcd, which keeps the journal, and HAProxy, the edge; what drills take to
# disturb them: strace and libfaketime; for tests also what looks at them from outside. `make demo-embedded` needs none,
# so it is not fatal here: what needs them says so.
ensure_servers() {
    local missing=()
    command -v etcd >/dev/null || missing+=(etcd-server)
    PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null || missing+=(haproxy)
    command -v strace >/dev/null || missing+=(strace)
    compgen -G '/usr/lib*/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
    if [ "$1" != run ]; then
        command -v openssl >/dev/null || missing+=(openssl)
        command -v dig >/dev/null || missing+=(bind9-dnsutils)
        command -v curl >/dev/null || missing+=(curl)
    fi
    [ ${#missing[@]} -eq 0 ] && return
    if can_apt; then
        # In a shell of its own, as a failure must not end this script.
        (install_packages "${missing[@]}") || say "no ${missing[*]}: what needs them will fail or be skipped"
    else
        say "missing: ${missing[*]} (Debian package names); what needs them will fail or be skipped"
    fi
}

case "${1:-}" in
run) ensure_servers "$1" ;;
dev)
    ensure_servers "$1"
    ensure_postgres
    ;;
bench)
    ensure_postgres
    ensure_bench_packages
    ensure_servers "$1"
    ensure_patroni
    ;;
*) die "usage: scripts/setup.sh run|dev|bench" ;;
esac
ensure_venv
install_python_packages "$1"
touch "$VENV/.ready-$1"
