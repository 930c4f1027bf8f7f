#!/bin/sh
# Renders the phrases of phrases.txt anew: raw mu-law at 8 kHz, voice slt of flite, silence at both ends trimmed.
# Needs flite and sox. A new phrase also needs its line in src/phrases.rs.
set -eu
cd "$(dirname "$0")"
wave=$(mktemp --suffix=.wav)
trap 'rm -f "$wave"' EXIT
tab=$(printf '\t')
while IFS="$tab" read -r name text; do
    printf '%s' "$text" | flite -voice slt -f /dev/stdin -o "$wave"
    # Flite leaves up to 300 ms of silence at the ends; 40 ms before and 120 ms after the words are kept.
    sox "$wave" -r 8000 -c 1 -e mu-law -t raw "$name.ulaw" \
        silence 1 0.02 0.3% reverse silence 1 0.02 0.3% reverse gain -n -3 pad 0.04 0.12
done < phrases.txt
