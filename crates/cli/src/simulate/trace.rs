//! Recorded requests: read once to see that all is well and how many there are, then replayed.

use super::input::BadInput;
use super::setup::Setup;
use anyhow::Result;
use std::path::PathBuf;
use symphony_core::ModelId;
use symphony_sim::{Observed, PolicyKind, Report, Scenario, run_observed};
use symphony_workload::Arrival;
use symphony_workload::trace::{Azure, Jsonl, UntilError};

/// A trace file: JSON lines, or per-minute counts in the layout of the Azure Functions trace.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    path: PathBuf,
}

impl Trace {
    pub(super) fn new(path: PathBuf) -> Trace {
        Trace { path }
    }

    /// Replays the trace. The recorded times count from the start of the warm-up.
    ///
    /// # Errors
    /// The file cannot be read or is no trace.
    pub(super) fn run(
        &self,
        setup: &Setup,
        scenario: &Scenario,
        policy: PolicyKind,
        seed: u64,
        observe: impl FnMut(Observed<'_>),
    ) -> Result<Report> {
        if self.path.extension().is_some_and(|extension| extension == "csv") {
            let models = u32::try_from(setup.models.len()).unwrap_or(u32::MAX);
            let azure = Azure::open(&self.path, models).map_err(BadInput::error)?;
            let mut policy = policy.build(scenario, &azure.rates());
            let arrivals = azure.arrivals(1.0, seed);
            return Ok(run_observed(scenario, &mut *policy, arrivals, seed, observe));
        }
        let mut policy = policy.build(scenario, &self.rates(setup)?);
        let mut arrivals = UntilError::new(self.lines(setup)?);
        let report = run_observed(scenario, &mut *policy, arrivals.by_ref(), seed, observe);
        arrivals.finish().map_err(BadInput::error)?;
        Ok(report)
    }

    fn lines(&self, setup: &Setup) -> Result<impl Iterator<Item = TraceLine> + use<>> {
        let names: Vec<String> = setup.models.iter().map(|model| model.name.clone()).collect();
        Jsonl::open(&self.path, &names).map_err(BadInput::error)
    }

    /// Requests per second of each model over the length of the trace.
    fn rates(&self, setup: &Setup) -> Result<Vec<f64>> {
        let mut counts = vec![0.0; setup.models.len()];
        let mut length: f64 = 1e-3;
        for arrival in self.lines(setup)? {
            let Arrival { time, model: ModelId(model), .. } = arrival.map_err(BadInput::error)?;
            counts[model as usize] += 1.0;
            length = length.max(time.as_secs_f64());
        }
        Ok(counts.into_iter().map(|count: f64| count / length).collect())
    }
}

type TraceLine = std::result::Result<Arrival, symphony_workload::trace::TraceError>;
