//! Reads typed values out of a TOML document and goes on after a mistake, so that all are reported together.

use std::{ops::Range, ops::RangeInclusive, time::Duration};

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistakes, closest};

/// One table. It remembers which keys were asked for: the others are unknown.
pub(crate) struct Section<'a, 'i> {
    path: String,
    span: Range<usize>,
    entries: &'a DeTable<'i>,
    known: Vec<&'static str>,
    has_named_tables: bool,
    mistakes: &'a Mistakes<'a>,
}

impl<'a, 'i> Section<'a, 'i> {
    /// The whole document.
    pub(crate) fn root(entries: &'a DeTable<'i>, mistakes: &'a Mistakes<'a>) -> Self {
        Self {
            path: String::new(),
            span: 0..0,
            entries,
            known: Vec::new(),
            has_named_tables: false,
            mistakes,
        }
    }

    /// Where it begins.
    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Whether it has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its path in the document: `agents.reception`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where findings go.
    pub(crate) fn mistakes(&self) -> &'a Mistakes<'a> {
        self.mistakes
    }

    /// The value of `key`, if it is there.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value<'a, 'i>> {
        self.known.push(key);
        let (name, value) = self.entries.get_key_value(key)?;
        Some(self.entry(name.get_ref(), name.span(), value))
    }

    /// The table `key`, if it is there and a table.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'a, 'i>> {
        self.value(key)?.section()
    }

    /// The string `key` of at most `max` bytes.
    pub(crate) fn string(&mut self, key: &'static str, max: usize) -> Option<String> {
        self.value(key)?.string(max).map(str::to_owned)
    }

    /// The string `key` made into something else; the text of `parse`'s error says what is wrong with it.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.value(key)?.parsed(parse)
    }

    /// The whole number `key` within `range`.
    pub(crate) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key)?.integer(range)
    }

    /// The count `key` within `range`.
    pub(crate) fn count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = range.into_inner();
        self.integer(key, low.into()..=high.into()).and_then(|count| u32::try_from(count).ok())
    }

    /// The number `key` within `range`.
    pub(crate) fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        self.value(key)?.number(range)
    }

    /// The truth value `key`.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.value(key)?.boolean()
    }

    /// The milliseconds `key` within `range`.
    pub(crate) fn millis(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Duration> {
        self.integer(key, range).map(Duration::from_millis)
    }

    /// The seconds `key` within `range`.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Duration> {
        self.integer(key, range).map(Duration::from_secs)
    }

    /// The list `key` of at most `max` values.
    pub(crate) fn list(&mut self, key: &'static str, max: usize) -> Option<Vec<Value<'a, 'i>>> {
        self.value(key)?.list(max)
    }

    /// Every entry, at most `max`, for tables whose keys the user chooses. None of them is unknown afterwards.
    pub(crate) fn entries(self, max: usize) -> Vec<(String, Value<'a, 'i>)> {
        if self.entries.len() > max {
            let message = format!(
                "`{}` has {} entries, at most {max} are allowed",
                self.path,
                self.entries.len()
            );
            self.mistakes.error(&self.span, message);
        }
        self.entries
            .iter()
            .take(max)
            .map(|(name, value)| {
                (name.get_ref().to_string(), self.entry(name.get_ref(), name.span(), value))
            })
            .collect()
    }

    /// The tables under keys that nobody asked for, at most `max`: those whose names the user chooses. They are not
    /// unknown to [`Section::finish`] afterwards.
    pub(crate) fn named_tables(&mut self, max: usize) -> Vec<(String, Value<'a, 'i>)> {
        let mut named = Vec::new();
        for (name, value) in self.entries {
            let key = name.get_ref().as_ref();
            if self.known.contains(&key) || !matches!(value.get_ref(), DeValue::Table(_)) {
                continue;
            }
            if named.len() == max {
                let message = format!("`{}` has more than {max} tables", self.path);
                self.mistakes.error(&name.span(), message);
                break;
            }
            named.push((key.to_owned(), self.entry(key, name.span(), value)));
        }
        self.has_named_tables = true;
        named
    }

    /// Reports the keys that nobody asked for; `planned` ones are known words that this version has no use for.
    pub(crate) fn finish(self, planned: &[&str]) {
        for (name, value) in self.entries {
            let key = name.get_ref().as_ref();
            let named = self.has_named_tables && matches!(value.get_ref(), DeValue::Table(_));
            if self.known.contains(&key) || named {
                continue;
            }
            let place =
                if self.path.is_empty() { "the file".into() } else { format!("[{}]", self.path) };
            if planned.contains(&key) {
                let message =
                    format!("`{key}` in {place} is not supported by this version of Tandem");
                self.mistakes.error_with_fix(&name.span(), message, "remove it");
                continue;
            }
            let fix = closest(key, self.known.iter().copied())
                .map(|meant| format!("did you mean `{meant}`?"))
                .unwrap_or_else(|| format!("known keys: {}", self.known.join(", ")));
            self.mistakes.error_with_fix(
                &name.span(),
                format!("unknown key `{key}` in {place}"),
                fix,
            );
        }
    }

    fn entry(
        &self,
        name: &str,
        key_span: Range<usize>,
        value: &'a toml::Spanned<DeValue<'i>>,
    ) -> Value<'a, 'i> {
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Value { path, key_span, value, mistakes: self.mistakes }
    }
}

/// One value and where it stands.
pub(crate) struct Value<'a, 'i> {
    path: String,
    key_span: Range<usize>,
    value: &'a toml::Spanned<DeValue<'i>>,
    mistakes: &'a Mistakes<'a>,
}

impl<'a, 'i> Value<'a, 'i> {
    /// Where its key stands (of a list's member: the member itself).
    pub(crate) fn key_span(&self) -> &Range<usize> {
        &self.key_span
    }

    /// Where the value stands.
    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Its path in the document.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where findings go.
    pub(crate) fn mistakes(&self) -> &'a Mistakes<'a> {
        self.mistakes
    }

    /// Whether it is a string.
    pub(crate) fn is_string(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    /// Whether it is a table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// The value as the parser left it.
    pub(crate) fn raw(&self) -> &'a toml::Spanned<DeValue<'i>> {
        self.value
    }

    /// A table.
    pub(crate) fn section(&self) -> Option<Section<'a, 'i>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Section {
                path: self.path.clone(),
                span: self.key_span.clone(),
                entries,
                known: Vec::new(),
                has_named_tables: false,
                mistakes: self.mistakes,
            }),
            _ => self.expected("a table"),
        }
    }

    /// A string of at most `max` bytes.
    pub(crate) fn string(&self, max: usize) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) if text.len() <= max => Some(text),
            DeValue::String(text) => {
                let message = format!(
                    "`{}` is {} bytes long, at most {max} are allowed",
                    self.path,
                    text.len()
                );
                self.mistakes.error(&self.span(), message);
                None
            }
            _ => self.expected("a string"),
        }
    }

    /// A string made into something else.
    pub(crate) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.string(4096)?;
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.mistakes.error(&self.span(), format!("`{}`: {why}", self.path));
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            return self.expected("a whole number");
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.out_of_range(integer, range.start(), range.end()),
        }
    }

    /// A number within `range`.
    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let (text, number) = match self.value.get_ref() {
            DeValue::Float(float) => (float.to_string(), float.as_str().parse().ok()),
            DeValue::Integer(integer) => (
                integer.to_string(),
                i32::from_str_radix(integer.as_str(), integer.radix()).ok().map(f64::from),
            ),
            _ => return self.expected("a number"),
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.out_of_range(text, range.start(), range.end()),
        }
    }

    /// A truth value.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.expected("true or false"),
        }
    }

    /// A list of at most `max` values.
    pub(crate) fn list(&self, max: usize) -> Option<Vec<Value<'a, 'i>>> {
        let DeValue::Array(items) = self.value.get_ref() else { return self.expected("a list") };
        if items.len() > max {
            let message =
                format!("`{}` has {} entries, at most {max} are allowed", self.path, items.len());
            self.mistakes.error(&self.span(), message);
        }
        let item = |value: &'a toml::Spanned<DeValue<'i>>| Value {
            path: self.path.clone(),
            key_span: value.span(),
            value,
            mistakes: self.mistakes,
        };
        Some(items.iter().take(max).map(item).collect())
    }

    fn out_of_range<T>(
        &self,
        found: impl std::fmt::Display,
        low: impl std::fmt::Debug,
        high: impl std::fmt::Debug,
    ) -> Option<T> {
        let message =
            format!("`{}` is {found}, it must lie between {low:?} and {high:?}", self.path);
        self.mistakes.error(&self.span(), message);
        None
    }

    /// Reports that something else stands here; the value is not repeated, it may be a secret.
    pub(crate) fn expected<T>(&self, what: &str) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistakes.error(&self.span(), format!("`{}` must be {what}, found {found}", self.path));
        None
    }
}
