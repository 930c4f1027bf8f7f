#!/bin/sh
# The quality report: makes the sound, measures it, compares it with quality/baseline.json. Fails when something became worse.
#
#   scripts/quality.sh             as `make quality`
#   scripts/quality.sh --accept    .. and what was measured becomes the baseline
#   scripts/quality.sh --clips DIR measures your own speech (mono 16-bit WAV) instead, compares with nothing, changes no document
#
# TANDEM_QUALITY_JOBS  processes that measure at once, by default one for each core
set -eu
cd "$(dirname "$0")/.."
out=target/quality
venv=$out/venv

if [ "${1:-}" = --clips ] && [ $# -eq 2 ]; then
    clips=$2
    out=$out/own
elif [ $# -eq 0 ] || { [ "$1" = --accept ] && [ $# -eq 1 ]; }; then
    clips=''
else
    echo 'usage: scripts/quality.sh [--accept | --clips DIRECTORY]' >&2
    exit 2
fi
mkdir -p "$out"

# The venv is made anew when other versions are asked for, and when it was not finished.
if ! cmp -s scripts/quality-requirements.txt "$venv/finished"; then
    echo 'installing PESQ and the plotting library into target/quality/venv'
    rm -rf "$venv"
    python3 -m venv "$venv" || {
        echo 'python3 cannot make a venv; on Debian: apt-get install python3-venv python3-dev' >&2
        exit 1
    }
    # numpy first: PESQ comes as source and is compiled against it.
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$(grep '^numpy==' scripts/quality-requirements.txt)"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/quality-requirements.txt
    cp scripts/quality-requirements.txt "$venv/finished"
fi

"$venv/bin/python" -B scripts/quality_test.py --quiet
cargo build --locked --release --package tandem-quality
rm -rf "$out/reference" "$out/degraded" "$out/speech" "$out/manifest.json" "$out/report.json"
if [ -n "$clips" ]; then
    nice -n 10 target/release/tandem-quality "$out" --clips "$clips"
    exec nice -n 10 "$venv/bin/python" -B scripts/quality.py "$out" --alone
fi
scripts/quality-libopus.sh "$out"
nice -n 10 target/release/tandem-quality "$out"
exec nice -n 10 "$venv/bin/python" -B scripts/quality.py "$out" "$@"
