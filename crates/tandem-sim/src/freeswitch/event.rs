//! Events of the event socket, and their three formats.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use super::json;

/// One event: headers in their order, perhaps a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchEvent {
    headers: Vec<(Cow<'static, str>, String)>,
    body: Option<String>,
}

/// How a connection wants events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Plain,
    Json,
    Xml,
}

impl Format {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "plain" => Some(Self::Plain),
            "json" => Some(Self::Json),
            "xml" => Some(Self::Xml),
            _ => None,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Xml => "xml",
        }
    }
}

impl SwitchEvent {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }

    pub(crate) fn set_body(&mut self, body: impl Into<String>) {
        self.body = Some(body.into());
    }

    /// The value of a header, case-insensitively.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The name of the event, as `CHANNEL_ANSWER`.
    pub fn name(&self) -> &str {
        self.header("Event-Name").unwrap_or_default()
    }

    /// The class of a CUSTOM event, as `mod_audio_fork::connect`.
    pub fn subclass(&self) -> Option<&str> {
        self.header("Event-Subclass")
    }

    /// The channel it is about.
    pub fn uuid(&self) -> Option<&str> {
        self.header("Unique-ID")
    }

    /// The body, if it has one.
    pub fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    /// The event as it goes out on a connection, frame headers included.
    pub(crate) fn frame(&self, format: Format) -> String {
        let text = match format {
            Format::Plain => self.plain(true),
            Format::Json => self.json(),
            Format::Xml => self.xml(),
        };
        format!(
            "Content-Length: {}\nContent-Type: text/event-{}\n\n{text}",
            text.len(),
            format.word()
        )
    }

    /// Header lines with encoded values, then the body if there is one.
    pub(crate) fn plain(&self, encoded: bool) -> String {
        let mut text = String::with_capacity(self.headers.len() * 40);
        for (name, value) in &self.headers {
            let value = match value.as_str() {
                "" => Cow::Borrowed("_undef_"),
                value if encoded => url_encoded(value),
                value => Cow::Owned(format!("[{value}]")),
            };
            let _written = writeln!(text, "{name}: {value}");
        }
        match &self.body {
            Some(body) => {
                let _written = write!(text, "Content-Length: {}\n\n{body}", body.len());
            }
            None => text.push('\n'),
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let length = self.body.as_ref().map(|body| body.len().to_string());
        let printed: Vec<(&str, String)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_ref(), json::quoted(value)))
            .chain(length.map(|length| ("Content-Length", json::quoted(&length))))
            .chain(self.body.as_ref().map(|body| ("_body", json::quoted(body))))
            .collect();
        json::object(printed.iter().map(|(name, value)| (*name, value.as_str())))
    }

    pub(crate) fn xml(&self) -> String {
        let mut text = String::from("<event>\n  <headers>\n");
        for (name, value) in &self.headers {
            let _written = writeln!(text, "    <{name}>{}</{name}>", url_encoded(value));
        }
        text.push_str("  </headers>\n");
        if let Some(body) = &self.body {
            let body = body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _written = writeln!(
                text,
                "  <Content-Length>{}</Content-Length>\n  <body>{body}</body>",
                body.len()
            );
        }
        text.push_str("</event>\n");
        text
    }
}

/// Encodes what FreeSWITCH encodes in plain events.
pub(crate) fn url_encoded(value: &str) -> Cow<'_, str> {
    const UNSAFE: &[u8] = b" #%&+:;<=>?@[\\]^`{|}\"";
    let unsafe_byte = |byte: u8| !(b' '..=b'~').contains(&byte) || UNSAFE.contains(&byte);
    if !value.bytes().any(unsafe_byte) {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::with_capacity(value.len() * 2);
    for byte in value.bytes() {
        if unsafe_byte(byte) {
            let _written = write!(encoded, "%{byte:02X}");
        } else {
            encoded.push(byte as char);
        }
    }
    Cow::Owned(encoded)
}

/// A moment as events name it: local, GMT (both UTC here) and microseconds.
pub(crate) struct Stamp {
    pub(crate) local: String,
    pub(crate) gmt: String,
    pub(crate) micros: u64,
}

impl Stamp {
    /// The moment so long after the Unix epoch.
    pub(crate) fn at(since_epoch: Duration) -> Self {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let seconds = since_epoch.as_secs();
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let time = format!("{:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60);
        let (year, month, day) = civil(days);
        let weekday = DAYS[(days % 7) as usize];
        let name = MONTHS[month as usize - 1];
        Self {
            local: format!("{year:04}-{month:02}-{day:02} {time}"),
            gmt: format!("{weekday}, {day:02} {name} {year:04} {time} GMT"),
            micros: since_epoch.as_micros() as u64,
        }
    }
}

/// Year, month and day of a day number since 1970 in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_the_captures() {
        let mut event = SwitchEvent::new();
        event.push("Event-Name", "BACKGROUND_JOB");
        event.push("Job-Command-Arg", "sofia/internal/busy@127.0.0.1:5090 &park");
        event.push("Empty", "");
        event.set_body("-ERR USER_BUSY\n");
        assert_eq!(
            event.plain(true),
            "Event-Name: BACKGROUND_JOB\nJob-Command-Arg: sofia/internal/busy%40127.0.0.1%3A5090%20%26park\nEmpty: _undef_\n\
             Content-Length: 15\n\n-ERR USER_BUSY\n"
        );
        assert_eq!(
            event.json(),
            "{\"Event-Name\":\"BACKGROUND_JOB\",\"Job-Command-Arg\":\"sofia/internal/busy@127.0.0.1:5090 &park\",\
             \"Empty\":\"\",\"Content-Length\":\"15\",\"_body\":\"-ERR USER_BUSY\\n\"}"
        );
        assert_eq!(
            url_encoded("tone_stream://%(500,500,440);loops=-1"),
            "tone_stream%3A//%25(500,500,440)%3Bloops%3D-1"
        );
    }

    #[test]
    fn stamps_are_calendar_dates() {
        let stamp = Stamp::at(Duration::from_micros(1_795_232_474_775_879));
        assert_eq!(stamp.local, "2026-11-21 03:41:14");
        assert_eq!(stamp.gmt, "Sat, 21 Nov 2026 03:41:14 GMT");
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
    }
}
