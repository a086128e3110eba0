//! Numbers that hardly any other process has.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{SystemTime, UNIX_EPOCH};

/// A number that hardly any other process has.
pub(crate) fn random() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RandomState::new().hash_one((std::process::id(), time.as_nanos()))
}

/// The life of a process that starts now.
pub(crate) fn life() -> u64 {
    random()
}
