# Sourced by deploy/drill and tests/run: brings a Debian 12 machine to where hasyncd runs.
#
#   become_root "$@"          re-executes the script through sudo when it is not root
#   install_packages NAME…    installs those Debian packages that are missing
#   prepare run|dev           packages, .venv at the repository's root, the built extension
#
# Installers talk even when told not to: what they say goes to a log, which is shown when they fail.
# shellcheck shell=bash

PYTHON=/usr/bin/python3 # Debian's, never another on PATH: the extension is built and run by one interpreter
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
PACKAGES=(
    ca-certificates gcc libc6-dev python3 python3-dev python3-venv
    ethtool iproute2 iputils-ping nftables procps
)

# What the tc engine is built with. Where they cannot be had hasyncd is built without it, and says so.
TC_PACKAGES=(clang-14 libbpf-dev)

# What `drill --system incumbent` plays against; conntrack empties the table of a node that boots.
INCUMBENT_PACKAGES=(conntrack conntrackd keepalived)

say() { printf '%s\n' "$*" >&2; }

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    if command -v sudo >/dev/null 2>&1; then
        exec sudo -- "$0" "$@"
    fi
    say "$(basename "$0"): needs root (raw sockets, network namespaces), and there is no sudo here"
    exit 2
}

# logged TITLE COMMAND…: runs it quietly; shows its output when it fails.
logged() {
    local title=$1 log
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/hasyncd-prepare.XXXXXX")
    say "prepare: $title"
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    say "prepare: failed: $title (the output above is kept in $log)"
    return 1
}

install_packages() {
    local name missing=()
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "prepare: this is no Debian; needed and not installed by me: $*"
        return 0
    fi
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300)
    logged "package lists" "${apt[@]}" update || return 1
    logged "installing ${missing[*]}" "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

# What a .venv must have been made of to be used: this interpreter, this place (scripts name it).
interpreter_stamp() { "$PYTHON" -c 'import sys; print(sys.version, sys.executable)' && echo "$ROOT"; }

# What the installed package was built from. Python files are not in it: the installation is editable.
sources_stamp() {
    (cd "$ROOT" && find pyproject.toml hasyncd/native -type f \( -name '*.[ch]' -o -name pyproject.toml \) -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
}

make_venv() {
    local wanted
    wanted=$(interpreter_stamp) || return 1
    if [ "$(cat "$VENV/.hasyncd-interpreter" 2>/dev/null)" != "$wanted" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; then
        rm -rf "$VENV"
        logged "making .venv with $PYTHON" "$PYTHON" -m venv "$VENV" || return 1
        printf '%s\n' "$wanted" >"$VENV/.hasyncd-interpreter"
    fi
}

# install_hasyncd run|dev
install_hasyncd() {
    local sources stamp what=.
    sources=$(sources_stamp) || return 1
    stamp=$(cat "$VENV/.hasyncd-built" 2>/dev/null)
    if [ -n "$(find "$ROOT/hasyncd" -maxdepth 1 -name '_native*.so' -print -quit)" ]; then
        [ "$stamp" != "$sources dev" ] || return 0
        [ "$stamp" != "$sources $1" ] || return 0
    fi
    # Development tools once installed stay in step with pyproject.toml, whichever script runs next.
    [ "$1" = dev ] || [ "${stamp##* }" = dev ] && what='.[dev]'
    rm -f "$VENV/.hasyncd-built"
    (cd "$ROOT" && logged "building and installing hasyncd into .venv" \
        "$VENV/bin/python" -m pip install --no-input --disable-pip-version-check -e "$what") || return 1
    printf '%s %s\n' "$sources" "$([ "$what" = . ] && echo run || echo dev)" >"$VENV/.hasyncd-built"
}

# prepare run|dev
prepare() {
    local lock
    install_packages "${PACKAGES[@]}" || return 1
    install_packages "${TC_PACKAGES[@]}" || [ "$1" = run ] || return 1
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "prepare: $PYTHON is older than Python 3.11"
        return 1
    fi
    exec {lock}<"$ROOT/pyproject.toml" # two scripts at once: one builds, the other finds it built
    flock "$lock"
    make_venv && install_hasyncd "$1"
    local result=$?
    exec {lock}<&-
    return $result
}
