//! Links between processes: what connects any two roles, whatever carries its bytes.
//!
//! A link begins with a [`Hello`] of each end. After that each end sends messages of one enum and
//! receives those of another, in order, each at most once. Heartbeats go both ways: they tell that the
//! peer lives, and how long a message takes. What waits for a peer to read it has a bound, and so has
//! everything that a peer can make this process hold.
//!
//! ```text
//!  LinkSender ─▶ frames, two buffers in turn ─▶ socket ─ ─ ─▶ socket ─▶ one buffer ─▶ LinkReceiver
//!  (any thread)         │ no room                                │ large frames: memory of
//!                       └▶ the link's task                       └ their own
//! ```
//!
//! - `endpoint`: where a process is found. `settings`: how links are held.
//! - `ends`: both ends of a link. `error`: why one has ended.
//! - `hello`: who speaks. `listener`: takes links. `connect`: makes one.
//! - `sending`, `receiving`: the two ends. `task`: what a link does by itself.
//! - `heartbeat`: round trips. `refusals`: what is logged of peers that are refused.
//! - `socket`, `unix`, `tls`, `stream`: the stream of bytes, plain or protected. `reading`: frames out of it.

mod connect;
mod endpoint;
mod ends;
mod error;
mod heartbeat;
mod hello;
mod listener;
mod reading;
mod receiving;
mod refusals;
mod sending;
mod settings;
mod socket;
mod stream;
mod task;
mod tls;
mod unix;

pub use connect::connect;
pub use endpoint::{Endpoint, NoEndpoint};
pub use ends::Link;
pub use error::LinkError;
pub use hello::{Hello, LinkPurpose, PROTOCOL, Role};
pub use listener::{Incoming, Listener};
pub use receiving::LinkReceiver;
pub use refusals::RefusalLog;
pub use sending::{LinkSender, NotAllSent, SendError};
pub use settings::{LinkSettings, Security};
