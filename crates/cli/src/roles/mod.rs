//! The roles as processes of their own, and a local cluster of them.

pub(crate) mod backend;
pub(crate) mod frontend;
pub(crate) mod scheduler;
pub(crate) mod up;
