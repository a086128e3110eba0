//! The limits that a client may set in the headers of its request.
//!
//! Each is read as a span from the request's arrival, as is the parameter `timeout` (`parameters`);
//! whether one is earlier than the model's objective is decided at admission.

use crate::error::InferError;
use crate::quote::brief;
use symphony_core::Span;

/// The HTTP header `Request-Timeout-Ms`: milliseconds, a fraction allowed.
///
/// # Errors
/// It is not a positive number.
pub(crate) fn header_ms(text: &str) -> Result<Span, InferError> {
    let ms = text.trim().parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms > 0.0);
    let span = ms.map(Span::from_millis_f64).filter(|span| *span > Span::ZERO);
    span.ok_or_else(|| {
        InferError::Invalid(format!(
            "the header Request-Timeout-Ms is {:?}: give a positive number of milliseconds",
            brief(text)
        ))
    })
}

/// The gRPC header `grpc-timeout`: up to eight digits and a unit.
///
/// # Errors
/// It is not of that form, or zero.
pub(crate) fn grpc_timeout(text: &str) -> Result<Span, InferError> {
    parse_grpc_timeout(text).ok_or_else(|| {
        InferError::Invalid(format!(
            "grpc-timeout is {:?}: give one to eight digits, not zero, \
             and a unit of H, M, S, m, u or n",
            brief(text)
        ))
    })
}

fn parse_grpc_timeout(text: &str) -> Option<Span> {
    let (at, unit) = text.char_indices().next_back()?;
    let nanos = match unit {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1,
        _ => return None,
    };
    let number = &text[..at];
    if number.len() > 8 {
        return None;
    }
    Some(Span(nanos).times(digits(number)?))
}

/// A positive number in plain digits.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number > 0)
}

/// The earlier of two limits.
pub(crate) fn earliest(a: Option<Span>, b: Option<Span>) -> Option<Span> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_as_spans_and_nonsense_is_refused() {
        type Parse = fn(&str) -> Result<Span, InferError>;
        let cases: [(Parse, &str, Option<u64>); 13] = [
            (header_ms, "12", Some(12_000_000)),
            (header_ms, "0.5", Some(500_000)),
            (header_ms, "0", None),
            (header_ms, "-1", None),
            (header_ms, "NaN", None),
            (header_ms, "inf", None),
            (header_ms, "soon", None),
            (grpc_timeout, "20m", Some(20_000_000)),
            (grpc_timeout, "99999999H", Some(u64::MAX)),
            (grpc_timeout, "123456789m", None),
            (grpc_timeout, "0S", None),
            (grpc_timeout, "5", None),
            (grpc_timeout, "5\u{e9}", None),
        ];
        for (parse, text, expected) in cases {
            assert_eq!(parse(text).ok(), expected.map(Span), "{text:?}");
        }
    }
}
