//! Keeps a link to one address: connects, has the link served, and connects again when it has ended.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};
use symphony_wire::carrier::link::{Endpoint, Hello, Link, LinkSettings, connect};
use symphony_wire::codec::Frame;

/// The pause before the first attempt to connect again. It doubles while nobody answers.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause: a process that comes back is found within about this time.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often the log says that nobody answers.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Whom to keep a link to.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    pub(crate) to: Endpoint,
    pub(crate) settings: LinkSettings,
    /// What is there, for the log.
    pub(crate) what: &'static str,
}

/// Keeps a link until the task is ended. Each link is served by `serve`, which returns when the link
/// has ended.
pub(crate) async fn keep<In: Frame, Out: Frame, S: Future<Output = ()>>(
    dialled: Dialled,
    hello: impl Fn() -> Hello,
    mut serve: impl FnMut(Link<In, Out>) -> S,
) {
    let Dialled { to, settings, what } = dialled;
    let mut pause = PAUSE_MIN;
    let mut said: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        match connect(&to, hello(), &settings).await {
            Ok(link) => {
                tracing::debug!("connected to the {what} at {to}");
                serve(link).await;
                said = None;
            }
            Err(error) => {
                if said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                    said = Some(Instant::now());
                    tracing::warn!("cannot connect to the {what} at {to}: {error}; trying on");
                }
            }
        }
        let lasted = begun.elapsed() > PAUSE_MAX;
        pause = if lasted { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Between three quarters of a pause and all of it, so that many that lost the same peer do not come
/// back in one instant.
fn jittered(pause: Duration) -> Duration {
    let part = RandomState::new().hash_one(pause) % 256;
    let quarter = pause / 4;
    pause - quarter + quarter.mul_f64(f64::from(u8::try_from(part).unwrap_or(0)) / 256.0)
}
