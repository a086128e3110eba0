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
    /// Of the first model that has a place.
    generation: u32,
}

impl FreeIds {
    /// Identities of this generation and later ones.
    pub(super) fn from_generation(generation: u32) -> FreeIds {
        FreeIds { generation, ..FreeIds::default() }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.returned.is_empty() && self.next as usize >= MODELS_MAX
    }

    pub(super) fn take(&mut self) -> ModelId {
        self.returned.pop_first().unwrap_or_else(|| {
            self.next += 1;
            ModelId::new(self.next - 1, self.generation)
        })
    }

    /// So many identities whose places leave the same rest when divided by `shards`: they are dealt
    /// to one shard. `None` when there are not as many.
    pub(super) fn take_beside(&mut self, count: usize, shards: usize) -> Option<Vec<ModelId>> {
        let first = self.take();
        let mut taken = vec![first];
        let rest = first.index() % shards.max(1);
        while taken.len() < count {
            let is_beside = |id: &&ModelId| id.index() % shards.max(1) == rest;
            let known = self.returned.iter().find(is_beside).copied();
            if let Some(id) = known {
                self.returned.remove(&id);
                taken.push(id);
            } else if (self.next as usize) < MODELS_MAX {
                let id = ModelId::new(self.next, self.generation);
                self.next += 1;
                self.returned.insert(id);
            } else {
                self.returned.extend(taken);
                return None;
            }
        }
        Some(taken)
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

    #[test]
    fn lanes_of_a_model_belong_to_one_shard() {
        let mut ids = FreeIds::default();
        assert_eq!(ids.take(), ModelId::first(0));
        let indices = |ids: Vec<ModelId>| ids.iter().map(|id| id.index()).collect::<Vec<_>>();
        assert_eq!(indices(ids.take_beside(3, 3).unwrap()), [1, 4, 7]);
        assert_eq!(indices(ids.take_beside(2, 3).unwrap()), [2, 5]);
        assert_eq!(ids.take().index(), 3, "what was passed over is free");
        assert_eq!(ids.take_beside(MODELS_MAX, 1), None);
        assert_eq!(indices(ids.take_beside(1, 3).unwrap()), [6], "nothing was kept");
    }
}
