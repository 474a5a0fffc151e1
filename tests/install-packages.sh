#!/usr/bin/env bash
# Installs what the tests need besides Rust: Redis, PostgreSQL, PgBouncer and etcd, tools that count,
# curl, the linter of scripts, what the stand-ins for images are made with, and what the services run
# behind and are measured with and against, and a browser. Docker is left to whoever owns the machine.
#
# Only what is missing is installed, so running it again costs nothing. No daemon is left
# running or enabled: the tests start their own, on free ports, and stop them again.
set -euo pipefail

# program (or path pattern), the Debian package that brings it, the service that comes along
needs=(
    "redis-server redis-server redis-server"
    "redis-cli redis-tools -"
    "/usr/lib/postgresql/*/bin/postgres postgresql postgresql"
    "/usr/lib/postgresql/*/bin/psql postgresql-client postgresql"
    "pgbouncer pgbouncer pgbouncer"
    "etcd etcd-server etcd"
    "etcdctl etcd-client -"
    "valgrind valgrind -"
    "strace strace -"
    "setpriv util-linux -"
    "curl curl -"
    "shellcheck shellcheck -"
    "debootstrap debootstrap -"
    "/usr/lib/python3*/ensurepip python3-venv -"
    "nginx nginx nginx"
    "haproxy haproxy haproxy"
    "chromedriver chromium-driver -"
    "prometheus prometheus prometheus"
    "webdis webdis webdis"
    "wrk wrk -"
    "pgbench postgresql postgresql"
)

installed() {
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

packages=()
services=()
for need in "${needs[@]}"; do
    read -r program package service <<<"$need"
    if ! installed "$program"; then
        packages+=("$package")
        [[ $service == - ]] || services+=("$service")
    fi
done

if [[ ${#packages[@]} -eq 0 ]]; then
    echo "Everything the end-to-end tests need is installed."
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    {
        echo "Missing, under their Debian names: ${packages[*]}"
        echo "Install them with this system's package manager. PostgreSQL is looked for in"
        echo "/usr/lib/postgresql/VERSION/bin and then on PATH. Tests whose server is missing are skipped."
    } >&2
    exit 1
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "Run this as root: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# Debian starts a server as soon as it is installed, unless this file says no. One that is
# already there is somebody's decision and stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get --quiet --yes -o DPkg::Lock::Timeout=300 "$@"
}

echo "Installing ${packages[*]}"
# A package list that is old but works saves a download; a missing or stale one is renewed.
apt_get install --no-install-recommends "${packages[@]}" ||
    { apt_get update && apt_get install --no-install-recommends "${packages[@]}"; }

# Not at the next boot either.
if command -v systemctl >/dev/null; then
    now=()
    [[ ! -d /run/systemd/system ]] || now=(--now)
    for service in "${services[@]}"; do
        "${as_root[@]}" systemctl disable "${now[@]}" --quiet "$service" || true
    done
fi
