//! The arrival processes of one model: gaps with mean 1, which the rate stretches.

use crate::WorkloadError;
use crate::random::Random;
use symphony_core::Span;

/// An arrival process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Evenly spaced.
    Constant,
    /// Independent requests: exponentially distributed gaps.
    Poisson,
    /// Gamma-distributed gaps: more even than Poisson below a coefficient of variation of 1, and in
    /// clumps above it.
    Gamma {
        /// The coefficient of variation of the gaps, 0.01 to 100.
        cv: f64,
    },
    /// Poisson bursts with pauses between them. The lengths of both are exponentially distributed.
    /// The rate within a burst is such that the mean over bursts and pauses is the stream's rate.
    /// Under a schedule, bursts and pauses pass faster when the factor is higher.
    OnOff {
        /// The mean length of a burst.
        on: Span,
        /// The mean length of a pause.
        off: Span,
    },
}

/// Draws the gaps of one stream.
#[derive(Clone, Debug)]
pub(crate) enum Gaps {
    Constant,
    Poisson,
    Gamma { shape: f64 },
    OnOff(Bursts),
}

/// On and off phases, in units of the stream's mean gap.
#[derive(Clone, Debug)]
pub(crate) struct Bursts {
    on: f64,
    off: f64,
    /// The mean gap within a burst.
    gap: f64,
    /// The rest of the current burst.
    left: f64,
}

impl Process {
    /// The gaps of a stream of this process with a mean of `gap_ns` nanoseconds between requests.
    pub(crate) fn gaps(self, gap_ns: f64, random: &mut Random) -> Result<Gaps, WorkloadError> {
        Ok(match self {
            Process::Constant => Gaps::Constant,
            Process::Poisson => Gaps::Poisson,
            Process::Gamma { cv } if (0.01..=100.0).contains(&cv) => {
                Gaps::Gamma { shape: 1.0 / (cv * cv) }
            }
            Process::Gamma { cv } => return Err(WorkloadError::Variation { cv }),
            Process::OnOff { on: Span::ZERO, off } => {
                return Err(WorkloadError::Bursts { on: Span::ZERO, off });
            }
            Process::OnOff { on, off } => {
                let (on, off) = (on.0 as f64 / gap_ns, off.0 as f64 / gap_ns);
                let left = on * random.exponential();
                Gaps::OnOff(Bursts { on, off, gap: on / (on + off), left })
            }
        })
    }
}

impl Gaps {
    /// The next gap, in units of the mean gap.
    pub(crate) fn next(&mut self, random: &mut Random) -> f64 {
        match self {
            Gaps::Constant => 1.0,
            Gaps::Poisson => random.exponential(),
            Gaps::Gamma { shape } => random.gamma(*shape) / *shape,
            Gaps::OnOff(bursts) => bursts.next(random),
        }
    }
}

impl Bursts {
    fn next(&mut self, random: &mut Random) -> f64 {
        let mut passed = 0.0;
        loop {
            let gap = self.gap * random.exponential();
            if gap <= self.left {
                self.left -= gap;
                return passed + gap;
            }
            // Exponential gaps have no memory: draw again in the next burst.
            passed += self.left + self.off * random.exponential();
            self.left = self.on * random.exponential();
        }
    }
}
