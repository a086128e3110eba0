//! Counters and histograms that cost one or two atomic additions, and the Prometheus text form.
//!
//! Knows no metric by name.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and comes back down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Goes up, and says to what.
    pub(crate) fn up(&self, amount: u64) -> u64 {
        self.0.fetch_add(amount, Ordering::Relaxed).saturating_add(amount)
    }

    /// Comes down by what it went up.
    pub(crate) fn down(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations by size: `buckets[i]` holds those above `bounds[i - 1]` and up to `bounds[i]`,
/// the last one the rest. Bounds and observations are in the smallest unit (nanoseconds, rows).
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [u64]) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

/// What a family of samples is, as Prometheus has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// A page in the Prometheus text format (version 0.0.4).
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Begins a family; its samples have to follow before the next family.
    pub(crate) fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        self.labels(labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// The samples of one histogram; `unit` is how many of its smallest units make one of the
    /// unit shown.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        unit: f64,
    ) {
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for (index, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = match histogram.bounds.get(index) {
                Some(bound) => (*bound as f64 / unit).to_string(),
                None => "+Inf".to_owned(),
            };
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&bucket_name, &labels, count);
        }
        let sum = histogram.sum.load(Ordering::Relaxed) as f64 / unit;
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{name}=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_text() {
        let histogram = Histogram::new(&[1_000_000, 10_000_000]);
        for ms in [1, 2, 20] {
            histogram.observe(ms * 1_000_000);
        }
        let mut page = Page::default();
        page.family("t_seconds", MetricKind::Histogram, "Times.");
        page.histogram("t_seconds", &[("model", "a\"b\\\n")], &histogram, 1e9);
        page.family("up", MetricKind::Gauge, "Up.");
        page.sample("up", &[], 1);
        let model = r#"model="a\"b\\\n""#;
        let expected = [
            "# HELP t_seconds Times.".to_owned(),
            "# TYPE t_seconds histogram".to_owned(),
            format!("t_seconds_bucket{{{model},le=\"0.001\"}} 1"),
            format!("t_seconds_bucket{{{model},le=\"0.01\"}} 2"),
            format!("t_seconds_bucket{{{model},le=\"+Inf\"}} 3"),
            format!("t_seconds_sum{{{model}}} 0.023"),
            format!("t_seconds_count{{{model}}} 3"),
            "# HELP up Up.".to_owned(),
            "# TYPE up gauge".to_owned(),
            "up 1\n".to_owned(),
        ];
        assert_eq!(page.into_text(), expected.join("\n"));
    }
}
