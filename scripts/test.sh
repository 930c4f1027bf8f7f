#!/bin/sh
# Everything CI runs: format, lints, documentation, dependencies, tests. Goes on after a failure; the last line counts.
#
# The tests come last, so that their failures stand next to the end.
set -u
cd "$(dirname "$0")/.." || exit 1

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
# sipp and baresip call the daemon; `optional` skips their tests where they are not installed.
export TANDEM_PEERS="${TANDEM_PEERS:-required}"
failed_steps=''
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# step NAME COMMAND...
step() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        return 0
    fi
    failed_steps="$failed_steps${failed_steps:+, }$name"
}

# logged COMMAND... shows its output and keeps it for counting.
logged() {
    { "$@" 2>&1; echo $? >"$log.code"; } | tee -a "$log"
    code=$(cat "$log.code")
    rm -f "$log.code"
    return "$code"
}

deny_warnings() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
}

if cargo fmt --version >/dev/null 2>&1; then
    step 'format' cargo fmt --all --check
else
    echo 'skipped: format (no rustfmt)'
fi
if cargo clippy --version >/dev/null 2>&1; then
    step 'lints' cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
else
    echo 'skipped: lints (no clippy)'
fi
step 'documentation' deny_warnings
if cargo deny --version >/dev/null 2>&1; then
    step 'dependencies' cargo deny --log-level error check licenses bans sources
else
    echo 'skipped: licences and bans of dependencies (no cargo-deny)'
fi
step 'documentation tests' logged cargo test --locked --workspace --doc --quiet
if cargo nextest --version >/dev/null 2>&1; then
    step 'tests' logged cargo nextest run --locked --workspace --no-fail-fast
else
    step 'tests' logged cargo test --locked --workspace --tests --no-fail-fast
fi

# Counts both forms: "test result: ok. 3 passed; 0 failed; 1 ignored" and "Summary [ 1.2s] 9 tests run: 8 passed, 1 failed, 2 skipped".
counts=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    /^test result:/ || /Summary \[/ {
        gsub(/[,;]/, "")
        for (i = 2; i <= NF; i++) {
            if ($i == "passed") passed += $(i - 1)
            if ($i == "failed") failed += $(i - 1)
            if ($i == "timed" && $(i + 1) == "out") failed += $(i - 1)
            if ($i == "ignored" || $i == "skipped") skipped += $(i - 1)
        }
    }
    END { printf "%d passed, %d failed, %d skipped", passed, failed, skipped }')
printf '\n'
if [ -n "$failed_steps" ]; then
    echo "FAILED: $failed_steps"
    echo "test result: FAILED. $counts"
    exit 1
fi
echo "test result: ok. $counts"
