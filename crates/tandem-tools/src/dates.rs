//! Dates and times as callers say them, where only one day or minute can be meant.

use jiff::{
    ToSpan,
    civil::{Date, Time, Weekday},
};

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 64;

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// `text` as `2026-04-18`, when it can only be one day seen from `today`.
///
/// Understood are ISO dates (with `-` or `/`, a time of day behind it ignored), `18.04.2026`, `today`, `tomorrow`,
/// `the day after tomorrow`, the name of a weekday (the next one; not today's, which may be either), and a day with
/// the name of its month (`April 18th`, `18 April 2026`; without a year the next one). `04/05/2026` is no date here.
pub(crate) fn date_iso(text: &str, today: Date) -> Option<String> {
    let text = plain(text)?;
    let date = match text.as_str() {
        "today" => Some(today),
        "tomorrow" => today.tomorrow().ok(),
        "day after tomorrow" | "the day after tomorrow" => today.checked_add(2.days()).ok(),
        _ => {
            weekday(&text, today).or_else(|| written(&text)).or_else(|| month_and_day(&text, today))
        }
    };
    date.map(|date| date.to_string())
}

/// `text` as `14:30`, when it can only be one minute of the day.
///
/// Understood are `14:30`, `14:30:00`, `2pm`, `2:30 p.m.`, `noon` and `midnight`; `at` before it is ignored. `2:30`
/// alone may be either half of the day, and is read only from 13:00 on or with a leading zero (`09:30`).
pub(crate) fn time_iso(text: &str) -> Option<String> {
    let text = plain(text)?;
    let text = text.strip_prefix("at ").unwrap_or(&text);
    let time = match text {
        "noon" | "midday" => Time::constant(12, 0, 0, 0),
        "midnight" => Time::midnight(),
        _ => clock(text)?,
    };
    Some(format!("{:02}:{:02}", time.hour(), time.minute()))
}

/// In small letters, with single spaces and without a full stop or commas.
fn plain(text: &str) -> Option<String> {
    (text.len() <= MAX_TEXT).then(|| {
        let text = text.to_ascii_lowercase().replace(',', " ");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        words.trim_end_matches(['.', '!']).to_owned()
    })
}

fn weekday(text: &str, today: Date) -> Option<Date> {
    let name = ["on ", "this "].iter().find_map(|word| text.strip_prefix(word)).unwrap_or(text);
    let (_, day) = WEEKDAYS.iter().find(|(weekday, _)| *weekday == name)?;
    (*day != today.weekday()).then(|| today.nth_weekday(1, *day).ok()).flatten()
}

/// `2026-04-18`, `2026/04/18`, `2026-04-18T10:00`, `18.04.2026`.
fn written(text: &str) -> Option<Date> {
    let day = text.split(['t', ' ']).next()?;
    let separator = day.chars().find(|c| !c.is_ascii_digit())?;
    let parts = numbers(day, separator)?;
    match (separator, &parts[..]) {
        ('-' | '/', &[(4, year), (_, month), (_, day)]) => date(year, month, day),
        ('.', &[(_, day), (_, month), (4, year)]) => date(year, month, day),
        _ => None,
    }
}

/// Each number with how many digits it has.
fn numbers(text: &str, separator: char) -> Option<Vec<(usize, i16)>> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split(separator)
        .map(|part| Some((part.len(), part.parse().ok().filter(|_| digits(part))?)))
        .collect()
}

fn date(year: i16, month: i16, day: i16) -> Option<Date> {
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// `April 18`, `April 18th 2026`, `the 18th of April`, `18 April 2026`.
fn month_and_day(text: &str, today: Date) -> Option<Date> {
    let (mut month, mut day, mut year) = (None, None, None);
    for word in text.split(' ') {
        let number = ["st", "nd", "rd", "th"]
            .iter()
            .find_map(|ending| word.strip_suffix(ending))
            .unwrap_or(word);
        let slot = if let Some(index) = MONTHS.iter().position(|name| *name == word) {
            month.replace(index as i16 + 1)
        } else if let Ok(number) = number.parse::<i16>() {
            if number > 31 { year.replace(number) } else { day.replace(number) }
        } else if matches!(word, "the" | "of" | "on") {
            continue;
        } else {
            return None;
        };
        if slot.is_some() {
            return None;
        }
    }
    let (month, day) = (month?, day?);
    match year {
        Some(year) => (1_000..10_000).contains(&year).then(|| date(year, month, day)).flatten(),
        None => {
            let years = today.year()..=today.year().saturating_add(8); // 29 February comes every fourth or eighth.
            years.filter_map(|year| date(year, month, day)).find(|date| *date >= today)
        }
    }
}

fn clock(text: &str) -> Option<Time> {
    let text = text.replace('.', "");
    let (digits, half) = match text.strip_suffix('m') {
        Some(rest) => match (rest.strip_suffix('a'), rest.strip_suffix('p')) {
            (Some(digits), _) => (digits.trim_end(), Some(0)),
            (_, Some(digits)) => (digits.trim_end(), Some(12)),
            _ => return None,
        },
        None => (text.as_str(), None),
    };
    let parts = numbers(digits, ':')?;
    let (length, hour) = *parts.first()?;
    let minute = match &parts[1..] {
        [] if half.is_some() => 0,
        [(2, minute)] | [(2, minute), (2, _)] => *minute,
        _ => return None,
    };
    let hour = match half {
        Some(half) => ((1..=12).contains(&hour)).then_some(hour % 12 + half)?,
        None if length == 2 && !(10..13).contains(&hour) => hour,
        None => return None,
    };
    Time::new(hour.try_into().ok()?, minute.try_into().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_when_only_one_can_be_meant() {
        let today = jiff::civil::date(2026, 4, 15); // A Wednesday.
        for (text, day) in [
            ("2026-04-18", Some("2026-04-18")),
            ("2026/4/8", Some("2026-04-08")),
            ("2026-04-18T10:00:00Z", Some("2026-04-18")),
            ("18.04.2026", Some("2026-04-18")),
            ("Today", Some("2026-04-15")),
            ("tomorrow.", Some("2026-04-16")),
            ("the day after tomorrow", Some("2026-04-17")),
            ("Thursday", Some("2026-04-16")),
            (" on  Tuesday ", Some("2026-04-21")),
            ("this Sunday", Some("2026-04-19")),
            ("Wednesday", None),
            ("next Thursday", None),
            ("April 18th", Some("2026-04-18")),
            ("April 18th, 2027", Some("2027-04-18")),
            ("the 1st of March", Some("2027-03-01")),
            ("15 April", Some("2026-04-15")),
            ("February 29", Some("2028-02-29")),
            ("02/03/2026", None),
            ("2026-02-30", None),
            ("April", None),
            ("April 18 19", None),
            ("the 18th", None),
            ("in a week", None),
            ("", None),
            ("-", None),
            ("2026-04", None),
            ("mañana", None),
        ] {
            assert_eq!(date_iso(text, today).as_deref(), day, "{text}");
        }
        assert_eq!(date_iso(&"today ".repeat(50), today), None);
        assert_eq!(date_iso("tomorrow", Date::MAX), None);
        assert_eq!(date_iso("February 29", Date::MAX), None);
    }

    #[test]
    fn a_minute_is_read_when_only_one_can_be_meant() {
        for (text, time) in [
            ("2pm", Some("14:00")),
            ("2 PM", Some("14:00")),
            ("10:30 AM", Some("10:30")),
            ("at 2:30 p.m.", Some("14:30")),
            ("12am", Some("00:00")),
            ("12 pm", Some("12:00")),
            ("14:30", Some("14:30")),
            ("14:30:15", Some("14:30")),
            ("09:30", Some("09:30")),
            ("Noon", Some("12:00")),
            ("midnight", Some("00:00")),
            ("2:30", None),
            ("11:30", None),
            ("13pm", None),
            ("0am", None),
            ("24:00", None),
            ("14:60", None),
            ("14", None),
            ("1430", None),
            ("morning", None),
            ("pm", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(time_iso(text).as_deref(), time, "{text}");
        }
    }
}
