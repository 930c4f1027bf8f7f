//! Names that every model takes.

use sha2::{Digest, Sha256};

/// The longest name of a tool.
const LONGEST: usize = 64;
/// Hex digits that tell long names apart.
const MARK: usize = 8;

/// `prefix` and `name` as `^[A-Za-z][A-Za-z0-9_-]{0,63}$`: what else there is becomes `_`, a first character that is
/// no letter gets `t_` before it, and a longer name ends in a mark of the whole. `None` when nothing is left of it.
pub(super) fn fit(prefix: &str, name: &str) -> Option<String> {
    if !name.chars().any(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let whole = format!("{prefix}{name}");
    let mut fit: String = whole
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .collect();
    if !fit.starts_with(|c: char| c.is_ascii_alphabetic()) {
        fit.insert_str(0, "t_");
    }
    if fit.len() > LONGEST {
        fit.truncate(LONGEST - MARK - 1);
        fit.push('_');
        let digest = Sha256::digest(whole.as_bytes());
        fit.extend(digest.iter().take(MARK / 2).map(|byte| format!("{byte:02x}")));
    }
    Some(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit() {
        for (prefix, name, expected) in [
            ("", "find_customer", Some("find_customer")),
            ("crm_", "find-customer", Some("crm_find-customer")),
            ("", "tickets.create", Some("tickets_create")),
            ("", "tickets/create now", Some("tickets_create_now")),
            ("", "2fa", Some("t_2fa")),
            ("", "_hidden", Some("t__hidden")),
            ("9", "x", Some("t_9x")),
            ("", "größe", Some("gr__e")),
            ("", "", None),
            ("crm_", "...", None),
            ("crm_", "名前", None),
        ] {
            assert_eq!(fit(prefix, name).as_deref(), expected, "{prefix:?} {name:?}");
        }
    }

    #[test]
    fn long_names_stay_apart() {
        let long = "a".repeat(64);
        assert_eq!(fit("", &long).as_deref(), Some(long.as_str()));
        let one = fit("", &format!("{long}1")).expect("a name");
        let two = fit("", &format!("{long}2")).expect("a name");
        assert_eq!((one.len(), two.len()), (64, 64));
        assert_ne!(one, two);
        assert!(one.starts_with(&"a".repeat(55)));
    }
}
