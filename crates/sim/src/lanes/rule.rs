//! The rules by which a model's requests are dealt to lanes, by name.

use std::fmt;
use symphony_core::lanes::BORDER_LANES;

/// How requests of different sizes are dealt to lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LaneRule {
    /// Ours: padded to the longest of their batch, in lanes whose borders follow costs and load.
    #[default]
    Own,
    /// All are padded to the largest size there can be.
    Padded,
    /// Only requests of equal size go together.
    Equal,
    /// Padded to the longest of their batch, in buckets as BucketServe splits and merges them.
    Buckets,
    /// Padded to the longest of their batch, in lanes between these borders.
    Fixed(FixedBorders),
}

/// Borders that stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FixedBorders {
    borders: [u64; BORDER_LANES],
    count: usize,
}

impl FixedBorders {
    /// Growing borders, at most [`BORDER_LANES`] and at least one.
    #[must_use]
    pub fn new(borders: &[u64]) -> Option<FixedBorders> {
        let fits = (1..=BORDER_LANES).contains(&borders.len());
        if !fits || !borders.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let mut all = [0; BORDER_LANES];
        all[..borders.len()].copy_from_slice(borders);
        Some(FixedBorders { borders: all, count: borders.len() })
    }

    /// The borders below this size, and the size.
    pub(super) fn up_to(&self, most: u64) -> Vec<u64> {
        let below = self.as_slice().iter().copied().filter(|border| *border < most);
        below.take(BORDER_LANES - 1).chain([most]).collect()
    }

    /// The borders.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.borders[..self.count]
    }
}

impl fmt::Debug for FixedBorders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl fmt::Display for LaneRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneRule::Own => f.write_str("lanes"),
            LaneRule::Padded => f.write_str("padded"),
            LaneRule::Equal => f.write_str("equal"),
            LaneRule::Buckets => f.write_str("buckets"),
            LaneRule::Fixed(borders) => {
                f.write_str("borders")?;
                borders.as_slice().iter().try_for_each(|border| write!(f, ":{border}"))
            }
        }
    }
}

/// The rule of this name.
pub(crate) fn parse(name: &str) -> Option<LaneRule> {
    Some(match name {
        "lanes" => LaneRule::Own,
        "padded" => LaneRule::Padded,
        "equal" => LaneRule::Equal,
        "buckets" => LaneRule::Buckets,
        _ => {
            let borders = name.strip_prefix("borders:")?.split(':');
            let borders: Vec<u64> = borders.map(str::parse).collect::<Result<_, _>>().ok()?;
            LaneRule::Fixed(FixedBorders::new(&borders)?)
        }
    })
}
