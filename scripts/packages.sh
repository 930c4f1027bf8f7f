# Read by the install scripts: installs Debian packages, says which, and goes on without those that are optional.

say() {
    printf 'tandem: %s\n' "$*"
}

# as_root COMMAND... runs it as root, by sudo if need be; fails where neither is possible.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif ! command -v sudo >/dev/null 2>&1; then
        return 1
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

apt_updated=no

# install_packages PACKAGE... installs them; fails when that is not possible.
install_packages() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$apt_updated" = no ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || return 1
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND WHAT-FOR PACKAGE...: must be there.
need() {
    command=$1
    what_for=$2
    shift 2
    if command -v "$command" >/dev/null 2>&1; then
        return 0
    fi
    say "installing $* ($what_for)"
    if install_packages "$@" && command -v "$command" >/dev/null 2>&1; then
        return 0
    fi
    say "\`$command\` is missing and could not be installed ($what_for); install by hand: $*"
    exit 1
}

# want COMMAND PACKAGE WHAT-IS-LOST: is good to have. Without it things go on.
want() {
    if command -v "$1" >/dev/null 2>&1; then
        return 0
    fi
    say "installing $2"
    if install_packages "$2" && command -v "$1" >/dev/null 2>&1; then
        return 0
    fi
    say "$2 could not be installed; going on without it: $3"
}

need_rust() {
    if ! command -v cargo >/dev/null 2>&1; then
        say "there is no Rust toolchain (cargo); get one from https://rustup.rs and start again"
        exit 1
    fi
}

# want_component SUBCOMMAND COMPONENT: a part of the Rust toolchain.
want_component() {
    if cargo "$1" --version >/dev/null 2>&1; then
        return 0
    fi
    if command -v rustup >/dev/null 2>&1; then
        say "installing the Rust component $2"
        rustup component add "$2" >/dev/null 2>&1 && return 0
    fi
    say "the Rust component $2 could not be installed; going on without it"
}
