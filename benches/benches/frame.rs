//! `cargo bench -p tandem-benches`: nanoseconds and allocations of one 20 ms frame, both ways, per format.
//!
//! Medians over rounds of the same frames. An allocation after the warm-up ends the bench with an error.

use std::{process::ExitCode, time::Instant};

use tandem_benches::{CountingAllocator, FramePath, Variant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 41;
const WARM_UP: usize = 1_000;

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list" || arg == "--test") {
        return ExitCode::SUCCESS;
    }
    println!("one 20 ms frame, median of {ROUNDS} rounds of {} frames\n", FramePath::FRAMES);
    println!(
        "{:<28} {:>10} {:>10} {:>12} {:>12}",
        "format", "up ns", "down ns", "up allocs", "down allocs"
    );
    let mut good = true;
    for variant in Variant::ALL {
        let mut path = FramePath::new(variant);
        for _ in 0..WARM_UP {
            path.advance();
            path.uplink();
            path.downlink();
        }
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
        println!(
            "{:<28} {up:>10.0} {down:>10.0} {up_allocations:>12} {down_allocations:>12}",
            variant.name()
        );
        good &= up_allocations + down_allocations == 0 && variant.affords(up, down);
    }
    if good {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nover the budget: 0 allocations and 10 us each way; Opus 240 us both ways, 140 at complexity 0"
    );
    ExitCode::FAILURE
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
