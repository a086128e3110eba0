//! What a Python process prints: to the log, line by line, with the model's name, and the last lines
//! for errors.

use crate::error::LastLines;
use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A longer line is cut.
const LINE_MAX: usize = 2000;
/// So many lines are kept for errors, and so much of each: errors travel in headers, too.
const KEPT: usize = 16;
const KEPT_LENGTH: usize = 200;
/// So many lines of a stream are logged at once, and so many a second after that.
const BURST: u32 = 1000;
const PER_SECOND: u32 = 100;
/// Begins a line with which our own file says whose lines follow; twice, it has the level of a line.
const MARK: u8 = 0x1e;

/// The last lines of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    /// How many there have been.
    count: usize,
    /// Streams that are still read.
    open: usize,
}

impl Lines {
    /// Reads a stream to its end, on a thread of its own, and calls `at_end` then.
    pub(crate) fn read(
        &self,
        name: &'static str,
        stream: impl Read + Send + 'static,
        at_end: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        self.kept().open += 1;
        let lines = self.clone();
        let reader = move || {
            Reader::new(name, lines.clone()).read(stream);
            lines.kept().open -= 1;
            lines.0.news.notify_all();
            at_end();
        };
        let started = thread::Builder::new().name(format!("python-{name}")).spawn(reader);
        if started.is_err() {
            self.kept().open -= 1;
        }
        started.map(drop)
    }

    /// How many lines there have been.
    pub(crate) fn count(&self) -> usize {
        self.kept().count
    }

    /// The last lines after the first `count`.
    pub(crate) fn since(&self, count: usize) -> LastLines {
        let kept = self.kept();
        let wanted = kept.count.saturating_sub(count).min(kept.lines.len());
        LastLines(kept.lines.iter().skip(kept.lines.len() - wanted).cloned().collect())
    }

    /// Waits until the streams have ended: all that was printed is here then.
    pub(crate) fn ended(&self, bound: Duration) {
        self.wait(bound, |kept| kept.open == 0);
    }

    /// Waits until some time passes without another line.
    pub(crate) fn settled(&self, quiet: Duration, bound: Duration) {
        let begin = Instant::now();
        let mut count = self.count();
        while begin.elapsed() < bound && self.wait(quiet, |kept| kept.count > count) {
            count = self.count();
        }
    }

    /// Waits until something is so; whether it is.
    fn wait(&self, bound: Duration, is_so: impl Fn(&Kept) -> bool) -> bool {
        let kept = self.kept();
        let waited = self.0.news.wait_timeout_while(kept, bound, |kept| !is_so(kept));
        let (_kept, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, line: &str) {
        // Where our own package is says nothing about the script.
        if line.contains("/symphony_worker/") {
            return;
        }
        let mut kept = self.kept();
        if kept.lines.len() == KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.chars().take(KEPT_LENGTH).collect());
        kept.count += 1;
        self.0.news.notify_all();
    }
}

/// Makes lines of one stream.
struct Reader {
    stream: &'static str,
    lines: Lines,
    model: String,
    line: Vec<u8>,
    is_cut: bool,
    rate: Rate,
}

impl Reader {
    fn new(stream: &'static str, lines: Lines) -> Reader {
        let model = "none".to_owned();
        Reader { stream, lines, model, line: Vec::new(), is_cut: false, rate: Rate::new() }
    }

    fn read(mut self, mut stream: impl Read) {
        let mut bytes = [0; 8192];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => bytes[..read].iter().for_each(|byte| self.byte(*byte)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    fn byte(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            _ if self.line.len() < LINE_MAX => self.line.push(byte),
            _ => self.is_cut = true,
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        let cut = if std::mem::take(&mut self.is_cut) { " … (cut)" } else { "" };
        match line.as_slice() {
            [MARK, MARK, ..] => {
                let (level, text) = text[2..].split_once(' ').unwrap_or(("info", &text[2..]));
                self.line(level, &format!("{text}{cut}"));
            }
            [MARK, ..] => text[1..].clone_into(&mut self.model),
            _ => self.line("info", &format!("{text}{cut}")),
        }
    }

    fn line(&mut self, level: &str, text: &str) {
        self.lines.keep(text);
        let (model, stream) = (&self.model, self.stream);
        match self.rate.admit(Instant::now()) {
            Admitted::No => return,
            Admitted::Yes => {}
            Admitted::After(left_out) => {
                tracing::warn!(model, stream, "{left_out} lines of the model were left out here");
            }
        }
        match level {
            "error" => tracing::error!(model, stream, "{text}"),
            "warn" => tracing::warn!(model, stream, "{text}"),
            "debug" => tracing::debug!(model, stream, "{text}"),
            _ => tracing::info!(model, stream, "{text}"),
        }
    }
}

/// Holds a stream to its rate.
struct Rate {
    left: u32,
    since: Instant,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    Yes,
    /// The first after so many that were not.
    After(u64),
    No,
}

impl Rate {
    fn new() -> Rate {
        Rate { left: BURST, since: Instant::now(), left_out: 0 }
    }

    fn admit(&mut self, now: Instant) -> Admitted {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return Admitted::No;
        }
        self.left -= 1;
        match std::mem::take(&mut self.left_out) {
            0 => Admitted::Yes,
            left_out => Admitted::After(left_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8]) -> Vec<String> {
        let lines = Lines::default();
        Reader::new("stdout", lines.clone()).read(bytes);
        lines.since(0).0
    }

    #[test]
    fn lines_are_split_cut_and_marks_are_taken_out() {
        assert_eq!(lines_of(b"a\nb\r\n\nlast"), ["a", "b", "", "last"]);
        assert_eq!(
            lines_of(b"\x1edigits\nhello\n\x1e\x1ewarn careful\n\x1e\x1e"),
            ["hello", "careful", ""]
        );
        assert_eq!(lines_of(&[255, b'\n'])[0], "\u{fffd}");
        let long = lines_of(&[b'x'; 3 * LINE_MAX]);
        assert_eq!(long, ["x".repeat(KEPT_LENGTH)]);
    }

    #[test]
    fn the_last_lines_since_a_point_are_kept() {
        let lines = Lines::default();
        (0..40).for_each(|number| lines.keep(&number.to_string()));
        assert_eq!(lines.since(38).0, ["38", "39"]);
        assert_eq!(lines.since(40).0, Vec::<String>::new());
        assert_eq!(lines.since(0).0.len(), KEPT);
    }

    #[test]
    fn a_stream_is_held_to_its_rate() {
        let mut rate = Rate::new();
        let now = rate.since;
        let admitted = (0..BURST + 5).filter(|_| rate.admit(now) == Admitted::Yes).count();
        assert_eq!(admitted, BURST as usize);
        let later = now + Duration::from_secs(2);
        assert_eq!(rate.admit(later), Admitted::After(5));
        let more = (0..BURST).filter(|_| rate.admit(later) == Admitted::Yes).count();
        assert_eq!(more, 2 * PER_SECOND as usize - 1);
    }
}
