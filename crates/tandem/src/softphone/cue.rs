//! What the caller does and when, as the command line writes it.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tandem_call::Digit;

use super::turns::HeardTurn;

/// The latest time a cue may name.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// Digits in one cue; each takes 150 ms.
const MAX_DIGITS: usize = 64;

/// When something happens, counted from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    /// At this time: `2s`, `1.5s`, `500ms`.
    At(Duration),
    /// When the far side's turn of this number, from 1, is over, and then some: `after2`, `after2+500ms`.
    After {
        /// Which turn.
        turn: usize,
        /// Counted from the last sound of it.
        plus: Duration,
    },
    /// So long into the far side's turn of this number: `during2+1s`.
    During {
        /// Which turn.
        turn: usize,
        /// Counted from the first sound of it.
        plus: Duration,
    },
}

impl Cue {
    /// When it is due, once that is known.
    pub fn due(self, turns: &[HeardTurn]) -> Option<Duration> {
        match self {
            Self::At(at) => Some(at),
            Self::After { turn, plus } => Some(turns.get(turn.checked_sub(1)?)?.end? + plus),
            Self::During { turn, plus } => Some(turns.get(turn.checked_sub(1)?)?.start + plus),
        }
    }
}

impl FromStr for Cue {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no time: 2s, 500ms, after1, after1+500ms or during2+1s");
        let relative = |rest: &str| -> Result<(usize, Duration), String> {
            let (turn, plus) = rest.split_once('+').unwrap_or((rest, "0s"));
            let turn =
                turn.parse().ok().filter(|turn| (1..=1000).contains(turn)).ok_or_else(wrong)?;
            Ok((turn, parse_time(plus).ok_or_else(wrong)?))
        };
        if let Some(rest) = text.strip_prefix("after") {
            let (turn, plus) = relative(rest)?;
            Ok(Self::After { turn, plus })
        } else if let Some(rest) = text.strip_prefix("during") {
            let (turn, plus) = relative(rest)?;
            Ok(Self::During { turn, plus })
        } else {
            parse_time(text).map(Self::At).ok_or_else(wrong)
        }
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1000.0),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds: f64 = number.parse().ok().filter(|_| plain)?;
    Duration::try_from_secs_f64(seconds / unit).ok().filter(|time| *time <= MAX_TIME)
}

/// A WAV file to play: `hello.wav`, `2s:hello.wav`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WavCue {
    /// When; the answer, if none is named.
    pub when: Cue,
    /// What.
    pub file: PathBuf,
}

impl FromStr for WavCue {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // A colon may as well be part of the path.
        let timed = text.split_once(':').and_then(|(when, file)| Some((when.parse().ok()?, file)));
        let (when, file) = timed.unwrap_or((Cue::At(Duration::ZERO), text));
        if file.is_empty() {
            return Err(format!("{text:?} names no file"));
        }
        Ok(Self { when, file: file.into() })
    }
}

/// Digits to press: `5.5s:#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitCue {
    /// When.
    pub when: Cue,
    /// Which, in this order.
    pub digits: Vec<Digit>,
}

impl FromStr for DigitCue {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (when, digits) =
            text.split_once(':').ok_or_else(|| format!("{text:?} has no time, as in \"2s:1\""))?;
        let when = when.trim().parse()?;
        let digits: Vec<Digit> =
            digits.trim().chars().map(Digit::try_from).collect::<Result<_, _>>()?;
        if digits.is_empty() || digits.len() > MAX_DIGITS {
            return Err(format!("{text:?} must name 1 to {MAX_DIGITS} digits"));
        }
        Ok(Self { when, digits })
    }
}

/// A header of the INVITE: `X-Tenant: acme`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderArg {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for HeaderArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is no header, as in \"X-Tenant: acme\""))?;
        let (name, value) = (name.trim(), value.trim());
        let token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("{name:?} is no header name"));
        }
        const OURS: [&str; 12] = [
            "via",
            "from",
            "to",
            "call-id",
            "cseq",
            "contact",
            "max-forwards",
            "route",
            "content-length",
            "content-type",
            "authorization",
            "proxy-authorization",
        ];
        if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            return Err(format!("{name:?} is set by the call itself"));
        }
        if value.chars().any(char::is_control) || value.len() > 1024 {
            return Err("a header value has at most 1024 characters and none that controls".into());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn times_are_read() {
        for (text, cue) in [
            ("2s", Some(Cue::At(ms(2000)))),
            ("5.5s", Some(Cue::At(ms(5500)))),
            ("500ms", Some(Cue::At(ms(500)))),
            ("0s", Some(Cue::At(ms(0)))),
            ("after1", Some(Cue::After { turn: 1, plus: ms(0) })),
            ("after12+500ms", Some(Cue::After { turn: 12, plus: ms(500) })),
            ("during2+1.5s", Some(Cue::During { turn: 2, plus: ms(1500) })),
            ("2", None),
            ("-2s", None),
            ("1e9s", None),
            ("infs", None),
            ("3601s", None),
            ("after0", None),
            ("after", None),
            ("during1+x", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Cue>().ok(), cue, "{text}");
        }
    }

    #[test]
    fn digits_have_a_time_and_are_digits() {
        let cue: DigitCue = "2s:1".parse().unwrap();
        assert_eq!((cue.when, cue.digits.len()), (Cue::At(ms(2000)), 1));
        let cue: DigitCue = "after2: 12#*d".parse().unwrap();
        let digits: String = cue.digits.iter().map(|digit| digit.as_char()).collect();
        assert_eq!(digits, "12#*D");
        for text in ["1", "2s:", "2s:x", "x:1", ":1", ""] {
            assert!(text.parse::<DigitCue>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wav_may_have_a_time() {
        for (text, when, file) in [
            ("a.wav", Cue::At(ms(0)), "a.wav"),
            ("2s:a.wav", Cue::At(ms(2000)), "a.wav"),
            ("after1+1s:/tmp/a:b.wav", Cue::After { turn: 1, plus: ms(1000) }, "/tmp/a:b.wav"),
            ("dir:a.wav", Cue::At(ms(0)), "dir:a.wav"),
        ] {
            let cue: WavCue = text.parse().unwrap();
            assert_eq!((cue.when, cue.file.to_str().unwrap()), (when, file), "{text}");
        }
        assert!("2s:".parse::<WavCue>().is_err());
    }

    #[test]
    fn a_header_can_smuggle_nothing() {
        let header: HeaderArg = "X-Tenant: acme: two".parse().unwrap();
        assert_eq!((header.name.as_str(), header.value.as_str()), ("X-Tenant", "acme: two"));
        for text in ["X-Tenant", ": x", "X Y: z", "X: a\r\nVia: b", "call-id: 1", "Via: x"] {
            assert!(text.parse::<HeaderArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cue_is_due_when_its_turn_is_known() {
        let turns = [
            HeardTurn { start: ms(100), end: Some(ms(900)) },
            HeardTurn { start: ms(2000), end: None },
        ];
        for (text, due) in [
            ("3s", Some(3000)),
            ("after1+500ms", Some(1400)),
            ("after2", None),
            ("during2+1s", Some(3000)),
            ("during3", None),
        ] {
            assert_eq!(text.parse::<Cue>().unwrap().due(&turns), due.map(ms), "{text}");
        }
    }
}
