//! Waiting for a moment, to some tens of microseconds. The runtime's own timers count in
//! milliseconds.

use std::time::Instant;

/// Waits for one moment after the other.
#[derive(Debug)]
pub(crate) struct Timer(system::Timer);

impl Timer {
    /// # Errors
    /// The system gives no timer.
    pub(crate) fn new() -> std::io::Result<Timer> {
        system::Timer::new().map(Timer)
    }

    /// Waits until `moment`; at once when it is past.
    ///
    /// # Errors
    /// The system's timer failed.
    pub(crate) async fn until(&mut self, moment: Instant) -> std::io::Result<()> {
        if moment <= Instant::now() {
            return Ok(());
        }
        self.0.until(moment).await
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A timer that the runtime waits for as it waits for sockets.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> std::io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "unsound for types that may give another descriptor each time; this one \
                          owns its own, and its successor is an unsafe function"
            )]
            let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
            Ok(Timer(timer))
        }

        pub(super) async fn until(&mut self, moment: Instant) -> std::io::Result<()> {
            // All zeros would switch the timer off.
            let wait =
                moment.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec::try_from(wait).map_err(std::io::Error::other)?,
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            let mut count = [0; 8];
            let read = |timer: &OwnedFd| Ok(rustix::io::read(timer, &mut count)?);
            self.0.async_io(Interest::READABLE, read).await.map(|_| ())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::{Duration, Instant};

    /// The runtime's timer, and watching the clock for what it cannot count.
    #[derive(Debug)]
    pub(super) struct Timer;

    const RUNTIME_TICK: Duration = Duration::from_millis(1);

    impl Timer {
        pub(super) fn new() -> std::io::Result<Timer> {
            Ok(Timer)
        }

        pub(super) async fn until(&mut self, moment: Instant) -> std::io::Result<()> {
            let left = moment.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.saturating_sub(RUNTIME_TICK)).await;
            while Instant::now() < moment {
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn no_moment_comes_early_and_one_that_is_past_at_once() {
        let mut timer = Timer::new().unwrap();
        let start = Instant::now();
        for micros in [300, 100, 700, 0, 1500] {
            let moment = start + Duration::from_micros(micros);
            timer.until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
    }
}
