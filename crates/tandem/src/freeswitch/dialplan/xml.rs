//! Writes XML as FreeSWITCH reads it: line by line through its preprocessor, then by its parser.

/// A file in the making, indented by two blanks.
#[derive(Debug, Default)]
pub(super) struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// A line as it is, at the margin.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.depth = usize::from(!line.starts_with("</"));
    }

    /// A comment: on one line if it is one.
    pub(super) fn comment(&mut self, lines: &[impl AsRef<str>]) {
        match lines {
            [line] => self.push(&format!("<!-- {} -->", harmless(line.as_ref()))),
            lines => {
                self.push("<!--");
                for line in lines {
                    self.push(&format!("  {}", harmless(line.as_ref())));
                }
                self.push("-->");
            }
        }
    }

    pub(super) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.push(&format!("<{name}{}>", written(attributes)));
        self.depth += 1;
    }

    pub(super) fn close(&mut self, name: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.push(&format!("</{name}>"));
    }

    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.push(&format!("<{name}{}/>", written(attributes)));
    }

    /// An empty element and, on the same line, a remark.
    pub(super) fn noted(&mut self, name: &str, attributes: &[(&str, &str)], note: &str) {
        self.push(&format!("<{name}{}/> <!-- {} -->", written(attributes), harmless(note)));
    }

    /// `<action application="…" data="…"/>`, without `data` where it is empty.
    pub(super) fn action(&mut self, application: &str, data: &str) {
        let attributes = [("application", application), ("data", data)];
        let count = if data.is_empty() { 1 } else { 2 };
        self.push(&format!("<action{}/>", written(&attributes[..count])));
    }

    fn push(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn written(attributes: &[(&str, &str)]) -> String {
    let written = attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value)));
    written.collect()
}

/// An attribute's value between double quotes.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len() + 16);
    for c in value.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || is_no_xml(c) => {}
            c => escaped.push(c),
        }
    }
    without_directive(&escaped, "&#45;")
}

/// Text that can't end a comment, and that the preprocessor finds nothing in.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => harmless.push('('),
            '>' => harmless.push(')'),
            '-' if harmless.ends_with('-') => harmless.push_str(" -"),
            // `$${variable}` is put in everywhere, and may hold anything.
            '$' if harmless.ends_with('$') => harmless.push_str(" $"),
            c if c.is_control() => harmless.push(' '),
            c if is_no_xml(c) => {}
            c => harmless.push(c),
        }
    }
    without_directive(harmless.trim_end_matches('-'), " ")
}

/// The preprocessor drops a line that holds its word, wherever it stands; `dash` takes the place of one of the word's.
fn without_directive(text: &str, dash: &str) -> String {
    const WORD: &str = "x-pre-process";
    let lower = text.to_ascii_lowercase();
    let mut rest = 0;
    let mut safe = String::with_capacity(text.len());
    while let Some(at) = lower[rest..].find(WORD) {
        safe.push_str(&text[rest..=rest + at]);
        safe.push_str(dash);
        rest += at + 2;
    }
    safe.push_str(&text[rest..]);
    safe
}

fn is_no_xml(c: char) -> bool {
    matches!(c, '\u{FFFE}' | '\u{FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_place() {
        for (text, attribute, comment) in [
            ("a<b>&\"c\"'d'", "a&lt;b&gt;&amp;&quot;c&quot;'d'", "a(b)&\"c\"'d'"),
            ("--> <!--#exec x", "--&gt; &lt;!--#exec x", "- -) (!- -#exec x"),
            ("---", "---", "- - "),
            ("a\nb\u{0}\u{7f}c\u{FFFE}", "abc", "a b  c"),
            ("<X-PRE-PROCESS", "&lt;X&#45;PRE-PROCESS", "(X PRE-PROCESS"),
            (
                "äx-pre-processx-Pre-process",
                "äx&#45;pre-processx&#45;Pre-process",
                "äx pre-processx Pre-process",
            ),
            ("$${password} $x", "$${password} $x", "$ ${password} $x"),
        ] {
            assert_eq!(escaped(text), attribute);
            assert_eq!(harmless(text), comment);
        }
    }
}
