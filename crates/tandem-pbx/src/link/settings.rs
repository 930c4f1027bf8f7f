//! How a switch is reached.

use secrecy::{ExposeSecret, SecretString};

/// Who logs in by name, a user of the switch's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchUser {
    pub name: String,
    pub domain: String,
}

/// A switch whose event socket we connect to.
#[derive(Debug, Clone)]
pub struct SwitchSettings {
    /// What it is called in logs and settings.
    pub name: String,
    /// `host:port` of its event socket; 8021 where no port is given.
    pub address: String,
    /// The event socket's password, or that of `user`.
    pub password: SecretString,
    /// Log in as a user of the directory, with that user's rights.
    pub user: Option<SwitchUser>,
}

/// Why a switch can't be reached like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("the password holds a line end or NUL, which the event socket can't carry")]
    Password,
    #[error("the password is empty")]
    NoPassword,
    #[error(
        "the user {name:?} holds a character other than letters, digits, \".\", \"-\", \"_\" and \"+\""
    )]
    User { name: String },
    #[error("the address {address:?} is not host:port")]
    Address { address: String },
}

impl SwitchSettings {
    /// The switch `name` at `address`.
    pub fn new(
        name: impl Into<String>,
        address: impl Into<String>,
        password: SecretString,
    ) -> Self {
        Self { name: name.into(), address: address.into(), password, user: None }
    }

    /// Finds what can't be used.
    pub fn check(&self) -> Result<(), SettingsError> {
        let password = self.password.expose_secret();
        if password.is_empty() {
            return Err(SettingsError::NoPassword);
        }
        if password.contains(['\r', '\n', '\0']) {
            return Err(SettingsError::Password);
        }
        if let Some(user) = &self.user {
            for name in [&user.name, &user.domain] {
                let plain =
                    |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
                if name.is_empty() || !name.chars().all(plain) {
                    return Err(SettingsError::User { name: name.clone() });
                }
            }
        }
        let address = self.dialled();
        match address.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) =>
            {
                Ok(())
            }
            _ => Err(SettingsError::Address { address: self.address.clone() }),
        }
    }

    /// The address with its port.
    pub(crate) fn dialled(&self) -> String {
        if self.address.parse::<std::net::Ipv6Addr>().is_ok() {
            return format!("[{}]:8021", self.address);
        }
        let port_given = match self.address.rsplit_once(':') {
            Some((host, _)) => !host.contains(':') || host.ends_with(']'),
            None => false,
        };
        if port_given { self.address.clone() } else { format!("{}:8021", self.address) }
    }

    /// The command that logs in.
    pub(super) fn login(&self) -> Vec<u8> {
        let password = self.password.expose_secret();
        match &self.user {
            None => format!("auth {password}\n\n"),
            Some(SwitchUser { name, domain }) => format!("userauth {name}@{domain}:{password}\n\n"),
        }
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_can_not_be_used() {
        let good = SwitchSettings::new("pbx", "127.0.0.1", "ClueCon".into());
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.dialled(), "127.0.0.1:8021");
        assert_eq!(SwitchSettings { address: "pbx:9".into(), ..good.clone() }.dialled(), "pbx:9");
        assert_eq!(
            SwitchSettings { address: "[::1]:9".into(), ..good.clone() }.dialled(),
            "[::1]:9"
        );
        let bad = |password: &str, address: &str, user: Option<(&str, &str)>| {
            let user =
                user.map(|(name, domain)| SwitchUser { name: name.into(), domain: domain.into() });
            SwitchSettings {
                name: "pbx".into(),
                address: address.into(),
                password: password.into(),
                user,
            }
            .check()
        };
        assert_eq!(bad("a\nb", "h", None), Err(SettingsError::Password));
        assert_eq!(bad("", "h", None), Err(SettingsError::NoPassword));
        assert_eq!(
            bad("p", ":8021", None),
            Err(SettingsError::Address { address: ":8021".into() })
        );
        assert_eq!(
            bad("p", "h:99999", None),
            Err(SettingsError::Address { address: "h:99999".into() })
        );
        assert_eq!(
            bad("p", "h", Some(("a b", "c"))),
            Err(SettingsError::User { name: "a b".into() })
        );
        assert_eq!(bad("p", "h", Some(("a", "b.example"))), Ok(()));
        assert!(!format!("{good:?}").contains("ClueCon"));
    }
}
