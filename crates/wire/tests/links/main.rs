//! One suite for every carrier that connects processes: what a link promises, it promises over each.
//!
//! - `carriers`: the carriers, and what a test needs of one.
//! - `conformance`: what two well-behaved ends see.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

mod carriers;
mod conformance;
