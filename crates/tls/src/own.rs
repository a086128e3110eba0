//! A certificate of our own, with its key.

use crate::error::TlsError;
use crate::expiry::Validity;
use crate::pem::{CERTIFICATE, KEY, certificates, content, private_key};
use crate::provider;
use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use std::path::Path;

/// The certificate with its key, and the life of the chain: as long as that of its shortest.
pub(crate) fn certified_key(
    certificate: &Path,
    key: &Path,
) -> Result<(CertifiedKey, Validity), TlsError> {
    let chain = certificates(CERTIFICATE, certificate)?;
    let lives: Result<Vec<Validity>, String> = chain.iter().map(Validity::of).collect();
    let lives = lives.map_err(|reason| content(CERTIFICATE, certificate, reason))?;
    let shortest = lives.into_iter().min_by_key(|life| life.ends);
    let validity =
        shortest.ok_or_else(|| content(CERTIFICATE, certificate, "holds no certificate"))?;
    let certified = CertifiedKey::from_der(chain, private_key(key)?, &provider());
    let certified = certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { key: key.to_owned(), certificate: certificate.to_owned() }
        }
        rustls::Error::InvalidCertificate(reason) => {
            content(CERTIFICATE, certificate, format!("cannot be used: {reason}"))
        }
        other => content(
            KEY,
            key,
            format!("cannot be used ({other}): RSA from 2048 bits, P-256, P-384 and Ed25519 can"),
        ),
    })?;
    Ok((certified, validity))
}
