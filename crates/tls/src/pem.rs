//! Certificates and keys out of PEM files.

use crate::error::TlsError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result as IoResult};
use std::path::Path;

/// No file of credentials is larger: the bundle of a whole system's authorities has a quarter.
const FILE_MAX: u64 = 1 << 20;

/// What the files are called in errors.
pub(crate) const CERTIFICATE: &str = "certificate";
pub(crate) const KEY: &str = "key";
pub(crate) const AUTHORITY: &str = "CA certificate";

/// The whole of a file of credentials.
///
/// # Errors
/// It cannot be read, is no plain file, or is larger than any file of credentials (1 MiB).
pub fn read_bounded(path: &Path) -> IoResult<Vec<u8>> {
    // Asked first: opening a pipe would wait for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_bounded(path).map_err(|reason| TlsError::Read { what, path: path.to_owned(), reason })
}

/// The certificates of a file, in its order; at least one.
pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(content(what, path, "holds no certificate in PEM form"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(content(what, path, format!("is not in PEM form: {error}"))),
    }
}

/// The first private key of a file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound if is_encrypted(&text) => content(
            KEY,
            path,
            "is encrypted: decrypt it with `openssl pkey`, and let only the server read it",
        ),
        rustls::pki_types::pem::Error::NoItemsFound => {
            content(KEY, path, "holds no private key in PEM form")
        }
        // The error's own text could quote a line of the file.
        _ => content(KEY, path, "is not in PEM form"),
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    let mark = b"ENCRYPTED";
    text.windows(mark.len()).any(|window| window == mark)
}

pub(crate) fn content(what: &'static str, path: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::Content { what, path: path.to_owned(), reason: reason.into() }
}
