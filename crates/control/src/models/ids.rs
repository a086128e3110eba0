//! The identities of a pool's models.

use std::collections::BTreeSet;
use symphony_core::ModelId;
use symphony_wire::carrier::in_process::port::MODELS_MAX;

/// The identities that are free to use. The lowest place is used first, because tables are indexed
/// by places. A place that is used again has another generation, so that what was meant for its
/// former model misses the new one.
#[derive(Debug, Default)]
pub(super) struct FreeIds {
    returned: BTreeSet<ModelId>,
    /// No place from here on was ever used.
    next: u32,
}

impl FreeIds {
    pub(super) fn is_exhausted(&self) -> bool {
        self.returned.is_empty() && self.next as usize >= MODELS_MAX
    }

    pub(super) fn take(&mut self) -> ModelId {
        self.returned.pop_first().unwrap_or_else(|| {
            self.next += 1;
            ModelId::first(self.next - 1)
        })
    }

    pub(super) fn give_back(&mut self, id: ModelId) {
        self.returned.insert(id.next_generation());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_in_its_next_generation() {
        let mut ids = FreeIds::default();
        let first = ids.take();
        let second = ids.take();
        ids.give_back(second);
        ids.give_back(first);
        assert_eq!(ids.take(), first.next_generation());
        assert_eq!(ids.take(), second.next_generation());
        assert_eq!(ids.take(), ModelId::first(2));
    }
}
