//! The request parameter `priority`: 1 is high, 2 low, 0 the model's default, as Triton's
//! clients send it.

use crate::error::InferError;
use crate::quote::brief;
use symphony_core::Class;

/// Levels of priority, as model configurations tell.
pub(crate) const LEVELS: u64 = 2;

/// The level that a client would ask for this class with.
pub(crate) fn level(class: Class) -> u64 {
    match class {
        Class::High => 1,
        Class::Low => 2,
    }
}

/// The class that the parameter asks for; `None` for the model's default.
///
/// # Errors
/// It is none of the levels, written in digits.
pub(crate) fn parameter(text: &str) -> Result<Option<Class>, InferError> {
    match text {
        "0" => Ok(None),
        "1" => Ok(Some(Class::High)),
        "2" => Ok(Some(Class::Low)),
        _ => Err(InferError::Invalid(format!(
            "the parameter \"priority\" is {:?}: give 1 (high), 2 (low), or 0 for the model's default",
            brief(text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_as_classes_and_nonsense_is_refused() {
        assert_eq!(parameter("0").unwrap(), None);
        for class in Class::ALL {
            let level = level(class);
            assert!((1..=LEVELS).contains(&level));
            assert_eq!(parameter(&level.to_string()).unwrap(), Some(class));
        }
        for text in ["", "3", "-1", "01", "1.0", "high", "true", "18446744073709551616"] {
            let error = parameter(text).unwrap_err().to_string();
            assert!(
                error.contains("\"priority\"") && error.contains("1 (high), 2 (low)"),
                "{error}"
            );
        }
    }
}
