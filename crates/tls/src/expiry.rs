//! When certificates expire, and warning of it in time.

use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate is warned of in the last tenth of its life, but not sooner than this before its
/// end.
const WARN_BEFORE_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The life of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) begins: SystemTime,
    pub(crate) ends: SystemTime,
}

impl Validity {
    /// Of one certificate; an error says what is wrong with it, as the end of a sentence.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
        let parsed = Certificate::from_der(certificate)
            .map_err(|error| format!("holds something that is no certificate: {error}"))?;
        let validity = parsed.tbs_certificate().validity();
        Ok(Validity {
            begins: validity.not_before.to_system_time(),
            ends: validity.not_after.to_system_time(),
        })
    }

    fn warns_from(&self) -> SystemTime {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        let before = (life / 10).min(WARN_BEFORE_MAX);
        self.ends.checked_sub(before).unwrap_or(self.ends)
    }
}

/// A moment in UTC, as certificates write it.
pub(crate) fn utc(at: SystemTime) -> String {
    DateTime::from_system_time(at)
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}

/// Tells in time that what is in use will expire: when its last days begin, then once a day.
#[derive(Debug)]
pub(crate) struct ExpiryWarning {
    what: &'static str,
    path: PathBuf,
    validity: Validity,
    next: SystemTime,
}

impl ExpiryWarning {
    pub(crate) fn new(what: &'static str, path: PathBuf, validity: Validity) -> ExpiryWarning {
        ExpiryWarning { what, path, validity, next: validity.warns_from() }
    }

    /// What there is to tell now.
    pub(crate) fn due(&mut self, now: SystemTime) -> Option<String> {
        if now < self.next {
            return None;
        }
        let has_expired = now >= self.validity.ends;
        self.next = now + DAY;
        if !has_expired {
            // Its end is told when it comes, whenever it was last told of.
            self.next = self.next.min(self.validity.ends);
        }
        let verb = if has_expired { "expired" } else { "expires" };
        let then = if has_expired { "peers refuse it" } else { "peers will refuse it then" };
        let (what, path, at) = (self.what, self.path.display(), utc(self.validity.ends));
        Some(format!("the {what} {path} {verb} at {at}: renew it, {then}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY.mul_f64(days)
    }

    #[test]
    fn an_end_is_told_before_it_comes_daily_and_when_it_has_come() {
        let cases = [
            // A year: two weeks before, however long the process has run.
            (365.0, vec![(350.9, None), (351.1, Some("expires")), (351.2, None)]),
            (
                365.0,
                vec![(364.5, Some("expires")), (365.0, Some("expired")), (366.1, Some("expired"))],
            ),
            // Ten hours: in the last one, and at the end though a day has not passed.
            (
                10.0 / 24.0,
                vec![(0.37, None), (0.38, Some("expires")), (0.42, Some("expired")), (0.43, None)],
            ),
        ];
        for (days, looks) in cases {
            let validity = Validity { begins: at(0.0), ends: at(days) };
            let mut warning = ExpiryWarning::new("certificate", PathBuf::from("a.pem"), validity);
            for (day, expected) in looks {
                let told = warning.due(at(day));
                match expected {
                    None => assert_eq!(told, None, "day {day} of {days}"),
                    Some(verb) => {
                        let told = told.unwrap_or_default();
                        assert!(told.contains(&format!("a.pem {verb} at 19")), "{day}: {told}");
                    }
                }
            }
        }
    }
}
