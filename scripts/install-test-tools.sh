#!/bin/sh
# Installs what the tests take: what building takes, and the programs that call Tandem from outside.
set -eu
here=$(dirname "$0")
"$here/install-build-tools.sh"
. "$here/packages.sh"

want_component fmt rustfmt
want_component clippy clippy
want flite flite 'tests with real speech are skipped'
want sipp sip-tester 'its tests fail; TANDEM_PEERS=optional skips them'
want baresip baresip-core 'its tests fail; TANDEM_PEERS=optional skips them'
want ffmpeg ffmpeg 'G.722 is not compared with it'
want node nodejs 'its tests fail; TANDEM_PEERS=optional skips them'
want python3 python3 'its tests fail; TANDEM_PEERS=optional skips them'
"$here/install-mcp-peers.sh"
