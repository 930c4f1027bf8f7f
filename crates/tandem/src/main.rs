//! `tandem`: see `tandem help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem::cli::main()
}
