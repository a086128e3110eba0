//! What a sweep can vary, and what it can show.

use serde::Deserialize;
use symphony_sim::{Delay, Network};

/// What a sweep varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Parameter {
    /// How many accelerators there are.
    Accelerators,
    /// The objective of every model, in milliseconds.
    SloMs,
    /// Requests per second in total.
    Rate,
    /// Coefficient of variation of the gaps between requests (gamma distributed).
    Cv,
    /// How many models there are: copies of the first.
    Models,
    /// Relative spread of execution times.
    Sigma,
    /// Median of the delay from scheduler to accelerator, in milliseconds.
    ControlMs,
    /// Standard deviation of that delay's logarithm: how long its tail is.
    ControlSigma,
    /// Median of the time per row until an accelerator has its input, in milliseconds.
    DataMs,
    /// Standard deviation of that time's logarithm.
    DataSigma,
    /// Median of the delay from accelerator to client, in milliseconds.
    ResponseMs,
    /// Standard deviation of that delay's logarithm.
    ResponseSigma,
    /// Median of the time that a message within a split scheduler takes, in microseconds.
    MessageUs,
}

/// What a sweep shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measure {
    /// The highest rate at which every model is in time.
    Goodput,
    /// Requests per second answered in time at the given rate.
    Good,
    /// Accelerators busy on average at the given rate.
    Busy,
    /// Accelerators needed for the given rate.
    Accelerators,
    /// Share of late or dropped requests of the worst model, in percent.
    Bad,
    /// The same of the second in which it is largest, all models together, in percent.
    WorstSecond,
    /// Latency that half of the answered requests of the worst model kept, in milliseconds.
    P50Ms,
    /// Latency that 99 % of the answered requests of the worst model kept, in milliseconds.
    P99Ms,
}

impl Parameter {
    pub(super) fn title(self) -> &'static str {
        match self {
            Parameter::Accelerators => "accelerators",
            Parameter::SloMs => "SLO in ms",
            Parameter::Rate => "offered requests per second",
            Parameter::Cv => "coefficient of variation",
            Parameter::Models => "models",
            Parameter::Sigma => "sigma of execution times",
            Parameter::ControlMs => "median control delay in ms",
            Parameter::ControlSigma => "sigma of the control delay",
            Parameter::DataMs => "median data delay per row in ms",
            Parameter::DataSigma => "sigma of the data delay",
            Parameter::ResponseMs => "median response delay in ms",
            Parameter::ResponseSigma => "sigma of the response delay",
            Parameter::MessageUs => "median message delay in µs",
        }
    }

    /// The delay that it is about.
    pub(super) fn delay(self, network: &mut Network) -> Option<&mut Delay> {
        match self {
            Parameter::ControlMs | Parameter::ControlSigma => Some(&mut network.control),
            Parameter::DataMs | Parameter::DataSigma => Some(&mut network.data),
            Parameter::ResponseMs | Parameter::ResponseSigma => Some(&mut network.response),
            _ => None,
        }
    }
}

impl Measure {
    pub(super) fn title(self) -> &'static str {
        match self {
            Measure::Goodput => "goodput in requests per second",
            Measure::Good => "good requests per second",
            Measure::Busy => "busy accelerators",
            Measure::Accelerators => "accelerators needed",
            Measure::Bad => "late or dropped requests in %",
            Measure::WorstSecond => "late or dropped requests of the worst second in %",
            Measure::P50Ms => "median latency in ms",
            Measure::P99Ms => "p99 latency in ms",
        }
    }
}

impl Measure {
    /// For the head of a column.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Measure::Goodput => "goodput r/s",
            Measure::Good => "good r/s",
            Measure::Busy => "busy",
            Measure::Accelerators => "accelerators",
            Measure::Bad => "bad %",
            Measure::WorstSecond => "worst second bad %",
            Measure::P50Ms => "p50 ms",
            Measure::P99Ms => "p99 ms",
        }
    }

    /// How many decimals of it mean something.
    pub(super) fn decimals(self) -> usize {
        match self {
            Measure::Goodput | Measure::Good | Measure::Accelerators => 0,
            Measure::Busy | Measure::P50Ms | Measure::P99Ms => 2,
            Measure::Bad | Measure::WorstSecond => 3,
        }
    }
}
