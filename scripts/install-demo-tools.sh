#!/bin/sh
# Installs what the demo takes: what building takes, and a speech program.
set -eu
here=$(dirname "$0")
"$here/install-build-tools.sh"
. "$here/packages.sh"

want flite flite 'the attendant speaks in recorded phrases'
