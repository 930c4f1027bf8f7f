//! A receiver of tool webhooks that does what the path says; see `tandem_sim::receiver`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem_sim::receiver::main()
}
