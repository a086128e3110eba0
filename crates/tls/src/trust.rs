//! Whom to trust: the authorities of a file, or those of the system.

use crate::error::TlsError;
use crate::expiry::Validity;
use crate::own::certified_key;
use crate::pem::{AUTHORITY, certificates, content};
use crate::provider;
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
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
    Ok(Arc::new(client(ca)?.with_no_client_auth()))
}

/// As [`trusting`], for a client that shows a certificate.
///
/// # Errors
/// As [`trusting`], and the certificate or its key cannot be used.
pub fn trusting_as(
    ca: Option<&Path>,
    certificate: &Path,
    key: &Path,
) -> Result<Arc<ClientConfig>, TlsError> {
    let (certified, _) = certified_key(certificate, key)?;
    let shown = Arc::new(SingleCertAndKey::from(certified));
    Ok(Arc::new(client(ca)?.with_client_cert_resolver(shown)))
}

fn client(ca: Option<&Path>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let roots = match ca {
        Some(path) => Authorities::read(path)?.roots,
        None => Arc::new(system()?),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::NoSystemRoots { reason: error.to_string() })?;
    Ok(config.with_root_certificates(roots))
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
