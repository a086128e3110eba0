//! Identities. Each is a type of its own, so that a model is never taken for an accelerator, and
//! none is given twice: a number that is used again comes with another generation or life.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// One served model (one network with one latency objective) within a pool.
///
/// Its index is its place in dense tables. The owner of the models numbers them densely from zero,
/// and uses an index again only with the next generation: a message that is still on its way for the
/// model before never reaches the one that has its place now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelId {
    index: u32,
    generation: u32,
}

/// One accelerator of a pool; low numbers are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AcceleratorId(pub u32);

/// One batch, unique within the life of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId(pub u64);

/// Where a request came from: a frontend, in one of its lives. A frontend that starts again is
/// another origin, so that an answer to a request of its former life reaches nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct Origin {
    frontend: u16,
    life: u16,
}

/// One request: its number in the table of the frontend that it came from.
///
/// Kept in bytes, without the padding of whole words: every queued request holds one, and eleven
/// bytes are what a [`Request`](crate::Request) of 32 has room for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    number: [u8; 8],
    origin: [u8; 3],
}

impl ModelId {
    /// The model of so many generations that has this place in dense tables.
    #[must_use]
    pub const fn new(index: u32, generation: u32) -> ModelId {
        ModelId { index, generation }
    }

    /// The first model that has this place.
    #[must_use]
    pub const fn first(index: u32) -> ModelId {
        ModelId::new(index, 0)
    }

    /// The identity for the model that has this one's place after it.
    #[must_use]
    pub const fn next_generation(self) -> ModelId {
        ModelId::new(self.index, self.generation.wrapping_add(1))
    }

    /// Position in a dense table of models.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The same position, as the number that it is.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.index
    }

    /// How many models had this place before, counted modulo 2^32.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Whether this model has, or had, its place later than the one of that generation.
    #[must_use]
    pub const fn is_later_than(self, generation: u32) -> bool {
        let ahead = self.generation.wrapping_sub(generation);
        ahead != 0 && ahead <= u32::MAX / 2
    }
}

impl AcceleratorId {
    /// Position in a dense table of accelerators.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Origin {
    /// Frontends, and lives of each, are numbered below this.
    pub const NUMBERS: u16 = 1 << BITS;

    /// The only life of the only frontend, for a world that has no others: a simulation, a test.
    pub const ONLY: Origin = Origin { frontend: 0, life: 0 };

    /// A frontend in one of its lives.
    ///
    /// # Panics
    /// When either is not below [`Origin::NUMBERS`].
    #[must_use]
    pub const fn new(frontend: u16, life: u16) -> Origin {
        assert!(frontend < Origin::NUMBERS && life < Origin::NUMBERS, "12 bits each");
        Origin { frontend, life }
    }

    /// Which frontend.
    #[must_use]
    pub const fn frontend(self) -> u16 {
        self.frontend
    }

    /// Which of its lives.
    #[must_use]
    pub const fn life(self) -> u16 {
        self.life
    }
}

/// A frontend or a life whose number is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: a frontend and a life are numbered below 4096")]
pub struct NoOrigin((u16, u16));

impl TryFrom<(u16, u16)> for Origin {
    type Error = NoOrigin;

    fn try_from((frontend, life): (u16, u16)) -> Result<Origin, NoOrigin> {
        if frontend >= Origin::NUMBERS || life >= Origin::NUMBERS {
            return Err(NoOrigin((frontend, life)));
        }
        Ok(Origin { frontend, life })
    }
}

impl From<Origin> for (u16, u16) {
    fn from(origin: Origin) -> (u16, u16) {
        (origin.frontend, origin.life)
    }
}

/// Bits for a frontend, and for a life.
const BITS: u32 = 12;

impl RequestId {
    /// The request of this number in the table of its frontend.
    #[must_use]
    pub const fn new(origin: Origin, number: u64) -> RequestId {
        let Origin { frontend, life } = origin;
        let [low, middle, high, _] = ((frontend as u32) << BITS | life as u32).to_le_bytes();
        RequestId { number: number.to_le_bytes(), origin: [low, middle, high] }
    }

    /// The request of this number where there is one frontend that lives once; see
    /// [`Origin::ONLY`].
    #[must_use]
    pub const fn only(number: u64) -> RequestId {
        RequestId::new(Origin::ONLY, number)
    }

    /// Which frontend it came from, in which of its lives.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each part is masked to its width")]
    pub const fn origin(self) -> Origin {
        let [low, middle, high] = self.origin;
        let both = u32::from_le_bytes([low, middle, high, 0]);
        let life = both & (Origin::NUMBERS as u32 - 1);
        Origin { frontend: (both >> BITS) as u16, life: life as u16 }
    }

    /// Its number there, which its frontend gives once in a life.
    #[must_use]
    pub const fn number(self) -> u64 {
        u64::from_le_bytes(self.number)
    }
}

impl Ord for RequestId {
    fn cmp(&self, other: &RequestId) -> Ordering {
        (self.origin(), self.number()).cmp(&(other.origin(), other.number()))
    }
}

impl PartialOrd for RequestId {
    fn partial_cmp(&self, other: &RequestId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ModelId {
    /// Index and generation, as `3.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelId({self})")
    }
}

impl fmt::Display for Origin {
    /// Frontend and life, as `0.17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.frontend, self.life)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

impl fmt::Display for RequestId {
    /// Origin and number, as `0.17.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.origin(), self.number())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use proptest::prelude::*;

    #[test]
    fn a_queued_request_is_as_small_as_its_parts() {
        assert_eq!((size_of::<RequestId>(), size_of::<Request>()), (11, 32));
    }

    proptest! {
        #[test]
        fn a_request_tells_its_origin_and_number(
            frontend in 0..Origin::NUMBERS, life in 0..Origin::NUMBERS, number: u64,
        ) {
            let id = RequestId::new(Origin::new(frontend, life), number);
            let origin = id.origin();
            prop_assert_eq!((origin.frontend(), origin.life(), id.number()), (frontend, life, number));
            prop_assert_eq!(id.to_string(), format!("{frontend}.{life}.{number}"));
        }

        #[test]
        fn requests_are_the_same_when_all_parts_are(
            one in (0..3u16, 0..3u16, 0..3u64), other in (0..3u16, 0..3u16, 0..3u64),
        ) {
            let id = |(frontend, life, number)| RequestId::new(Origin::new(frontend, life), number);
            prop_assert_eq!(id(one) == id(other), one == other);
            prop_assert_eq!(id(one).cmp(&id(other)), one.cmp(&other));
        }

        #[test]
        fn each_generation_of_a_place_is_another_model(index: u32, generation: u32) {
            let model = ModelId::new(index, generation);
            let next = model.next_generation();
            prop_assert_ne!(model, next);
            prop_assert_eq!(model.slot(), next.slot());
            prop_assert!(next.is_later_than(generation));
            prop_assert!(!model.is_later_than(next.generation()));
            prop_assert!(!model.is_later_than(generation));
        }
    }
}
