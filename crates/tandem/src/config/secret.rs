//! Secrets come from the environment or from a file of their own, never from the configuration itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::reader::Section;

/// The longest key or password we read, in bytes.
const MAX_SECRET: u64 = 16 * 1024;

/// Where a secret is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Variable(String),
    /// A file that holds the secret and nothing else.
    File(PathBuf),
}

/// What a secret is looked up in.
pub(crate) struct Surroundings<'a> {
    /// The environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths in the configuration start from.
    pub(crate) directory: &'a Path,
}

impl SecretSource {
    /// The secret, or why there is none, without a word of it.
    pub(crate) fn read(&self, surroundings: &Surroundings<'_>) -> Result<SecretString, String> {
        match self {
            Self::Variable(name) => match (surroundings.variable)(name) {
                Some(secret) if !secret.trim().is_empty() => {
                    Ok(SecretString::from(secret.trim().to_owned()))
                }
                _ => Err(format!("the environment variable {name} is not set")),
            },
            Self::File(path) => {
                let path = surroundings.directory.join(path);
                let failed = |why: String| format!("{} can't be read: {why}", path.display());
                let length = fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
                if length > MAX_SECRET {
                    return Err(failed(format!(
                        "it has {length} bytes, a key has fewer than {MAX_SECRET}"
                    )));
                }
                let secret =
                    fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
                if secret.trim().is_empty() {
                    return Err(failed("it is empty".into()));
                }
                Ok(SecretString::from(secret.trim().to_owned()))
            }
        }
    }
}

/// Reads `<what>_env` or `<what>_file` of `section`; the secret itself under `<what>` is refused.
pub(crate) fn secret_source(
    section: &mut Section<'_, '_>,
    [inline, variable, file]: [&'static str; 3],
) -> Option<SecretSource> {
    if let Some(value) = section.value(inline) {
        value.mistakes().error_with_fix(
            value.key_span(),
            format!("`{}`: a secret must not stand in this file", value.path()),
            format!("put it into the environment and its variable's name here as `{variable}`, or use `{file}`"),
        );
    }
    let from_variable = section.parsed(variable, |name| {
        let shape = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(shape)
        {
            // Not repeated: somebody may have put the key itself here.
            return Err("names no environment variable (letters, digits and _)".into());
        }
        Ok(SecretSource::Variable(name.to_owned()))
    });
    let from_file = section.value(file);
    if let (Some(_), Some(second)) = (&from_variable, &from_file) {
        second.mistakes().error_with_fix(
            second.key_span(),
            format!("`{}`: there is a `{variable}` as well", second.path()),
            "keep one of the two",
        );
    }
    let from_file = from_file
        .and_then(|value| value.string(4096).map(|path| SecretSource::File(PathBuf::from(path))));
    from_variable.or(from_file)
}
