#!/bin/sh
# Installs what the quality report takes: what building takes, a speech program, and Python with a compiler for PESQ.
set -eu
here=$(dirname "$0")
"$here/install-build-tools.sh"
. "$here/packages.sh"

need espeak-ng 'the clips are spoken by it' espeak-ng
need python3 'PESQ and the plots' python3 python3-venv python3-dev
