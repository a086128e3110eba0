//! Whole clusters in one process: a scheduler with a standby, backends with emulated models and
//! frontends, each on a runtime of its own so that it can be killed, over real sockets. And peers that
//! speak the wire's messages and mean no good.
#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

mod failures;
mod hostile;
mod one_backend;
mod played_backend;
mod proxy;
mod roles;
mod serving;
mod takeover;
