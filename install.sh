#!/bin/bash
# Installs, upgrades or removes a node under systemd; docs/install.md says what goes where.
set -euo pipefail

readonly PREFIX=/opt/cacheserver
readonly CONFIG_DIR=/etc/cacheserver
readonly CONFIG=$CONFIG_DIR/cacheserver.toml
readonly UNITS=/usr/local/lib/systemd/system
readonly SYSUSERS=/usr/local/lib/sysusers.d/cacheserver.conf
readonly TMPFILES=/usr/local/lib/tmpfiles.d/cacheserver.conf
readonly DOCS=/usr/local/share/doc/cacheserver
readonly COMMAND=/usr/local/bin/cacheserver
readonly DROP_IN=$UNITS/cacheserver.service.d/socket-activation.conf
readonly ALL_UNITS=(cacheserver.service cacheserver.socket cacheserver-tls.socket)

usage() {
    cat <<'TEXT'
usage: install.sh [install] [--wheels DIR] [--sockets | --no-sockets] [--no-start]
       install.sh uninstall [--purge]

install      installs a node, or upgrades the one that is there (the default)
  --wheels DIR   take packages from DIR instead of the package index (made with: make wheels)
  --sockets      let systemd open port 80; the node then runs without any capability
  --no-sockets   let the node open its ports itself (the default; an upgrade keeps what was chosen)
  --no-start     neither enable nor start it
uninstall    stops and removes it; settings, cache and user stay
  --purge        removes them too
TEXT
}

fail() {
    echo "install.sh: error: $1" >&2
    exit "${2:-1}"
}

say() {
    echo "install.sh: $1"
}

under_systemd() {
    [ -d /run/systemd/system ]
}

need_python() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        command -v apt-get >/dev/null || fail "python3 with its venv module is needed"
        say "getting python3-venv"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null ||
            fail "python3-venv could not be installed; apt-get update first?"
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or later is needed"
}

# A new environment in $1: the packages of the lock by their digests, and this checkout. No pip stays in it.
build() {
    local target=$1 scratch=$2 wheels=$3 pip source=()
    if [ -n "$wheels" ]; then
        source=(--no-index --find-links "$wheels")
    fi
    python3 -m venv "$scratch/tools"
    pip=("$scratch/tools/bin/python" -m pip --disable-pip-version-check --quiet)
    python3 -m venv --without-pip "$target"
    say "installing packages"
    "${pip[@]}" install "${source[@]}" --require-hashes -r requirements-build.lock
    "${pip[@]}" --python "$target/bin/python3" install "${source[@]}" --require-hashes -r requirements.lock
    mkdir "$scratch/source"
    cp -R cacheserver pyproject.toml README.md LICENSE "$scratch/source"
    "${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$scratch/wheel" "$scratch/source"
    "${pip[@]}" --python "$target/bin/python3" install --no-deps --no-index "$scratch"/wheel/*.whl
    "$target/bin/cacheserver" --version >/dev/null
}

place_files() {
    install -D -m 0644 systemd/cacheserver.sysusers "$SYSUSERS"
    install -D -m 0644 systemd/cacheserver.tmpfiles "$TMPFILES"
    local unit
    for unit in "${ALL_UNITS[@]}"; do
        install -D -m 0644 "systemd/$unit" "$UNITS/$unit"
    done
    systemd-sysusers "$SYSUSERS"
    systemd-tmpfiles --create "$TMPFILES"
    install -d -m 0755 "$DOCS"
    install -m 0644 docs/*.md config/cacheserver.toml README.md CHANGELOG.md LICENSE "$DOCS"
    ln -sfn "$PREFIX/bin/cacheserver" "$COMMAND"
}

# The example with port 80, which is where clients ask, and the volume named; an existing file stays as it is.
place_config() {
    [ ! -e "$CONFIG" ] || return 0
    local listen='"0.0.0.0:80"'
    if [ -e /proc/net/if_inet6 ]; then
        listen+=', "[::]:80"'
    fi
    sed -e "s/^# listen = \[\"0\.0\.0\.0:8080\"\]$/listen = [$listen]/" \
        -e '/^# \[\[store\.volumes\]\]$/,/^$/ { s/^# //; s/^max_size = .*/max_size = "100GiB"/; }' \
        config/cacheserver.toml >"$CONFIG.new"
    chown root:cacheserver "$CONFIG.new"
    chmod 0640 "$CONFIG.new"
    mv "$CONFIG.new" "$CONFIG"
}

choose_sockets() {
    case $1 in
        yes) install -D -m 0644 systemd/socket-activation.conf "$DROP_IN" ;;
        no) rm -rf "$UNITS/cacheserver.service.d" ;;
        keep) if [ -e "$DROP_IN" ]; then install -m 0644 systemd/socket-activation.conf "$DROP_IN"; fi ;;
    esac
}

switch_to() {
    ln -sfn "$1" "$PREFIX.switch"
    mv -T "$PREFIX.switch" "$PREFIX"
}

wants_tls() {
    "$PREFIX/bin/python3" -c 'import sys; from cacheserver.settings.load import Flags, load_settings
sys.exit(not load_settings(sys.argv[1], Flags()).server.listen_tls)' "$CONFIG"
}

# The sockets that systemd opens, of those that the settings ask for.
use_sockets() {
    local unit changed=no
    for unit in cacheserver.socket cacheserver-tls.socket; do
        if [ -e "$DROP_IN" ] && { [ "$unit" = cacheserver.socket ] || wants_tls; }; then
            systemctl is-active --quiet "$unit" || changed=yes
            [ "$changed" = no ] || systemctl stop cacheserver.service
            systemctl enable --quiet --now "$unit"
        elif systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit"; then
            systemctl stop cacheserver.service
            systemctl disable --quiet --now "$unit"
        fi
    done
}

start() {
    systemctl daemon-reload
    systemctl enable --quiet cacheserver.service
    use_sockets
    systemctl reset-failed cacheserver.service 2>/dev/null || true
    systemctl restart cacheserver.service
}

keep_units() {
    mkdir "$1"
    local unit
    for unit in "${ALL_UNITS[@]}" cacheserver.service.d; do
        [ ! -e "$UNITS/$unit" ] || cp -a "$UNITS/$unit" "$1"
    done
}

put_back() {
    switch_to "$1"
    rm -rf "$UNITS/cacheserver.service.d"
    cp -a "$2/." "$UNITS"
    start || fail "the new version does not start, nor does the one before it; see: journalctl -u cacheserver"
    fail "the new version does not start; the one before it was put back"
}

do_install() {
    local wheels="" sockets=keep start=yes
    while [ $# -gt 0 ]; do
        case $1 in
            --wheels)
                [ $# -gt 1 ] || fail "--wheels needs a directory" 2
                wheels=$(realpath -e "$2") || fail "no such directory: $2" 2
                shift
                ;;
            --sockets) sockets=yes ;;
            --no-sockets) sockets=no ;;
            --no-start) start=no ;;
            *) usage >&2 && exit 2 ;;
        esac
        shift
    done
    [ ! -e "$PREFIX" ] || [ -L "$PREFIX" ] || fail "$PREFIX is there and was not made by this script; move it away"
    need_python

    local old="" new
    [ ! -L "$PREFIX" ] || old=$(readlink "$PREFIX")
    scratch=$(mktemp -d)
    new=$(mktemp -d "$PREFIX-XXXXXXXX")
    trap 'rm -rf "$scratch" "${unfinished:-}"' EXIT
    unfinished=$new
    chmod 0755 "$new"
    build "$new" "$scratch" "$wheels"
    keep_units "$scratch/units"
    place_files
    place_config
    XDG_CACHE_HOME=/var/cache "$new/bin/cacheserver" check-config --user cacheserver --config "$CONFIG" || fail "the settings do not fit this version" 2
    choose_sockets "$sockets"
    switch_to "$new"
    unfinished=""
    if [ "$start" = no ] || ! under_systemd; then
        say "installed, not started: systemctl enable --now cacheserver"
    elif ! start; then
        systemctl --no-pager --lines=20 status cacheserver.service >&2 || true
        [ -n "$old" ] || fail "the node does not start; see: journalctl -u cacheserver"
        unfinished=$new
        put_back "$old" "$scratch/units"
    else
        say "$("$COMMAND" --version) serves; settings in $CONFIG, log: journalctl -u cacheserver"
    fi
    if [ -n "$old" ] && [ "$old" != "$new" ]; then
        rm -rf "$old"
    fi
}

do_uninstall() {
    local purge=no
    case ${1:-} in
        "") ;;
        --purge) purge=yes ;;
        *) usage >&2 && exit 2 ;;
    esac
    local unit directory
    if under_systemd; then
        for unit in "${ALL_UNITS[@]}"; do
            [ ! -e "$UNITS/$unit" ] || systemctl disable --quiet --now "$unit"
        done
    fi
    for unit in "${ALL_UNITS[@]}"; do
        rm -f "$UNITS/$unit"
    done
    rm -rf "$UNITS/cacheserver.service.d" "$DOCS"
    rm -f "$SYSUSERS" "$TMPFILES" "$COMMAND"
    for directory in "$PREFIX"-????????; do
        if [ -x "$directory/bin/cacheserver" ]; then
            rm -rf "$directory"
        fi
    done
    [ ! -L "$PREFIX" ] || rm -f "$PREFIX"
    ! under_systemd || systemctl daemon-reload
    if [ "$purge" = no ]; then
        say "removed; $CONFIG_DIR, /var/cache/cacheserver and the user cacheserver stay"
        return
    fi
    rm -rf "$CONFIG_DIR" /var/cache/cacheserver /var/lib/cacheserver /var/log/cacheserver
    if getent passwd cacheserver >/dev/null; then
        userdel cacheserver
    fi
    say "removed, with settings, cache and user"
}

main() {
    local what=install
    case ${1:-} in
        -h | --help) usage && exit 0 ;;
        install | uninstall) what=$1 && shift ;;
        "" | --*) ;;
        *) usage >&2 && exit 2 ;;
    esac
    [ "$(id -u)" -eq 0 ] || fail "must be run as root"
    cd "$(dirname "$(realpath "$0")")"
    umask 022
    "do_$what" "$@"
}

main "$@"
