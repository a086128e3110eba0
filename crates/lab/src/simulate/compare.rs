//! `symphony simulate compare`: policies on scenarios drawn at random, so that none is judged by
//! the cases it was made for.

use super::input::BadInput;
use super::noise::NoiseArgs;
use super::sheet::{Cell, FormatArgs, Sheet, show};
use super::workers;
use anyhow::Result;
use symphony_sim::goodput::Goodput;
use symphony_sim::{Noise, PolicyKind, RandomCase, RandomModel};

/// Draws per scenario: 1 to 8 models with l(b) = alpha b + beta, alpha 0.2 to 6 ms (small ones more
/// often), beta 1 to 10 times alpha, the objective 2.5 to 6 times l(1); popularity Zipf 0 to 1.2;
/// gaps gamma distributed with a coefficient of variation of 0.5 to 3; 1 to 24 accelerators.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// How many scenarios to draw.
    #[arg(long, value_name = "N", default_value_t = 50)]
    random: u32,
    /// Seed of the draws and of the requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds of requests each scenario is run with, from `--seed` on; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u32,
    /// Policies to compare on the same requests; the first also with the best of the others.
    #[arg(long, value_delimiter = ',', default_value = "consolidate,eager")]
    policy: Vec<PolicyKind>,
    /// Compare also with the fixed rule, whose knobs are searched in each scenario by so many tries.
    #[arg(long, value_name = "TRIES")]
    fixed: Option<u32>,
    #[command(flatten)]
    noise: NoiseArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// More scenarios are a mistake.
const RANDOM_MAX: u32 = 10_000;
/// More runs of each are one, too.
const SEEDS_MAX: u32 = 1000;
/// How many of its worst scenarios are shown of each policy.
const WORST: usize = 5;
/// A policy that reaches this part of another's goodput is as good: searches are no finer, and
/// chance moves them by as much.
const AS_GOOD: f64 = 0.98;

pub(super) fn command(args: &CompareArgs) -> Result<()> {
    if !(1..=RANDOM_MAX).contains(&args.random) {
        return Err(BadInput::error(format!("--random: give 1 to {RANDOM_MAX}")));
    }
    if !(1..=SEEDS_MAX).contains(&args.seeds) {
        return Err(BadInput::error(format!("--seeds: give 1 to {SEEDS_MAX}")));
    }
    let (sigma, noise) = args.noise.over(0.0, Noise::default())?;
    let numbers: Vec<u64> = (0..u64::from(args.random)).collect();
    let cases = workers::each(&numbers, "comparing", |&number| {
        let drawn = RandomCase::draw(args.seed, number).map_err(BadInput::error)?;
        let drawn = drawn.with_noise(sigma, noise.clone());
        let knobs = args.fixed.map(|tries| drawn.knobs(tries).map_err(BadInput::error));
        let fixed = knobs.transpose()?.map(|found| PolicyKind::Fixed(found.knobs));
        let policies: Vec<PolicyKind> = args.policy.iter().copied().chain(fixed).collect();
        let found = drawn.goodput(&policies, args.seeds).map_err(BadInput::error)?;
        Ok(Case { number, bound: drawn.rate_limited(), fixed, found, drawn })
    })?;
    let mut names: Vec<String> = args.policy.iter().map(PolicyKind::to_string).collect();
    names.extend(args.fixed.map(|_| "fixed".to_owned()));
    let mut sheets = vec![summary(&names, &cases), listing(&names, &cases, args.seeds > 1)];
    if names.len() > 1 {
        sheets.extend(against(&names, &cases));
    }
    show(&sheets, args.format)
}

/// A scenario, and what each policy reached.
struct Case {
    number: u64,
    drawn: RandomCase,
    /// The rate-limited bound, in requests per second.
    bound: f64,
    /// The fixed rule that was found best, which comes last.
    fixed: Option<PolicyKind>,
    /// Each policy's goodput.
    found: Vec<Goodput>,
}

impl Case {
    /// A policy's goodput as a share of the bound.
    fn share(&self, policy: usize) -> f64 {
        self.found[policy].median() / self.bound
    }

    /// Whether no other policy has a higher goodput.
    fn is_won_by(&self, policy: usize) -> bool {
        self.found.iter().all(|other| other.median() <= self.found[policy].median())
    }

    /// The first policy's goodput as a multiple of the best of the others'.
    fn ratio(&self) -> f64 {
        ratio(self.found.iter().map(Goodput::median))
    }

    /// The same with each seed alone, the lowest first.
    fn ratios(&self) -> Vec<f64> {
        let seeds = self.found.first().map_or(0, |goodput| goodput.by_seed.len());
        let of = |seed: usize| ratio(self.found.iter().map(|goodput| goodput.by_seed[seed]));
        let mut ratios: Vec<f64> = (0..seeds).map(of).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }
}

/// The first of these as a multiple of the largest of the others; one where nobody has any.
fn ratio(mut rates: impl Iterator<Item = f64>) -> f64 {
    let first = rates.next().unwrap_or(0.0);
    match rates.fold(0.0, f64::max) {
        0.0 if first == 0.0 => 1.0,
        best => first / best,
    }
}

fn summary(names: &[String], cases: &[Case]) -> Sheet {
    let columns = ["policy", "median share", "worst five", "wins"];
    let mut sheet = Sheet::new("policies", columns);
    for (number, name) in names.iter().enumerate() {
        let mut shares: Vec<f64> = cases.iter().map(|case| case.share(number)).collect();
        let wins = cases.iter().filter(|case| case.is_won_by(number)).count();
        shares.sort_by(f64::total_cmp);
        sheet.rows.push(vec![
            Cell::Text(name.clone()),
            Cell::Number(shares[(shares.len() - 1) / 2], 3),
            Cell::Text(joined(&shares[..WORST.min(shares.len())])),
            Cell::Count(wins as u64),
        ]);
    }
    sheet
}

/// Every scenario; with what the seeds are between, where there are several.
fn listing(names: &[String], cases: &[Case], with_spread: bool) -> Sheet {
    let mut sheet = Sheet::new("cases", ["case", "models", "accelerators", "cv"]);
    for name in names {
        sheet.columns.push(name.clone());
        if with_spread {
            sheet.columns.extend(["lowest", "highest"].map(|end| format!("{name} {end}")));
        }
    }
    let with_knobs = cases.iter().any(|case| case.fixed.is_some());
    sheet.columns.extend(with_knobs.then(|| "knobs".to_owned()));
    for case in cases {
        let mut row = vec![
            Cell::Text(case.number.to_string()),
            Cell::Count(case.drawn.models.len() as u64),
            Cell::Count(case.drawn.accelerators.into()),
            Cell::Number(case.drawn.cv, 2),
        ];
        for goodput in &case.found {
            let (lowest, highest) = goodput.spread();
            let shown = [goodput.median(), lowest, highest];
            let shown = if with_spread { &shown[..] } else { &shown[..1] };
            row.extend(shown.iter().map(|rate| Cell::Number(rate / case.bound, 3)));
        }
        row.extend(case.fixed.map(|fixed| Cell::Text(fixed.to_string())));
        sheet.rows.push(row);
    }
    sheet
}

/// The first policy and the best of the others: how often it is worse, and where most.
fn against(names: &[String], cases: &[Case]) -> [Sheet; 2] {
    let mut sorted: Vec<&Case> = cases.iter().collect();
    sorted.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    let median = sorted[(sorted.len() - 1) / 2].ratio();
    let worse = sorted.iter().filter(|case| case.ratio() < AS_GOOD).count();
    let mut ratios = Sheet::new("against", ["policy", "median ratio", "lowest"]);
    ratios.columns.push(format!("below {AS_GOOD}"));
    ratios.rows.push(vec![
        Cell::Text(format!("{} / best of the others", names[0])),
        Cell::Number(median, 3),
        Cell::Number(sorted[0].ratio(), 3),
        Cell::Count(worse as u64),
    ]);
    let columns = ["case", "ratio", "by seed", "accelerators", "cv", "zipf", "bound r/s"];
    let mut worst = Sheet::new("worst", columns);
    worst.columns.extend(names.iter().map(|name| format!("{name} r/s")));
    worst.columns.push("alpha b + beta @ objective, in ms".to_owned());
    for case in sorted.iter().take(WORST) {
        let drawn = &case.drawn;
        let mut row = vec![
            Cell::Text(case.number.to_string()),
            Cell::Number(case.ratio(), 3),
            Cell::Text(joined(&case.ratios())),
            Cell::Count(drawn.accelerators.into()),
            Cell::Number(drawn.cv, 2),
            Cell::Number(drawn.zipf, 2),
            Cell::Number(case.bound, 0),
        ];
        row.extend(case.found.iter().map(|goodput| Cell::Number(goodput.median(), 0)));
        row.push(Cell::Text(drawn.models.iter().map(line).collect::<Vec<_>>().join(", ")));
        worst.rows.push(row);
    }
    [ratios, worst]
}

fn joined(numbers: &[f64]) -> String {
    numbers.iter().map(|number| format!("{number:.3}")).collect::<Vec<_>>().join(" ")
}

fn line(model: &RandomModel) -> String {
    let [alpha, beta, slo] = [model.alpha, model.beta, model.slo].map(|span| span.as_millis_f64());
    format!("{alpha:.2} b + {beta:.2} @ {slo:.1}")
}
