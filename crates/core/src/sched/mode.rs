//! The modes a pool can be scheduled in, by name. What each does is in [`window`](super::window),
//! [`shard`](super::shard) and [`planner`](super::planner).

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Characters that an error shows of an unknown name.
const NAME_SHOWN_MAX: usize = 40;

/// How a pool schedules its models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A batch waits until it can no longer grow, unless waiting gains nothing; under overload
    /// batches keep the size that the measured rate allows (window drop). Uses the fewest
    /// accelerators.
    Consolidate,
    /// A batch waits no longer than the load asks for: batches and the accelerators in use grow with
    /// it, up to the full deferral of [`Consolidate`](Mode::Consolidate) past the peak.
    #[default]
    Adaptive,
    /// The largest batch that meets its deadline starts whenever an accelerator is free; only
    /// requests that cannot meet their deadline even alone are dropped.
    Eager,
}

/// A name that no mode has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mode {0:?}: write \"adaptive\", \"consolidate\" or \"eager\"")]
pub struct UnknownMode(String);

impl Mode {
    /// Every mode, the default first.
    pub const ALL: [Mode; 3] = [Mode::Adaptive, Mode::Consolidate, Mode::Eager];

    /// Its name in configurations, protocols and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Adaptive => "adaptive",
            Mode::Consolidate => "consolidate",
            Mode::Eager => "eager",
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Mode, UnknownMode> {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        // A client may have sent any text, of any length.
        found.ok_or_else(|| UnknownMode(name.chars().take(NAME_SHOWN_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names_and_other_names_are_refused() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for (name, shown) in [("deferred", "\"deferred\""), ("", "\"\""), ("Eager", "\"Eager\"")] {
            let error = name.parse::<Mode>().unwrap_err().to_string();
            let expected = "write \"adaptive\", \"consolidate\" or \"eager\"";
            assert_eq!(error, format!("there is no mode {shown}: {expected}"));
        }
        assert!("x".repeat(1000).parse::<Mode>().unwrap_err().to_string().len() < 120);
    }
}
