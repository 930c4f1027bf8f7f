//! Which agent answers which number: the lines of `[numbers]`, found by the number that was dialled.

use std::collections::HashMap;

use tandem_call::TransferTarget;
use tandem_exchange::Elsewhere;

use crate::number::Pattern;

/// One line of the number plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRoute {
    /// As it is written in the file.
    pub written: String,
    /// The numbers it stands for.
    pub pattern: Pattern,
    /// Where its calls go.
    pub destination: Destination,
    /// A name for people.
    pub label: Option<String>,
    /// Where `transfer_to_human` leads for calls to it.
    pub ai_transfer: Option<TransferTarget>,
    /// Whether calls to it are recorded; none = as the agent says.
    pub recording: Option<bool>,
    /// A disabled number is not answered.
    pub enabled: bool,
    /// Line in the file; 0 when it was not written by anybody.
    pub line: usize,
}

/// Where calls to a number go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// This agent answers.
    Agent(String),
    /// The PBX has a place for them, and gets them back.
    Elsewhere(Elsewhere),
}

impl Destination {
    /// The agent's name, where one answers.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Self::Agent(name) => Some(name),
            Self::Elsewhere(_) => None,
        }
    }
}

/// The lines of the number plan, no two of them for the same numbers.
///
/// Looking a number up costs one hash per digit at most, however many lines there are.
#[derive(Debug, Clone, Default)]
pub struct NumberPlan {
    lines: Vec<NumberRoute>,
    exact: HashMap<String, usize>,
    prefixes: HashMap<String, usize>,
    rest: Option<usize>,
    /// Bytes of the longest prefix.
    longest_prefix: usize,
}

impl NumberPlan {
    /// All lines, in the order in which they were added.
    pub fn lines(&self) -> &[NumberRoute] {
        &self.lines
    }

    /// The line for the normalised `number`: an exact number wins over every prefix, a longer prefix over a shorter one.
    pub fn find(&self, number: &str) -> Option<&NumberRoute> {
        let longest = number.len().min(self.longest_prefix);
        let by_prefix =
            || (1..=longest).rev().find_map(|length| self.prefixes.get(number.get(..length)?));
        let index = self.exact.get(number).or_else(by_prefix).copied().or(self.rest)?;
        Some(&self.lines[index])
    }

    /// Adds a line. Fails with the line that stands for the same numbers already.
    pub(crate) fn add(&mut self, route: NumberRoute) -> Result<(), &NumberRoute> {
        let index = self.lines.len();
        let taken = match &route.pattern {
            Pattern::Exact(number) => self.exact.get(number),
            Pattern::Prefix(prefix) => self.prefixes.get(prefix),
            Pattern::Any => self.rest.as_ref(),
        };
        if let Some(&taken) = taken {
            return Err(&self.lines[taken]);
        }
        match &route.pattern {
            Pattern::Exact(number) => {
                self.exact.insert(number.clone(), index);
            }
            Pattern::Prefix(prefix) => {
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefixes.insert(prefix.clone(), index);
            }
            Pattern::Any => self.rest = Some(index),
        }
        self.lines.push(route);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(numbers: &[&str]) -> NumberPlan {
        let mut plan = NumberPlan::default();
        for written in numbers {
            plan.add(line(written)).expect("no number stands here twice");
        }
        plan
    }

    fn line(written: &str) -> NumberRoute {
        NumberRoute {
            written: written.to_owned(),
            pattern: written.parse().expect("a pattern"),
            destination: Destination::Agent("a".into()),
            label: None,
            ai_transfer: None,
            recording: None,
            enabled: true,
            line: 1,
        }
    }

    #[test]
    fn the_exact_number_wins_then_the_longest_prefix_then_the_rest() {
        let without_rest = plan(&["1305*", "13055551234", "13*", "49*"]);
        let with_rest = plan(&["*", "1305*", "13055551234", "13*", "49*"]);
        for (number, found) in [
            ("13055551234", "13055551234"),
            ("130555512345", "1305*"),
            ("1305", "1305*"),
            ("130", "13*"),
            ("13", "13*"),
            ("1", "*"),
            ("", "*"),
            ("4", "*"),
            ("13ä", "13*"),
            ("1ä05", "*"),
        ] {
            assert_eq!(with_rest.find(number).map(|line| &*line.written), Some(found), "{number}");
            let expected = Some(found).filter(|found| *found != "*");
            assert_eq!(without_rest.find(number).map(|line| &*line.written), expected, "{number}");
        }
    }

    #[test]
    fn a_line_for_the_same_numbers_is_refused() {
        let mut plan = plan(&["1305*", "1305", "*"]);
        for (again, taken) in [("+1 305", "1305"), ("+1-305*", "1305*"), ("*", "*")] {
            assert_eq!(plan.add(line(again)).unwrap_err().written, taken);
        }
        assert_eq!(plan.lines().len(), 3);
    }
}
