//! Colour on terminals, and nowhere else.

use std::{env, io::IsTerminal};

use clap::ValueEnum;

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether to colour standard output.
    pub fn paint(self) -> Paint {
        Paint(match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                std::io::stdout().is_terminal()
                    && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        })
    }
}

/// Colours text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// No colour.
    pub const PLAIN: Self = Self(false);

    /// Whether it colours.
    pub const fn is_on(self) -> bool {
        self.0
    }

    /// Green.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Yellow.
    pub fn warning(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Red, bold.
    pub fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Bold.
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Faint.
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(ColorChoice::Never.paint().bad("x"), "x");
        assert_eq!(ColorChoice::Always.paint().bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}
