//! Levels of priority, as Triton's clients and model configurations number them: 1 is high, 2 low.

use symphony_core::Class;

/// How many levels there are.
pub(crate) const LEVELS: u64 = 2;

/// The level of a class.
pub(crate) fn level(class: Class) -> u64 {
    match class {
        Class::High => 1,
        Class::Low => 2,
    }
}

/// The class of a level; `None` when there is no such level.
pub(crate) fn class(level: u64) -> Option<Class> {
    Class::ALL.into_iter().find(|class| self::level(*class) == level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_one_class() {
        for class in Class::ALL {
            assert_eq!(self::class(level(class)), Some(class));
        }
        assert_eq!((1..=LEVELS).filter_map(class).count(), Class::ALL.len());
        assert_eq!((class(0), class(LEVELS + 1)), (None, None));
    }
}
