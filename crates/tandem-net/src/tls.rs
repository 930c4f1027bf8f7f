//! TLS for outgoing connections: rustls with ring, the Mozilla roots, and one more CA file where a site has its own.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error("cannot read the CA file {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    /// The CA file is not what it should be.
    #[error("the CA file {path} holds no usable certificate: {reason}")]
    NoCertificate { path: PathBuf, reason: String },
    /// The TLS library refused its own settings.
    #[error("TLS settings: {0}")]
    Library(#[from] rustls::Error),
}

/// Certificate files beyond this size are refused.
const MAX_CA_FILE: u64 = 1 << 20;

/// Client settings that trust the Mozilla roots and the certificates of `extra_ca`.
///
/// They are made once per file and shared, so that TLS sessions are resumed from call to call. A file that changes
/// on disk is seen by the next process.
pub fn tls_client(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    static MADE: Mutex<Option<HashMap<Option<PathBuf>, Arc<ClientConfig>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.get_or_insert_default();
    let key = extra_ca.map(Path::to_path_buf);
    if let Some(config) = made.get(&key) {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(make_client(extra_ca)?);
    made.insert(key, Arc::clone(&config));
    Ok(config)
}

fn make_client(extra_ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_ca {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let unreadable = |error| TlsError::Unreadable { path: path.to_path_buf(), error };
    let no_certificate =
        |reason: String| TlsError::NoCertificate { path: path.to_path_buf(), reason };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_CA_FILE {
        return Err(no_certificate(format!("{size} bytes are over the limit of {MAX_CA_FILE}")));
    }
    let pem = fs::read(path).map_err(unreadable)?;
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| no_certificate(error.to_string()))?;
        roots.add(certificate).map_err(|error| no_certificate(error.to_string()))?;
        added += 1;
    }
    if added == 0 {
        return Err(no_certificate("no PEM block BEGIN CERTIFICATE in it".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_once() {
        let first = tls_client(None).expect("the built-in roots are usable");
        let second = tls_client(None).expect("the built-in roots are usable");
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_bad_ca_file_is_named_with_the_reason() {
        let missing = tls_client(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read the CA file /nonexistent/ca.pem"), "{missing}");
        let not_pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let empty = tls_client(Some(Path::new(not_pem))).unwrap_err().to_string();
        assert!(empty.contains("no PEM block BEGIN CERTIFICATE"), "{empty}");
    }
}
