//! What a decision of the scheduler costs in instructions. They are counted under valgrind, where
//! every run gives the same figure, and compared with the figures that are checked in.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command;
use crate::workspace::{Workspace, cargo};

/// A case may cost this much more than its figure, as a share of it.
const SLACK: f64 = 0.05;

/// The functions of the scheduler that the benchmark calls, by name.
const SECTIONS: [&str; 3] = ["arrive", "settle", "complete"];

const HEAD: &str = "\
# Instructions per request, or per grant where there are no requests, by toolchain and case.
# `cargo xtask instructions` counts them, and writes them here with `--write`; the tests fail where
# a case takes 5 % more. A commit that raises a figure says why.
";

/// The figures of each case, by toolchain.
type InstructionFigures = BTreeMap<String, BTreeMap<String, f64>>;

/// The counted cost of one case.
#[derive(Debug, PartialEq)]
struct Count {
    case: String,
    requests: u64,
    batches: u64,
    /// Instructions of each of the [`SECTIONS`].
    sections: [u64; 3],
}

impl Count {
    /// Instructions per request, or per grant where there are no requests.
    fn figure(&self) -> f64 {
        let units = if self.requests > 0 { self.requests } else { self.batches };
        self.sections.iter().sum::<u64>() as f64 / units.max(1) as f64
    }
}

/// Counts all cases and fails when one costs more than its figure. With `write`, the counts become
/// the figures. Says so when nothing can be counted or compared.
pub(crate) fn run(workspace: &Workspace, write: bool) -> Result<()> {
    if !command::succeeds(Command::new("valgrind").arg("--version")) {
        eprintln!("valgrind is not installed: no instructions are counted");
        return Ok(());
    }
    let counts = count_all(workspace)?;
    let file = workspace.root.join("crates/core/instructions.toml");
    let mut figures = read(&file)?;
    let toolchain = toolchain()?;
    if write {
        let rounded = |count: &Count| (count.case.clone(), count.figure().round());
        figures.insert(toolchain.clone(), counts.iter().map(rounded).collect());
        fs::write(&file, written(&figures)).with_context(|| file.display().to_string())?;
    }
    let known = figures.remove(&toolchain).unwrap_or_default();
    print!("{}", table(&counts, &known));
    if known.is_empty() {
        println!("{} has no figures for {toolchain}: nothing is compared", file.display());
    }
    match complaints(&counts, &known).as_slice() {
        [] => Ok(()),
        complaints => bail!("{}", complaints.join("\n")),
    }
}

fn count_all(workspace: &Workspace) -> Result<Vec<Count>> {
    let program = build(workspace)?;
    let cases = command::output(Command::new(&program).arg("list"))?;
    let profile = workspace.target.join("callgrind.out");
    cases.lines().map(|case| count(&program, case, &profile)).collect()
}

/// Builds the benchmark in the release profile and returns its path.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        executable: Option<PathBuf>,
    }
    let build = ["bench", "--package", "symphony-core", "--bench", "decisions", "--no-run"];
    let text = command::output(
        cargo()
            .current_dir(&workspace.root)
            .args(build)
            .arg("--message-format=json")
            // Other flags give other instructions.
            .env_remove("RUSTFLAGS"),
    )?;
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .filter_map(|artifact| artifact.executable)
        .next_back()
        .context("cargo built the benchmark but did not print its path")
}

/// Runs one case under valgrind. Its preparation and the work of the benchmark itself do not count.
fn count(program: &Path, case: &str, profile: &Path) -> Result<Count> {
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(profile);
    let output = command::output(
        Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", "--toggle-collect=decisions::measured"])
            .args(["--compress-strings=no", "--compress-pos=no"])
            .args([out_file.as_os_str(), program.as_os_str()])
            .arg(case),
    )?;
    let text = fs::read_to_string(profile).with_context(|| profile.display().to_string())?;
    let counted = |unit: &str| -> Result<u64> {
        let line = output.lines().find_map(|line| line.strip_suffix(unit));
        Ok(line.with_context(|| format!("{case} does not print its{unit}"))?.parse()?)
    };
    Ok(Count {
        case: case.to_owned(),
        requests: counted(" requests")?,
        batches: counted(" batches")?,
        sections: SECTIONS.map(|section| instructions(&text, section)),
    })
}

/// The instructions of all calls of a section and everything it calls. In valgrind's format, two
/// lines after the name of a called function there is a position with the cost of the calls.
fn instructions(profile: &str, section: &str) -> u64 {
    let called = format!("cfn=decisions::spent::{section}");
    let lines: Vec<&str> = profile.lines().collect();
    let calls = lines.windows(3).filter(|lines| lines[0] == called);
    let cost = |line: &str| line.split(' ').nth(1)?.parse::<u64>().ok();
    calls.filter_map(|lines| cost(lines[2])).sum()
}

/// The compiler and what it compiles for.
fn toolchain() -> Result<String> {
    let text = command::output(Command::new("rustc").arg("-vV"))?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("rustc -vV does not print {name}"))
    };
    Ok(format!("{} {}", value("release: ")?, value("host: ")?))
}

fn read(file: &Path) -> Result<InstructionFigures> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    toml::from_str(&text).with_context(|| file.display().to_string())
}

fn written(figures: &InstructionFigures) -> String {
    let mut text = HEAD.to_owned();
    for (toolchain, cases) in figures {
        let _ = write!(text, "\n[\"{toolchain}\"]\n");
        for (case, figure) in cases {
            let _ = writeln!(text, "{case} = {figure:.1}");
        }
    }
    text
}

fn table(counts: &[Count], known: &BTreeMap<String, f64>) -> String {
    let mut text = String::from(
        "instructions       per request                             per batch         figure\n\
         case                 arrive  settle complete      all        settle, complete\n",
    );
    for count in counts {
        let requests = count.requests as f64;
        let [arrive, settle, complete] = count.sections.map(|cost| cost as f64);
        let _ = write!(text, "{:18}", count.case);
        if count.requests > 0 {
            for cost in [arrive, settle, complete, arrive + settle + complete] {
                let _ = write!(text, " {:8.1}", cost / requests);
            }
        } else {
            let _ = write!(text, "{:36}", "");
        }
        let _ = write!(text, " {:15.0}", (settle + complete) / count.batches.max(1) as f64);
        let figure = known.get(&count.case).map_or("none".to_owned(), |figure| figure.to_string());
        let _ = writeln!(text, " {figure:>14}");
    }
    text
}

/// Cases that cost more than their figure allows, and cases without a figure.
fn complaints(counts: &[Count], known: &BTreeMap<String, f64>) -> Vec<String> {
    if known.is_empty() {
        return Vec::new();
    }
    let complaint = |count: &Count| {
        let (case, now) = (&count.case, count.figure());
        match known.get(case) {
            None => Some(format!("{case} has no figure: write one with --write")),
            Some(figure) if now > figure * (1.0 + SLACK) => {
                let percent = 100.0 * (now / figure - 1.0);
                Some(format!(
                    "{case} takes {now:.0} instructions, {percent:.0} % more than {figure}"
                ))
            }
            Some(_) => None,
        }
    };
    counts.iter().filter_map(complaint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(case: &str, settle: u64) -> Count {
        Count { case: case.to_owned(), requests: 10, batches: 2, sections: [1000, settle, 0] }
    }

    #[test]
    fn a_case_may_take_a_twentieth_more_than_its_figure() {
        let known = BTreeMap::from([("one".to_owned(), 200.0), ("two".to_owned(), 200.0)]);
        let complain = |counts: &[Count]| complaints(counts, &known);
        assert!(complain(&[counted("one", 1090), counted("two", 0)]).is_empty());
        let late = complain(&[counted("one", 1090), counted("two", 1200)]);
        assert_eq!(late, ["two takes 220 instructions, 10 % more than 200"]);
        assert_eq!(complain(&[counted("three", 0)]).len(), 1, "a new case has none");
        assert!(
            complaints(&[counted("three", 0)], &BTreeMap::new()).is_empty(),
            "another compiler"
        );
    }

    #[test]
    fn figures_read_back() {
        let cases = BTreeMap::from([("grants-4096".to_owned(), 1234.0)]);
        let figures = BTreeMap::from([("1.95.0 x86_64-unknown-linux-gnu".to_owned(), cases)]);
        assert_eq!(toml::from_str::<InstructionFigures>(&written(&figures)).unwrap(), figures);
    }

    #[test]
    fn calls_of_a_section_are_summed() {
        let profile = "fn=main\n1 5\ncfn=decisions::spent::settle\ncalls=2 55\n31 700\n32 4\n\
                       cfn=decisions::spent::arrive\ncalls=1 9\n31 11\n\
                       cfn=decisions::spent::settle\ncalls=1 55\n40 30\n";
        assert_eq!(instructions(profile, "settle"), 730);
        assert_eq!(instructions(profile, "arrive"), 11);
        assert_eq!(instructions(profile, "complete"), 0);
    }
}
