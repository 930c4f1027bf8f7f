#!/bin/sh
# libopus's own tests: the sources that Tandem links are built again with their tests, and run.
#
#   scripts/quality-libopus.sh DIRECTORY     writes DIRECTORY/libopus.json: version, tests, how many passed
#
# It takes some minutes of one core, so what passed once for the same sources is not run again; without cmake it says so.
set -eu
cd "$(dirname "$0")/.."
out=$1
build=$out/libopus

say() {
    printf '{"version": "%s", "passed": %s, "tests": %s, "reason": "%s"}\n' "$1" "$2" "$3" "$4" > "$out/libopus.json"
}

# Where cargo keeps the sources of the crate that brings libopus.
manifest=$(cargo metadata --locked --format-version 1 |
    sed 's/"manifest_path":/\n&/g' | sed -n 's|^"manifest_path":"\([^"]*/opusic-sys-[^"]*/Cargo.toml\)".*|\1|p' | head -n 1)
source=${manifest%/Cargo.toml}/opus
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$source/package_version" 2> /dev/null || true)
version=${version:-of unknown version}
crate=$(basename "${manifest%/Cargo.toml}")

if [ ! -f "$source/CMakeLists.txt" ] || ! command -v cmake > /dev/null; then
    say "$version" 0 0 'its sources or cmake are missing'
    exit 0
fi
if [ "$(cat "$build/passed" 2> /dev/null)" = "$crate" ] && [ -f "$out/libopus.json" ]; then
    echo "the tests of libopus $version ($crate) have passed before"
    exit 0
fi
echo "building libopus $version ($crate) with its tests"
rm -rf "$build" "$out/libopus.json"
mkdir -p "$build"
nice -n 10 cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON -DOPUS_BUILD_TESTING=ON > "$build/configure.log"
nice -n 10 cmake --build "$build" --parallel 2 > "$build/build.log" 2>&1
# Seeds of its own choosing would make each run another one.
SEED=7 nice -n 10 ctest --test-dir "$build" --parallel 2 > "$build/test.log" 2>&1 || true
# "100% tests passed, 0 tests failed out of 5"
tests=$(sed -n 's/.* tests failed out of \([0-9]*\).*/\1/p' "$build/test.log")
failed=$(sed -n 's/.* \([0-9]*\) tests failed out of .*/\1/p' "$build/test.log")
say "$version" $((${tests:-0} - ${failed:-0})) "${tests:-0}" ''
if [ "${tests:-0}" -gt 0 ] && [ "$failed" = 0 ]; then
    echo "$crate" > "$build/passed"
else
    echo "libopus: see $build/test.log" >&2
fi
