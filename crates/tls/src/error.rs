//! What can be wrong with certificates, keys and authorities.

use std::path::PathBuf;

/// A file of credentials that cannot be used. The text names it and says what to do; it holds
/// nothing of what is in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read the {what} {}: {reason}", path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file does not hold what it is for.
    #[error("the {what} {} {reason}", path.display())]
    Content {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, as the end of the sentence.
        reason: String,
    },
    /// The key is of another certificate.
    #[error(
        "the key {} is not the key of the certificate {}: put files in place that belong together",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate that was to take another's place has expired.
    #[error("the certificate {} expired at {expired}: put a newer one in place", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When, in UTC.
        expired: String,
    },
    /// The system knows no authority.
    #[error("this system has no CA certificates ({reason}): name a file with those to trust")]
    NoSystemRoots {
        /// Where they were looked for, or what failed.
        reason: String,
    },
    /// The thread that looks for changed files cannot be started.
    #[error("cannot start the thread that looks for changed files: {0}")]
    Thread(std::io::Error),
}
