//! Why a handshake failed, for whoever reads the log at night.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use std::io;

/// Why a connection could not be made, as the sockets' error of a TLS stream has it. The subject of
/// the sentence is the peer: "it shows no certificate".
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection before the handshake was complete".to_owned()
        }
        None => error.to_string(),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::InvalidMessage(_) => {
            "it does not speak TLS, or what it sent was damaged on the way".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "it offers no cipher of TLS 1.2 or 1.3 that is safe".to_owned()
        }
        Error::PeerIncompatible(reason) => {
            format!("it does not offer what TLS 1.2 or 1.3 needs: {reason:?}")
        }
        Error::NoApplicationProtocol => {
            "it speaks none of the protocols of this port (ALPN)".to_owned()
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet: compare the clocks ({error})")
        }
        CertificateError::UnknownIssuer => {
            "its certificate is of a CA that is not trusted here".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name ({error})")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("its certificate is not for this end of a connection ({error})")
        }
        other => format!("its certificate is refused ({other})"),
    }
}

/// The peer has refused us; it says why in one word.
fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "it refuses our certificate: expired, by its clock".to_owned()
        }
        AlertDescription::UnknownCA => "it does not trust the CA of our certificate".to_owned(),
        AlertDescription::CertificateRequired => {
            "it asks for a certificate, and we show none".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => format!("it refuses our certificate ({alert:?})"),
        other => format!("it refused the handshake ({other:?})"),
    }
}
