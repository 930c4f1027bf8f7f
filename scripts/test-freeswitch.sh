#!/bin/sh
# Runs the live tests against a real FreeSWITCH, which are left out of everything else.
#
# TANDEM_FREESWITCH          host:port of its event socket
# TANDEM_FREESWITCH_PASSWORD its password, by default ClueCon
set -u
cd "$(dirname "$0")/.." || exit 1

if [ -z "${TANDEM_FREESWITCH:-}" ]; then
    cat <<'TEXT'
skipped: no FreeSWITCH is named.

  TANDEM_FREESWITCH=127.0.0.1:8021 make test-freeswitch

names the event socket of one, with TANDEM_FREESWITCH_PASSWORD beside it unless that is ClueCon. It must have
mod_audio_fork or mod_audio_stream loaded, and serve nobody: the tests make calls on it. docs/freeswitch.md says how
to set one up.
TEXT
    exit 0
fi

host=${TANDEM_FREESWITCH%:*}
port=${TANDEM_FREESWITCH##*:}
case $TANDEM_FREESWITCH in
    *:*) ;;
    *) port='' ;;
esac
case $port in
    '' | *[!0-9]*)
        echo "TANDEM_FREESWITCH is \"$TANDEM_FREESWITCH\", it must be host:port as in 127.0.0.1:8021" >&2
        exit 2
        ;;
esac
if command -v nc >/dev/null 2>&1 && ! nc -z -w 3 "$host" "$port" </dev/null >/dev/null 2>&1; then
    echo "nothing answers at $TANDEM_FREESWITCH: start FreeSWITCH, or load mod_event_socket" >&2
    exit 1
fi

# Both parts run; what fails in either fails the whole.
failed=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --package tandem-pbx --test real_switch --no-fail-fast || failed=1
    cargo nextest run --locked --package tandem --run-ignored only --no-fail-fast -E 'test(real_freeswitch)' || failed=1
else
    cargo test --locked --package tandem-pbx --test real_switch || failed=1
    cargo test --locked --package tandem --tests -- --ignored real_freeswitch || failed=1
fi
exit "$failed"
