#!/bin/sh
# Installs the official Python SDK of MCP, one environment for each generation, into target/mcp-peers: the tests start
# servers made with it.
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh

if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    say 'installing python3-venv (servers of MCP for the tests)'
    install_packages python3 python3-venv || {
        say 'python3-venv could not be installed; going on without it: the tests with MCP servers fail'
        exit 0
    }
fi

# install GENERATION VERSION: made anew when another version is asked for, and when it was not finished.
install() {
    peer=target/mcp-peers/$1
    if [ "$(cat "$peer/finished" 2>/dev/null)" = "$2" ]; then
        return 0
    fi
    say "installing the Python package mcp $2 into $peer"
    rm -rf "$peer"
    if python3 -m venv "$peer" && "$peer/bin/pip" install --quiet --disable-pip-version-check "mcp==$2"; then
        echo "$2" >"$peer/finished"
    else
        rm -rf "$peer"
        say "mcp $2 could not be installed; going on without it: the tests with its servers fail"
    fi
}

mkdir -p target/mcp-peers
install 1 1.30.0
install 2 2.3.0
