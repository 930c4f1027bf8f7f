//! TLS for outgoing connections: rustls with ring, the Mozilla roots, and one more CA file where a site has its own.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{sync::OnceCell, task::spawn_blocking};

/// Why the TLS settings cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error("cannot read the CA file {path}: {error}")]
    Unreadable { path: PathBuf, error: Arc<io::Error> },
    /// The CA file is not what it should be.
    #[error("the CA file {path} holds no usable certificate: {reason}")]
    NoCertificate { path: PathBuf, reason: String },
    /// The TLS library refused its own settings.
    #[error("TLS settings: {0}")]
    Library(#[from] rustls::Error),
}

/// Certificate files beyond this size are refused.
const MAX_CA_FILE: u64 = 1 << 20;

type Client = Result<Arc<ClientConfig>, TlsError>;

/// Client settings that trust the Mozilla roots and the certificates of `extra_ca`.
///
/// They are made once per file and shared, so that TLS sessions are resumed from call to call; what is wrong with a
/// file is kept, too. A file that changes on disk is seen by the next process. The file is read on a thread of its
/// own, and meanwhile only those wait who want the same file.
///
/// # Errors
///
/// When the file cannot be read or holds no certificate that can be used.
pub async fn tls_client(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    type Clients = HashMap<Option<PathBuf>, Arc<OnceCell<Client>>>;
    static CLIENTS: LazyLock<Mutex<Clients>> = LazyLock::new(Mutex::default);
    let path = extra_ca.map(Path::to_path_buf);
    let client = {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clients.entry(path.clone()).or_default())
    };
    let make = async || {
        let made = spawn_blocking(move || make_client(path.as_deref()).map(Arc::new)).await;
        made.expect("it does not panic, and nobody waits on a runtime that is gone")
    };
    client.get_or_init(make).await.clone()
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
    let unreadable =
        |error| TlsError::Unreadable { path: path.to_path_buf(), error: Arc::new(error) };
    let no_certificate =
        |reason: String| TlsError::NoCertificate { path: path.to_path_buf(), reason };
    let mut pem = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let size = file.take(MAX_CA_FILE + 1).read_to_end(&mut pem).map_err(unreadable)?;
    if size as u64 > MAX_CA_FILE {
        return Err(no_certificate(format!("it is over the limit of {MAX_CA_FILE} bytes")));
    }
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
    use std::{fs, process::Command};

    use super::*;

    fn testdata() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
    }

    #[tokio::test]
    async fn settings_are_made_once() {
        for path in [None, Some(testdata().join("ca.pem"))] {
            let first = tls_client(path.as_deref()).await.expect("usable roots");
            let second = tls_client(path.as_deref()).await.expect("usable roots");
            assert!(Arc::ptr_eq(&first, &second), "{path:?}");
        }
    }

    #[tokio::test]
    async fn a_bad_ca_file_is_named_with_the_reason() {
        let error = async |path: &str| tls_client(Some(Path::new(path))).await.unwrap_err();
        let missing = error("/nonexistent/ca.pem").await.to_string();
        assert!(missing.starts_with("cannot read the CA file /nonexistent/ca.pem"), "{missing}");
        let empty = error(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).await.to_string();
        assert!(empty.contains("no PEM block BEGIN CERTIFICATE"), "{empty}");
        let endless = error("/dev/zero").await.to_string();
        assert!(endless.contains("over the limit"), "{endless}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_not_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("late.pem");
        let first = tls_client(Some(&path)).await.unwrap_err();
        fs::copy(testdata().join("ca.pem"), &path).expect("a copy");
        let second = tls_client(Some(&path)).await.unwrap_err();
        assert_eq!(first.to_string(), second.to_string());
    }

    /// The reader of a pipe waits for its writer: here that is the one thread that runs all the rest.
    #[tokio::test]
    async fn a_slow_file_holds_up_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("slow.pem");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is installed");
        assert!(made.success());
        let slow = tokio::spawn({
            let pipe = pipe.clone();
            async move { tls_client(Some(&pipe)).await }
        });
        tokio::task::yield_now().await;
        tls_client(None).await.expect("usable roots");
        assert!(!slow.is_finished());
        let pem = fs::read(testdata().join("ca.pem")).expect("a PEM file");
        fs::write(&pipe, pem).expect("somebody reads");
        slow.await.expect("no panic").expect("a usable file");
    }
}
