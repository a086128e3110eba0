//! Keeps a link to one address: connects, has the link served, and connects again when it has ended.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};
use symphony_wire::carrier::link::{Endpoint, Hello, Link, LinkError, LinkSettings, connect};
use symphony_wire::codec::Frame;

/// The pause before the first attempt to connect again. It doubles while nobody answers.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause: a process that comes back is found within about this time.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// The longest pause while the peer is there and wants no link: the same will be refused again.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// How often the log says that nobody answers, or why the peer refuses.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Whom to keep a link to.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    pub(crate) to: Endpoint,
    pub(crate) settings: LinkSettings,
    /// What is there, for the log.
    pub(crate) what: &'static str,
}

/// How a link that was served has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// After the peer had dealings with this process.
    Used,
    /// Before. The text says why.
    Unused(String),
}

/// Keeps a link until the task is ended. Each link is served by `serve`, which returns when the link
/// has ended.
pub(crate) async fn keep<In: Frame, Out: Frame, S: Future<Output = Ended>>(
    dialled: Dialled,
    hello: impl Fn() -> Hello,
    mut serve: impl FnMut(Link<In, Out>) -> S,
) {
    let Dialled { to, settings, what } = dialled;
    let mut pause = PAUSE_MIN;
    let mut said = Said::default();
    loop {
        let begun = Instant::now();
        let (why, pause_max) = match connect(&to, hello(), &settings).await {
            Ok(link) => {
                tracing::debug!("connected to the {what} at {to}");
                match serve(link).await {
                    Ended::Used => (None, PAUSE_MAX),
                    Ended::Unused(why) => (Some(why), REFUSED_MAX),
                }
            }
            Err(error) => {
                let is_refused = matches!(
                    error,
                    LinkError::Refused(_) | LinkError::Version { .. } | LinkError::Untrusted(_)
                );
                let pause_max = if is_refused { REFUSED_MAX } else { PAUSE_MAX };
                (Some(error.to_string()), pause_max)
            }
        };
        match why {
            None => said = Said::default(),
            Some(why) if said.is_news(&why, Instant::now()) => {
                tracing::warn!("no link to the {what} at {to}: {why}; trying on");
            }
            Some(why) => tracing::debug!("no link to the {what} at {to}: {why}"),
        }
        let lasted = begun.elapsed() > REFUSED_MAX;
        pause = if lasted || said.is_nothing() { PAUSE_MIN } else { (pause * 2).min(pause_max) };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// What the log has said of a peer.
#[derive(Debug, Default)]
struct Said(Option<(Instant, String)>);

impl Said {
    fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the log is to say this now.
    fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let is_old =
            |(at, said): &(Instant, String)| said == why && now.duration_since(*at) < SAY_AGAIN;
        if self.0.as_ref().is_some_and(is_old) {
            return false;
        }
        self.0 = Some((now, why.to_owned()));
        true
    }
}

/// Between three quarters of a pause and all of it, so that many that lost the same peer do not come
/// back in one instant.
fn jittered(pause: Duration) -> Duration {
    let part = RandomState::new().hash_one(pause) % 256;
    let quarter = pause / 4;
    pause - quarter + quarter.mul_f64(f64::from(u8::try_from(part).unwrap_or(0)) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(said.is_nothing() && said.is_news("its name is taken", at(0)));
        assert!(!said.is_news("its name is taken", at(59)));
        assert!(said.is_news("its name is taken", at(60)));
        assert!(said.is_news("another version", at(61)), "this is another reason");
        assert!(!said.is_nothing());
    }
}
