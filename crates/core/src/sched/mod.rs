//! The scheduler: which requests run together, where, and when.
//!
//! - [`Shard`]: the queues of some models; turns a queue into a *candidate* (the batch it would run
//!   next, and when) and a *grant* into a sealed batch.
//! - [`Matcher`]: the accelerators of one pool; gives ready candidates the lowest-numbered free
//!   accelerator.
//! - [`Scheduler`]: one shard and one matcher, with their messages delivered at once.
//!
//! Shard and matcher know each other only by messages, so that any number of shards and a matcher can
//! run on threads of their own, or under simulated time; a driver carries the messages. The words are
//! in `docs/glossary.md`.
//!
//! # Order of modules
//!
//! A module imports only modules that stand above it here, and a child nothing of its parent:
//!
//! | module | what it is |
//! |---|---|
//! | `heap`, `queue`, `class_queues` | containers: timers and orders, one queue, the queues of both classes |
//! | `rate`, `times`, `drift` | estimators: arrivals, execution times of models, slow accelerators |
//! | `low_share`, `traffic` | what low requests are owed, which requests came lately |
//! | `mode` | the modes, by name |
//! | `event`, `action` | what comes from outside, and what is to be done |
//! | `message` | what shard and matcher say to each other |
//! | `margins` | how sure a batch has to be of its deadline |
//! | `timing` | how long batches take, and which are in time |
//! | `window` | the deferral rules: when a batch may be sent, below which size heads are dropped |
//! | `high_need`, `planner` | what the load of the pool asks of each model |
//! | `shard` | queues; which heads are dropped; what is offered and sealed |
//! | `matcher` | accelerators; whose turn it is |
//! | `scheduler` | both together |

mod class_queues;
mod heap;

mod queue;

mod drift;
mod rate;
mod times;

mod low_share;
mod traffic;

mod mode;

mod action;
mod event;

mod message;

mod margins;
mod timing;

mod window;

mod high_need;
mod planner;

mod shard;

mod matcher;

mod scheduler;

pub(crate) use timing::largest;

pub use action::{Action, Actions, Loss, Start};
pub use event::{Event, ModelTerms};
pub use low_share::LOW_SHARE_DEFAULT;
pub use matcher::{ACCELERATORS_MAX, AcceleratorState, Matcher, OVERDUE_AFTER};
pub use message::{
    BatchEnded, Candidate, Grant, HighLoad, HighNeed, LEVELS, MatcherToShard, ModelDemand,
    ModelPlan, Offer, Reply, SentBatch, ShardToMatcher, Tier,
};
pub use mode::{Mode, UnknownMode};
pub use scheduler::{Policy, Scheduler};
pub use shard::{ModelStatistics, Shard};
pub use traffic::RecentTraffic;
