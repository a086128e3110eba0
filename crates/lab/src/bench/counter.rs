//! The instructions of a thread, as its processor counts them. Virtual machines often give no access to
//! the counters; then there is no figure.

pub(crate) use system::Counter;

#[cfg(target_os = "linux")]
mod system {
    use perf_event::Builder;
    use perf_event::events::{Event, Hardware};

    /// A counter of the calling thread, outside of the kernel.
    #[derive(Debug)]
    pub(crate) struct Counter(Option<perf_event::Counter>);

    impl Counter {
        pub(crate) fn instructions() -> Counter {
            Counter::of(Hardware::INSTRUCTIONS)
        }

        pub(crate) fn of(event: impl Event) -> Counter {
            let counter = Builder::new(event).build().ok();
            Counter(counter.and_then(|mut counter| counter.enable().is_ok().then_some(counter)))
        }

        pub(crate) fn read(&mut self) -> Option<u64> {
            self.0.as_mut()?.read().ok()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    #[derive(Debug)]
    pub(crate) struct Counter;

    impl Counter {
        pub(crate) fn instructions() -> Counter {
            Counter
        }

        pub(crate) fn read(&mut self) -> Option<u64> {
            None
        }
    }
}
