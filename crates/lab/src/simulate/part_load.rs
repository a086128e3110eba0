//! `symphony simulate part-load`: what is late or dropped below the peak, at shares of what each
//! policy holds.

use super::goodput::{self, search};
use super::input::BadInput;
use super::searched::SearchedArgs;
use super::setup::Setup;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers::{self, cores, progress_bar};
use anyhow::Result;
use symphony_sim::goodput::Goodput;
use symphony_sim::{PolicyKind, Report};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct PartLoadArgs {
    #[command(flatten)]
    searched: SearchedArgs,
    /// Shares of each policy's goodput at which it is run.
    #[arg(long, value_delimiter = ',', default_values_t = [0.25, 0.5, 0.75])]
    share: Vec<f64>,
    /// Policies to run on the same requests [default: the scenario's, or consolidate].
    #[arg(long, value_delimiter = ',')]
    policy: Vec<PolicyKind>,
    /// Take shares of these requests per second, under every policy, instead of its own goodput.
    #[arg(long, value_name = "RATE")]
    of: Option<f64>,
    #[command(flatten)]
    format: FormatArgs,
}

/// The largest share: a run far beyond the peak shows what overload does, which other commands ask.
const SHARE_MAX: f64 = 10.0;

pub(super) fn command(args: &PartLoadArgs) -> Result<()> {
    let in_range = |share: &f64| *share > 0.0 && *share <= SHARE_MAX;
    if let Some(share) = args.share.iter().find(|share| !in_range(share)) {
        return Err(BadInput::error(format!(
            "--share {share}: give shares above 0, up to {SHARE_MAX}"
        )));
    }
    let setup = args.searched.read()?;
    let policies = setup.policies(&args.policy);
    let whole = wholes(&setup, &policies, args.of)?;
    let loads = policies.iter().zip(whole).flat_map(|(policy, whole)| {
        args.share.iter().map(move |share| PartLoad { policy: *policy, share: *share, whole })
    });
    let (loads, idle): (Vec<_>, Vec<_>) = loads.partition(|load: &PartLoad| load.whole > 0.0);
    let seeds = &setup.seeds;
    let runs: Vec<(PartLoad, u64)> =
        loads.iter().flat_map(|load| seeds.iter().map(|seed| (*load, *seed))).collect();
    let reports = workers::each(&runs, "simulating", |(load, seed)| {
        setup.simulate(load.policy, load.rate(), *seed)
    })?;
    let by_load = loads.iter().zip(reports.chunks(seeds.len()));
    let mut sheet = Sheet::new(
        "part-load",
        ["policy", "share", "r/s", "bad %", "lowest", "highest", "p50 ms", "p99 ms"],
    );
    sheet.rows = by_load.map(|(load, reports)| row(load, reports)).collect();
    sheet.rows.extend(idle.iter().map(nothing));
    show(&[sheet], args.format)
}

/// A policy at a share of a rate.
#[derive(Clone, Copy, Debug)]
struct PartLoad {
    policy: PolicyKind,
    share: f64,
    /// Requests per second.
    whole: f64,
}

impl PartLoad {
    fn rate(&self) -> f64 {
        self.share * self.whole
    }
}

/// What each policy's shares are of, in requests per second.
fn wholes(setup: &Setup, policies: &[PolicyKind], of: Option<f64>) -> Result<Vec<f64>> {
    if let Some(rate) = of {
        setup.clone().replace_rate(rate)?;
        return Ok(vec![rate; policies.len()]);
    }
    let bar = progress_bar("searching", 1000);
    let done = |share| bar.set_position(goodput::thousandths(share));
    let found = search(setup, policies, cores(), done)?;
    bar.finish_and_clear();
    Ok(found.iter().map(Goodput::median).collect())
}

/// The row of a policy that holds no rate.
fn nothing(load: &PartLoad) -> Vec<Cell> {
    let mut row = vec![Cell::Text(load.policy.to_string()), Cell::Text(load.share.to_string())];
    row.push(Cell::Number(0.0, 0));
    row.extend(std::iter::repeat_n(Cell::Nothing, 5));
    row
}

/// The medians over the seeds; of what is bad also the lowest and the highest.
fn row(load: &PartLoad, reports: &[Report]) -> Vec<Cell> {
    let sorted = |figure: &dyn Fn(&Report) -> f64| {
        let mut figures: Vec<f64> = reports.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let median = |figures: &[f64]| figures[(figures.len() - 1) / 2];
    let latency = |quantile| {
        let worst = |report: &Report| {
            let latencies = report.models.iter().map(|model| model.latency(quantile));
            latencies.max().unwrap_or_default().as_millis_f64()
        };
        Cell::Number(median(&sorted(&worst)), 2)
    };
    let bad = sorted(&|report| report.worst_bad_share() * 100.0);
    vec![
        Cell::Text(load.policy.to_string()),
        Cell::Text(load.share.to_string()),
        Cell::Number(load.rate(), 0),
        Cell::Number(median(&bad), 3),
        Cell::Number(bad[0], 3),
        Cell::Number(bad[bad.len() - 1], 3),
        latency(0.5),
        latency(0.99),
    ]
}
