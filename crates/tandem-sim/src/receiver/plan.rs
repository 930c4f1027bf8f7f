//! What a path makes of a request, step by step; both protocols carry it out.

use std::time::Duration;

use serde_json::{Value, json};

use super::Request;

/// The longest time of one step.
const MAX_TIME: Duration = Duration::from_secs(600);

/// The size of what is too large, in bytes.
const TOO_LARGE: usize = 100 * 1024;

/// What is done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, for so long.
    Wait(Duration),
    /// Status, headers, and the length of the body.
    Head { status: u16, kind: String, location: Option<&'static str>, length: usize },
    /// The head of a good answer, its bytes spread over so long a time. HTTP/2 sends it whole at its end.
    DripHead { length: usize, over: Duration },
    /// Part of the body.
    Body(Vec<u8>),
    /// Part of the body, its bytes spread over so long a time.
    Drip { body: Vec<u8>, over: Duration },
    /// A body that does not end.
    Endless,
    /// Bytes in the place of an answer.
    Raw(&'static str),
    /// Nothing more, for ever.
    Hang,
    /// The connection, or with HTTP/2 the stream, is closed.
    Close,
}

/// The path and query whose behaviour `request` asks for.
pub(super) fn asked(request: &Request) -> (String, String) {
    if request.path != "/as-asked" {
        return (request.path.clone(), request.query.clone());
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let asked = body.pointer("/args/receiver").or_else(|| body.get("receiver"));
    let asked = asked.and_then(Value::as_str).unwrap_or("/ok");
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    (path.to_owned(), query.to_owned())
}

/// The steps for `path`, for an invocation that comes for the `nth` time.
pub(super) fn plan(request: &Request, path: &str, query: &str, nth: u64) -> Vec<Step> {
    if request.method == "HEAD" {
        return answer(200, &[], None);
    }
    let pairs = || url::form_urlencoded::parse(query.as_bytes());
    let text =
        |name: &str| pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
    let time = |name: &str| Duration::from_millis(number(name).unwrap_or(0)).min(MAX_TIME);
    let good = || good().to_string().into_bytes();
    match path {
        "/ok" => json_answer(200, &self::good()),
        "/no-message" => json_answer(200, &json!({ "status": "saved", "reference": "R-1001" })),
        "/echo" => {
            let received: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            json_answer(
                200,
                &json!({ "status": "saved", "message": "I have it.", "received": received }),
            )
        }
        "/count" => {
            json_answer(200, &json!({ "status": "counted", "message": "Counted.", "count": nth }))
        }
        "/reply" | "/answer" => {
            let status =
                number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
            let body = text("body").unwrap_or_default();
            let mut steps = vec![Step::Wait(time("after_ms"))];
            steps.extend(answer(status, body.as_bytes(), text("type").as_deref()));
            steps
        }
        "/redirect" => {
            let mut steps = json_answer(302, &self::good());
            if let Some(Step::Head { location, .. }) = steps.first_mut() {
                *location = Some("/ok");
            }
            steps
        }
        "/not-json" => answer(200, b"<html><body>Welcome.</body></html>", Some("text/html")),
        "/not-object" => json_answer(200, &json!(["That is done."])),
        "/empty" => answer(204, &[], None),
        "/too-large" => {
            let mut large = self::good();
            large["data"] = "x".repeat(TOO_LARGE).into();
            json_answer(200, &large)
        }
        "/endless" => vec![head(200, "application/json", usize::MAX), Step::Endless],
        "/drip" => {
            let body = good();
            vec![head(200, "application/json", body.len()), Step::Drip { body, over: time("ms") }]
        }
        "/drip-head" => {
            let body = good();
            vec![Step::DripHead { length: body.len(), over: time("ms") }, Step::Body(body)]
        }
        "/late" => {
            let mut steps = vec![Step::Wait(time("ms"))];
            steps.extend(json_answer(200, &self::good()));
            steps
        }
        "/hang" => vec![Step::Hang],
        "/close" => vec![Step::Close],
        "/close-head" => vec![Step::Raw("HTTP/1.1 200 OK\r\ncontent-le"), Step::Close],
        "/close-body" => {
            let body = good();
            let begin = body[..body.len() / 2].to_vec();
            vec![head(200, "application/json", body.len()), Step::Body(begin), Step::Close]
        }
        "/wrong" => vec![Step::Raw("220 mail.example.com ESMTP\r\n\r\n"), Step::Close],
        _ => match path
            .trim_start_matches("/message/")
            .trim_start_matches("/status/")
            .trim_start_matches('/')
            .parse()
        {
            Ok(status @ 200..=599) if path.starts_with("/message/") => json_answer(
                status,
                &json!({ "status": "refused", "message": "That is not possible." }),
            ),
            Ok(status @ 200..=599) => answer(status, b"Something went wrong.", Some("text/plain")),
            _ => answer(404, b"There is nothing at this path.", Some("text/plain")),
        },
    }
}

fn good() -> Value {
    json!({ "status": "saved", "message": "That is done.", "reference": "R-1001" })
}

fn json_answer(status: u16, body: &Value) -> Vec<Step> {
    answer(status, body.to_string().as_bytes(), None)
}

fn answer(status: u16, body: &[u8], kind: Option<&str>) -> Vec<Step> {
    let kind = kind.unwrap_or("application/json");
    vec![head(status, kind, body.len()), Step::Body(body.to_vec())]
}

fn head(status: u16, kind: &str, length: usize) -> Step {
    Step::Head { status, kind: kind.to_owned(), location: None, length }
}

/// So long a pause after each of `count` bytes makes `over`; never less than a millisecond for so many bytes at once.
pub(super) fn pace(count: usize, over: Duration) -> (usize, Duration) {
    let ticks = usize::try_from(over.as_millis()).unwrap_or(usize::MAX).clamp(1, count.max(1));
    let at_once = count.div_ceil(ticks).max(1);
    (at_once, over / u32::try_from(count.div_ceil(at_once).max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_arguments_is_what_is_done() {
        let mut request = Request { path: "/as-asked".into(), ..Request::default() };
        assert_eq!(asked(&request), ("/ok".into(), String::new()));
        request.body = br#"{"function":"x","args":{"receiver":"/late?ms=5"}}"#.to_vec();
        assert_eq!(asked(&request), ("/late".into(), "ms=5".into()));
        let steps = plan(&request, "/late", "ms=5", 1);
        assert_eq!(steps[0], Step::Wait(Duration::from_millis(5)));
        assert_eq!(steps.len(), 3);
    }

    #[test]
    fn a_status_may_stand_alone() {
        let request = Request::default();
        for (path, status) in [
            ("/500", 500),
            ("/status/401", 401),
            ("/message/404", 404),
            ("/what", 404),
            ("/7", 404),
        ] {
            let Step::Head { status: answered, .. } = plan(&request, path, "", 1)[0] else {
                panic!("{path}")
            };
            assert_eq!(answered, status, "{path}");
        }
    }

    #[test]
    fn bytes_are_spread_over_the_whole_time() {
        for (count, ms) in [(80, 6_000), (80, 10), (1, 500), (0, 50), (80, 0)] {
            let over = Duration::from_millis(ms);
            let (at_once, pause) = pace(count, over);
            let total = pause * count.div_ceil(at_once).max(1) as u32;
            assert!(
                total <= over && over - total < Duration::from_millis(1),
                "{count} {ms}: {at_once} {pause:?}"
            );
        }
    }
}
