//! `cargo bench -p tandem-benches`: nanoseconds and allocations of one 20 ms frame, both ways, and the bytes that a call holds.
//!
//! Medians over rounds of the same frames. An allocation after the warm-up ends the bench with an error. An argument behind `--`
//! asks for the formats whose names contain it.

use std::{process::ExitCode, time::Instant};

use tandem_benches::{CountingAllocator, Extras, FramePath, Surroundings, Variant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 41;
const WARM_UP: usize = 1_000;

/// Calls whose memory is counted, after one that makes what all share.
const CALLS: usize = 8;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let only = arguments.next();
    if only.as_deref().is_some_and(|only| only == "--list" || only == "--test") {
        return ExitCode::SUCCESS;
    }
    println!(
        "one 20 ms frame, median of {ROUNDS} rounds of {} frames; bytes of the heap that a call holds",
        FramePath::FRAMES
    );
    println!("as calls are by default, with echo guard, and what may be switched on\n");
    println!(
        "{:<34} {:>8} {:>8} {:>10} {:>12} {:>10}",
        "", "up ns", "down ns", "up allocs", "down allocs", "call bytes"
    );
    let mut good = true;
    for Row { name, variant, extras } in rows() {
        if only.as_deref().is_some_and(|only| !variant.name().contains(only)) {
            continue;
        }
        let Cost { up, down, up_allocations, down_allocations } = cost(variant, extras);
        let bytes = memory(variant, extras);
        println!(
            "{name:<34} {up:>8.0} {down:>8.0} {up_allocations:>10} {down_allocations:>12} {bytes:>10}"
        );
        good &= up_allocations + down_allocations == 0;
        good &= extras == Extras::EVERYTHING || variant.affords(up, down);
    }
    if good {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nover the budget: 0 allocations, and 10 us each way unless everything is on; Opus 240 us both ways, 140 at complexity 0"
    );
    ExitCode::FAILURE
}

struct Row {
    name: String,
    variant: Variant,
    extras: Extras,
}

/// Each format as calls have it; behind some, what may be switched on.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for variant in Variant::ALL {
        let mut add = |name: String, extras| rows.push(Row { name, variant, extras });
        add(variant.name().to_owned(), Extras::DEFAULT);
        if Variant::PROBED.contains(&variant) {
            add("  without echo guard".into(), Extras::NONE);
            for (extra, extras) in Extras::EACH {
                add(format!("  + {extra}"), extras);
            }
            add("  + all of these".into(), Extras::EVERYTHING);
        }
    }
    rows
}

struct Cost {
    up: f64,
    down: f64,
    up_allocations: u64,
    down_allocations: u64,
}

fn warm(around: &Surroundings) -> FramePath {
    let mut path = FramePath::new(around);
    for _ in 0..WARM_UP {
        path.advance();
        path.uplink();
        path.downlink();
    }
    path
}

fn cost(variant: Variant, extras: Extras) -> Cost {
    let around = Surroundings::new(variant, extras);
    let mut path = warm(&around);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut up_allocations, mut down_allocations) = (0, 0);
    for _ in 0..ROUNDS {
        let (mut up_ns, mut down_ns) = (0, 0);
        for _ in 0..FramePath::FRAMES {
            path.advance();
            let (start, allocations) = (Instant::now(), CountingAllocator::count());
            std::hint::black_box(path.uplink());
            let (middle, between) = (Instant::now(), CountingAllocator::count());
            std::hint::black_box(path.downlink());
            down_ns += middle.elapsed().as_nanos();
            up_ns += middle.duration_since(start).as_nanos();
            up_allocations += between - allocations;
            down_allocations += CountingAllocator::count() - between;
        }
        up.push(up_ns as f64 / FramePath::FRAMES as f64);
        down.push(down_ns as f64 / FramePath::FRAMES as f64);
    }
    let (up, down) = (median(&mut up), median(&mut down));
    Cost { up, down, up_allocations, down_allocations }
}

/// What a call holds that has gone on for a while, beside what all calls share. libopus asks the system for its memory without us.
fn memory(variant: Variant, extras: Extras) -> isize {
    let around = Surroundings::new(variant, extras);
    let first = warm(&around);
    let before = CountingAllocator::live();
    let mut calls = Vec::with_capacity(CALLS);
    calls.extend((0..CALLS).map(|_| warm(&around)));
    let calls_bytes = CountingAllocator::live() - before;
    drop((first, calls));
    calls_bytes / CALLS as isize
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
