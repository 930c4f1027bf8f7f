//! What is wrong with a configuration, where, and what to do about it.

use std::{cell::RefCell, fmt, ops::Range, path::PathBuf};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Tandem does not start.
    Error,
    /// Tandem starts, but something is not as the file says.
    Warning,
}

/// One finding in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// How bad it is.
    pub severity: Severity,
    /// Counts from 1.
    pub line: usize,
    /// Characters, counts from 1.
    pub column: usize,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// All findings of one file, by line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Sorted by line and column.
    pub mistakes: Vec<Mistake>,
}

impl Findings {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Whether Tandem can't start with this file.
    pub fn has_errors(&self) -> bool {
        self.mistakes.iter().any(|mistake| mistake.severity == Severity::Error)
    }

    /// How many findings are of `severity`.
    pub fn count(&self, severity: Severity) -> usize {
        self.mistakes.iter().filter(|mistake| mistake.severity == severity).count()
    }
}

/// `file:line:column: error: message`, and the fix on a line of its own.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{mistake}", self.file.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: {}", self.line, self.column, self.message)?;
        self.fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n    fix: {fix}"))
    }
}

/// Collects findings while a file is read; a reader goes on after each of them.
#[derive(Debug)]
pub(crate) struct Mistakes<'a> {
    source: &'a str,
    found: RefCell<Vec<(usize, Mistake)>>,
    broken_lines: RefCell<Vec<usize>>,
}

impl<'a> Mistakes<'a> {
    /// No finding yet in `source`.
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, found: RefCell::default(), broken_lines: RefCell::default() }
    }

    /// Notes that the text at `span` is no TOML; what is read from that line later is not worth a word.
    pub(crate) fn syntax(&self, span: &Range<usize>, message: impl Into<String>) {
        self.error(span, message);
        self.broken_lines.borrow_mut().push(self.line_of(span));
    }

    /// Notes an error at `span`.
    pub(crate) fn error(&self, span: &Range<usize>, message: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), None);
    }

    /// Notes an error at `span` with its remedy.
    pub(crate) fn error_with_fix(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Error, span, message.into(), Some(fix.into()));
    }

    /// Notes a warning at `span` with its remedy.
    pub(crate) fn warning(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Warning, span, message.into(), Some(fix.into()));
    }

    fn add(&self, severity: Severity, span: &Range<usize>, message: String, fix: Option<String>) {
        let (line, column) = position(self.source, span.start);
        if self.broken_lines.borrow().contains(&line) {
            return;
        }
        self.found
            .borrow_mut()
            .push((span.start, Mistake { severity, line, column, message, fix }));
    }

    /// The line that `span` begins in, from 1.
    pub(crate) fn line_of(&self, span: &Range<usize>) -> usize {
        position(self.source, span.start).0
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_findings(self, file: PathBuf) -> Findings {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset, mistake)| (*offset, mistake.severity));
        Findings { file, mistakes: found.into_iter().map(|(_, mistake)| mistake).collect() }
    }
}

/// Line and column of byte `offset`, both from 1; the column counts characters.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(source.len());
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let before = &source[..end];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The one of `known` that was probably meant by `word`: at most a third of it is mistyped.
pub(crate) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            (edits(&word.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits from `from` to `to`: insert, delete, replace, or swap of two neighbours.
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(64).collect();
    let to: Vec<char> = to.chars().take(64).collect();
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let source = "a = 1\nä = \"é\" # x\n";
        for (offset, expected) in [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (8, (2, 2)), (99, (3, 1))]
        {
            assert_eq!(position(source, offset), expected, "{offset}");
        }
    }

    #[test]
    fn a_mistyped_word_finds_the_one_that_was_meant() {
        let known = ["greeting", "system_prompt", "voice", "tools", "models"];
        for (word, meant) in [
            ("greting", Some("greeting")),
            ("Greeting", Some("greeting")),
            ("grenting", Some("greeting")),
            ("system-prompt", Some("system_prompt")),
            ("vioce", Some("voice")),
            ("model", Some("models")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
    }
}
