//! Whom to trust: the authorities of a file, or those of the system.

use crate::error::TlsError;
use crate::expiry::Validity;
use crate::pem::{AUTHORITY, certificates, content};
use crate::provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Authorities, and when the last of them ends.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) validity: Validity,
}

impl Authorities {
    /// Every authority of a file.
    pub(crate) fn read(path: &Path) -> Result<Authorities, TlsError> {
        let found = certificates(AUTHORITY, path)?;
        let wrong = |reason: String| content(AUTHORITY, path, reason);
        let mut lives = Vec::with_capacity(found.len());
        let mut roots = RootCertStore::empty();
        for certificate in found {
            lives.push(Validity::of(&certificate).map_err(wrong)?);
            roots.add(certificate).map_err(|error| {
                wrong(format!("holds a certificate that cannot be an authority: {error}"))
            })?;
        }
        let last = lives.into_iter().max_by_key(|life| life.ends);
        let validity = last.ok_or_else(|| wrong("holds no certificate".to_owned()))?;
        Ok(Authorities { roots: Arc::new(roots), validity })
    }
}

/// For a client that shows nothing of itself and trusts the authorities of `ca`, or the system's
/// where that is `None`.
///
/// # Errors
/// The file cannot be used, or the system has no authorities; names it.
pub fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca {
        Some(path) => Authorities::read(path)?.roots,
        None => Arc::new(system()?),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::NoSystemRoots { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = found.certs;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        let first = found.errors.first();
        let reason = first.map_or_else(|| "none was found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots { reason });
    }
    Ok(roots)
}
