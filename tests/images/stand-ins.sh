#!/usr/bin/env bash
# Makes sure that the images which the Dockerfile and the compose files name are there: pulls
# them, and where no registry can be reached makes a local stand-in under the same name, from
# Debian's packages and this machine's Rust toolchain.
#
# Stand-ins are for trying and testing without a network of images. `docker pull NAME` replaces one.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The value of a line `ARG NAME=value` in the Dockerfile.
argument() {
    sed -n "s/^ARG $1=//p" Dockerfile
}

# The images of the compose files that begin with this name.
composed() {
    sed -n "s|^ *image: *\($1:.*\)$|\1|p" docker/*.yml
}

rust=$(argument RUST_IMAGE)
declare -A stand_ins=(
    ["$rust"]=rust
    ["$(composed redis)"]=redis
    ["$(composed postgres)"]=postgres
    ["$(composed gcr.io/etcd-development/etcd)"]=etcd
    ["$(composed prom/prometheus)"]=prometheus
)
root_image=stand-in-root:bookworm

present() {
    docker image inspect "$1" >/dev/null 2>&1
}

missing=()
for image in "${!stand_ins[@]}"; do
    present "$image" || missing+=("$image")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

for image in "${missing[@]}"; do
    # The first that cannot be pulled decides: a registry is there or it is not.
    docker pull --quiet "$image" 2>/dev/null || break
done

# One root file system serves them all; each stand-in adds how it is started.
make_root() {
    local root archive
    root=$(mktemp -d)
    archive=$root.tar
    # shellcheck disable=SC2064 # the paths of now
    trap "rm -rf --one-file-system '$root' '$archive'" EXIT
    echo "Making stand-ins for images that cannot be pulled: ${missing[*]}" >&2
    debootstrap --variant=minbase \
        --include=ca-certificates,etcd-client,etcd-server,gcc,libc6-dev,postgresql,prometheus,redis-server,wget \
        bookworm "$root" >"$root.log" 2>&1 || {
        tail -n 30 "$root.log" >&2
        return 1
    }
    rm -f "$root.log"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,locale,man}
    # This machine's authorities: a proxy on the way to the crates may have one of its own.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    mkdir -p "$root/usr/local/cargo/bin" "$root/usr/local/rust"
    local toolchain
    toolchain=$(rustc --print sysroot)
    tar -C "$toolchain" --exclude=share --exclude='*clippy*' --exclude='rust-analyzer*' -cf - bin lib |
        tar -C "$root/usr/local/rust" -xf -
    tar -C "$root" --numeric-owner -cf "$archive" .
    docker import --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        "$archive" "$root_image" >/dev/null
}

for image in "${missing[@]}"; do
    present "$image" && continue
    present "$root_image" || make_root
    docker build --quiet --tag "$image" --build-arg ROOT="$root_image" \
        --file "tests/images/stand-ins/${stand_ins[$image]}.Dockerfile" tests/images/stand-ins >/dev/null
    echo "$image is a stand-in" >&2
done
