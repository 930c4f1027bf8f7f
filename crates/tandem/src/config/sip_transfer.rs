//! `[sip.transfer]`: how somebody is asked whether they take a caller of a SIP call.

use tandem_exchange::{Accept, ConsultSettings};
use tandem_sip::Credential;

use super::{
    listeners::{printable, set},
    reader::Section,
    secret::{Surroundings, secret_source},
};

/// Characters of an announcement without reason and summary.
const LONGEST_ANNOUNCEMENT: usize = 1_000;

/// Reads `[sip.transfer]`.
pub(crate) fn read_transfer(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> ConsultSettings {
    let mut settings = ConsultSettings::default();
    set(&mut settings.announcement, section.parsed("announcement", parse_announcement));
    set(&mut settings.accept, section.parsed("accept", parse_accept));
    set(&mut settings.ring_timeout, section.seconds("ring_timeout_s", 1..=300));
    settings.credentials = read_credential(&mut section, surroundings);
    section.finish(&["hold_music", "ringback"]);
    settings
}

fn parse_announcement(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_ANNOUNCEMENT {
        return Err(format!("must have 1 to {LONGEST_ANNOUNCEMENT} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must be on one line".into());
    }
    Ok(text.to_owned())
}

fn parse_accept(word: &str) -> Result<Accept, String> {
    let known = [Accept::Key, Accept::Answer].into_iter().find(|accept| accept.name() == word);
    known.ok_or_else(|| format!("{word:?} must be \"key\" or \"answer\""))
}

/// What answers a challenge of the PBX: a user name and a password, or neither.
fn read_credential(
    section: &mut Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<Credential> {
    let username = section.parsed("username", |name| printable(name, 64).map(str::to_owned));
    let source = secret_source(section, ["password", "password_env", "password_file"]);
    match (username, source) {
        (None, None) => None,
        (Some(username), Some(source)) => match source.read(surroundings) {
            Ok(password) => Some(Credential { username, password }),
            Err(why) => {
                section.mistakes().error_with_fix(
                    section.span(),
                    format!("[sip.transfer]: no password for {username:?}: {why}"),
                    "set it, or remove the user",
                );
                None
            }
        },
        (Some(_), None) | (None, Some(_)) => {
            section.mistakes().error_with_fix(
                section.span(),
                "[sip.transfer] needs both a `username` and its password, or neither",
                "for example username = \"tandem\", password_env = \"TANDEM_SIP_PASSWORD\"",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use secrecy::ExposeSecret;
    use tandem_call::TRANSFER_ANNOUNCEMENT;

    use super::*;
    use crate::config::Config;

    fn read(transfer: &str) -> Result<ConsultSettings, String> {
        let text = format!("[sip.transfer]\n{transfer}\n");
        let variable = |name: &str| (name == "P").then(|| "s3cret".to_owned());
        let (config, findings) = Config::read(Path::new("t.toml"), &text, &variable);
        config.map(|config| config.consult).ok_or_else(|| findings.to_string())
    }

    #[test]
    fn what_is_not_said_stays_as_usual() {
        let usual = read("").unwrap();
        assert_eq!(usual.announcement, TRANSFER_ANNOUNCEMENT);
        assert_eq!((usual.accept, usual.ring_timeout), (Accept::Key, Duration::from_secs(25)));
        assert!(usual.credentials.is_none());
    }

    #[test]
    fn everything_can_be_said() {
        let settings = read(
            "announcement = \"A caller. {reason} {summary}\"\naccept = \"answer\"\nring_timeout_s = 15\n\
             username = \"tandem\"\npassword_env = \"P\"",
        )
        .unwrap();
        assert_eq!(settings.announcement, "A caller. {reason} {summary}");
        assert_eq!((settings.accept, settings.ring_timeout.as_secs()), (Accept::Answer, 15));
        let credential = settings.credentials.unwrap();
        assert_eq!(credential.username, "tandem");
        assert_eq!(credential.password.expose_secret(), "s3cret");
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        for (text, told) in [
            ("announcement = \"\"", "1 to 1000 characters"),
            ("announcement = \"a\\nb\"", "on one line"),
            ("accept = \"always\"", "\"always\" must be \"key\" or \"answer\""),
            ("ring_timeout_s = 0", "ring_timeout_s"),
            ("username = \"tandem\"", "needs both a `username` and its password"),
            ("password_env = \"P\"", "needs both a `username` and its password"),
            ("username = \"tandem\"\npassword_env = \"Q\"", "Q is not set"),
            ("acept = \"key\"", "acept"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
