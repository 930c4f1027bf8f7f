//! What is wrong with a configuration, where, and what to do about it.

use std::{cell::RefCell, collections::BTreeSet, fmt, iter, ops::Range, path::PathBuf};

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
    /// The byte at which each line begins.
    line_starts: Vec<usize>,
    found: RefCell<Vec<Found>>,
    broken_lines: RefCell<BTreeSet<usize>>,
}

/// A finding whose line and column are not looked up yet.
#[derive(Debug)]
struct Found {
    offset: usize,
    severity: Severity,
    message: String,
    fix: Option<String>,
}

impl<'a> Mistakes<'a> {
    /// No finding yet in `source`.
    pub(crate) fn new(source: &'a str) -> Self {
        let after_newlines = source.match_indices('\n').map(|(newline, _)| newline + 1);
        Self {
            source,
            line_starts: iter::once(0).chain(after_newlines).collect(),
            found: RefCell::default(),
            broken_lines: RefCell::default(),
        }
    }

    /// Notes that the text at `span` is no TOML; what is read from that line later is not worth a word.
    pub(crate) fn syntax(&self, span: &Range<usize>, message: impl Into<String>) {
        self.error(span, message);
        self.broken_lines.borrow_mut().insert(self.line_of(span));
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
        if self.broken_lines.borrow().contains(&self.line_of(span)) {
            return;
        }
        self.found.borrow_mut().push(Found { offset: span.start, severity, message, fix });
    }

    /// The line that `span` begins in, from 1.
    pub(crate) fn line_of(&self, span: &Range<usize>) -> usize {
        let offset = span.start.min(self.source.len());
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_findings(self, file: PathBuf) -> Findings {
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| (found.offset, found.severity));
        let mut position = Position { source: self.source, offset: 0, line: 1, column: 1 };
        let mistake = |found: Found| {
            let Found { offset, severity, message, fix } = found;
            position.advance(offset);
            Mistake { severity, line: position.line, column: position.column, message, fix }
        };
        Findings { file, mistakes: found.into_iter().map(mistake).collect() }
    }
}

/// A place in a text that only moves forward, so that many are found in one pass.
struct Position<'a> {
    source: &'a str,
    offset: usize,
    /// From 1.
    line: usize,
    /// Characters, from 1.
    column: usize,
}

impl Position<'_> {
    /// Moves on to byte `offset`, or to the beginning of the character that it lies in.
    fn advance(&mut self, offset: usize) {
        let mut end = offset.min(self.source.len());
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        for c in self.source[self.offset..end].chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset = end;
    }
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
        let mistakes = Mistakes::new(source);
        let places =
            [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (7, (2, 1)), (8, (2, 2)), (99, (3, 1))];
        for (offset, (line, _)) in places.into_iter().rev() {
            mistakes.error(&(offset..offset), offset.to_string());
            assert_eq!(mistakes.line_of(&(offset..offset)), line, "{offset}");
        }
        let findings = mistakes.into_findings("t.toml".into());
        let expected = places.map(|(offset, (line, column))| (offset.to_string(), line, column));
        let found = findings.mistakes.into_iter().map(|it| (it.message, it.line, it.column));
        assert_eq!(found.collect::<Vec<_>>(), expected);
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
