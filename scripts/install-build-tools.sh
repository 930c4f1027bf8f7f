#!/bin/sh
# Installs what building Tandem takes on a bare Debian machine with a Rust toolchain.
set -eu
. "$(dirname "$0")/packages.sh"

need_rust
need cc 'a C compiler and linker' build-essential pkg-config
need cmake 'libopus is built with it' cmake
