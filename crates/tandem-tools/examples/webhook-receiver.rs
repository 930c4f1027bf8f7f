//! The receiver that the tests of this crate start as a process of its own; see `tandem_sim::receiver`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem_sim::receiver::main()
}
