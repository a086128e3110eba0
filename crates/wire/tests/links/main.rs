//! One suite for every carrier that connects processes: what a link promises, it promises over each.
//!
//! - `carriers`: the carriers, and what a test needs of one. `raw`: a peer without manners.
//! - `authority`, `trust`: certificates, and whom a link under TLS trusts.
//! - `arena`: tensors in memory that both ends have.
//! - `conformance`: what two well-behaved ends see.
//! - `hostile`: what becomes of a peer that does not keep to the rules.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

/// Makes each of these functions a test of every carrier.
macro_rules! over_every_carrier {
    ($($test:ident),* $(,)?) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::Carrier::Tcp).await })*
        }
        mod tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::Carrier::Tls).await })*
        }
        mod arena {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::Carrier::Arena).await })*
        }
        mod unix {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(super::Carrier::Unix).await })*
        }
    };
}

mod arena;
mod authority;
mod carriers;
mod conformance;
mod hostile;
mod raw;
mod trust;
