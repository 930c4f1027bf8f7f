//! Users and groups of the directory, as dial strings name them.

use super::{channel::cause, model::SwitchModel};

impl SwitchModel {
    /// The legs that `user/…`, `group/…` or any other dial string stands for, each ready to be called; an error is its
    /// cause.
    pub(crate) fn legs_of(&self, dial: &str) -> Vec<Result<String, String>> {
        let (kind, rest) = dial.split_once('/').unwrap_or((dial, ""));
        let name = rest.split('@').next().unwrap_or_default();
        match kind {
            // A test has said what becomes of it.
            "user" | "group" if self.is_scripted(dial) => vec![Ok(dial.to_owned())],
            "user" => vec![self.contact_of(name)],
            "group" => match self.config.groups.get(name) {
                Some(users) => users.iter().map(|user| self.contact_of(user)).collect(),
                None => vec![Err("NO_ROUTE_DESTINATION".to_owned())],
            },
            "error" => vec![Err(cause(rest))],
            _ => vec![Ok(dial.to_owned())],
        }
    }

    fn contact_of(&self, user: &str) -> Result<String, String> {
        match self.config.users.get(user) {
            Some(Some(contact)) => Ok(contact.clone()),
            Some(None) => Err("USER_NOT_REGISTERED".to_owned()),
            None => Err("SUBSCRIBER_ABSENT".to_owned()),
        }
    }
}
