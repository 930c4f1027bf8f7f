//! Text with a place for the target of a transfer.

use std::fmt;

/// Longest text of a template, and of what is made of it.
pub(super) const LONGEST_TEMPLATE: usize = 512;

/// What the names in braces stand for; all but `{target}` are known when the configuration is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) domain: Option<&'a str>,
    pub(super) context: &'a str,
    pub(super) gateway: Option<&'a str>,
    pub(super) profile: &'a str,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing is written after the verb.
    #[error("nothing is written there")]
    Empty,
    /// More than 512 bytes.
    #[error("it is longer than {LONGEST_TEMPLATE} bytes")]
    TooLong,
    /// A control character or a quote: it would end the command or change its words.
    #[error("{0:?} cannot be part of it")]
    Character(char),
    /// A brace without its partner; variables in braces are set by Tandem.
    #[error(
        "a brace stands alone; only {{target}}, {{domain}}, {{context}}, {{gateway}} and {{profile}} are known"
    )]
    Brace,
    /// A name that stands for nothing.
    #[error(
        "{{{0}}} stands for nothing; known are {{target}}, {{domain}}, {{context}}, {{gateway}} and {{profile}}"
    )]
    Unknown(String),
    /// A name whose value is not configured.
    #[error("{{{0}}} is used, but no {0} is configured")]
    Missing(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Target,
}

/// A text that becomes whole with a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads `text`, puts in what `places` knows and leaves room for the target.
    pub(super) fn parse(text: &str, places: Places<'_>) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > LONGEST_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            let name = from.strip_prefix('{').ok_or(TemplateError::Brace)?;
            // The switch's own `${variable}` is expanded by the switch.
            let own = plain.ends_with('$');
            let (name, after) = name.split_once('}').ok_or(TemplateError::Brace)?;
            match name {
                _ if own => {
                    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                        return Err(TemplateError::Brace);
                    }
                    plain.push('{');
                    plain.push_str(name);
                    plain.push('}');
                }
                "target" => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Target);
                }
                "domain" => {
                    plain.push_str(places.domain.ok_or(TemplateError::Missing("domain"))?);
                }
                "context" => plain.push_str(places.context),
                "gateway" => {
                    plain.push_str(places.gateway.ok_or(TemplateError::Missing("gateway"))?);
                }
                "profile" => plain.push_str(places.profile),
                _ => return Err(TemplateError::Unknown(name.to_owned())),
            }
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        for piece in &pieces {
            if let Piece::Text(text) = piece
                && let Some(c) = text.chars().find(|c| forbidden(*c))
            {
                return Err(TemplateError::Character(c));
            }
        }
        Ok(Self(pieces))
    }

    /// The text with `target` in its places. The target must have been checked.
    pub fn fill(&self, target: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Target => target,
        });
        pieces.collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fill("{target}"))
    }
}

/// What no word of a command line may hold.
pub(super) fn forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\'' | '"' | '\\' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places<'static> = Places {
        domain: Some("pbx.example"),
        context: "default",
        gateway: None,
        profile: "external",
    };

    #[test]
    fn a_template_knows_its_places() {
        for (text, filled) in [
            ("user/{target}@{domain}", "user/1001@pbx.example"),
            ("loopback/{target}/{context}", "loopback/1001/default"),
            ("sofia/{profile}/{target}@10.0.0.1", "sofia/external/1001@10.0.0.1"),
            ("default ${domain} {target}", "default ${domain} 1001"),
            ("reception", "reception"),
        ] {
            assert_eq!(Template::parse(text, PLACES).unwrap().fill("1001"), filled, "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, error) in [
            ("", TemplateError::Empty),
            ("sofia/gateway/{gateway}/{target}", TemplateError::Missing("gateway")),
            ("user/{extension}", TemplateError::Unknown("extension".into())),
            ("user/{target", TemplateError::Brace),
            ("user/target}", TemplateError::Brace),
            ("user/{target}\nuuid_kill", TemplateError::Character('\n')),
            ("user/'{target}'", TemplateError::Character('\'')),
            ("x ${system(reboot)} {target}", TemplateError::Brace),
        ] {
            assert_eq!(Template::parse(text, PLACES), Err(error), "{text}");
        }
        let long = "x".repeat(LONGEST_TEMPLATE + 1);
        assert_eq!(Template::parse(&long, PLACES), Err(TemplateError::TooLong));
    }
}
