//! `symphony simulate`: questions to the scheduler under simulated time.
//!
//! Scenario files are read and validated by `file` into one `Setup`, which every command varies
//! and runs. Nothing here knows the live system.

mod borders;
mod compare;
mod delays;
mod faults;
mod file;
mod fixed;
mod goodput;
mod gpus;
pub(crate) mod input;
mod limits;
mod model;
mod noise;
mod output;
mod parameter;
mod part_load;
mod profile_file;
mod run;
mod searched;
mod series;
mod setup;
mod sheet;
mod sweep;
mod timeline;
mod trace;
pub(crate) mod workers;

use anyhow::Result;

/// Options of `symphony simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Question {
    /// One run: what became of the requests of each model, and how busy each accelerator was.
    Run(run::RunArgs),
    /// The highest rate at which every model has at most 1 % late or dropped requests.
    Goodput(goodput::GoodputArgs),
    /// The fixed borders between lanes of sizes with the highest goodput.
    Borders(borders::BordersArgs),
    /// The knobs of the fixed rule with the highest goodput, and other policies beside it.
    Fixed(fixed::FixedArgs),
    /// What is late or dropped at shares of each policy's goodput.
    PartLoad(part_load::PartLoadArgs),
    /// The fewest accelerators for a given load.
    Gpus(gpus::GpusArgs),
    /// One parameter over a range: a table and a plot.
    Sweep(sweep::SweepArgs),
    /// Policies on scenarios drawn at random: shares of the rate-limited bound, and who wins.
    Compare(compare::CompareArgs),
    /// Processes of a cluster that fail at random: whether what has to be true stays true.
    Faults(faults::FaultsArgs),
    /// Draw which batch ran where and when.
    Timeline(timeline::TimelineArgs),
}

/// Answers the question.
///
/// # Errors
/// [`BadInput`](input::BadInput) where it cannot be answered as it was asked.
pub fn command(args: SimulateArgs) -> Result<()> {
    match args.question {
        Question::Run(args) => run::command(&args),
        Question::Goodput(args) => goodput::command(&args),
        Question::Borders(args) => borders::command(&args),
        Question::Fixed(args) => fixed::command(&args),
        Question::PartLoad(args) => part_load::command(&args),
        Question::Gpus(args) => gpus::command(&args),
        Question::Sweep(args) => sweep::command(&args),
        Question::Compare(args) => compare::command(&args),
        Question::Faults(args) => faults::command(&args),
        Question::Timeline(args) => timeline::command(&args),
    }
}
