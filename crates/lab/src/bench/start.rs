//! `symphony bench start`: how long a server with many models takes until it is ready, with an empty
//! cache and with the one that it has left, and how much memory it has at most until then.

use super::process;
use super::server::{Server, StartWith};
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use symphony_client::table::titles;
use tempfile::TempDir;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// ONNX files, and directories with some in them or below: each file becomes a model.
    #[arg(value_name = "PATH")]
    files: Vec<PathBuf>,
    /// The bundled examples are models, too.
    #[arg(long)]
    examples: bool,
    /// At most so many models, in order of their files' paths.
    #[arg(long, default_value_t = 20)]
    models_max: usize,
    /// How often it is started on its own cache.
    #[arg(long, default_value_t = 3)]
    times: usize,
    /// Another `symphony` to start, to compare with [default: this one].
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The onnxruntime library [default: ORT_DYLIB_PATH, or an installed Python package's].
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The names of the bundled examples.
const EXAMPLES: [&str; 4] = ["encoder", "mobilenet_v2", "resnet50", "wide_dense"];

#[derive(Debug, Serialize)]
struct StartReport {
    models: usize,
    /// Of the files, with what lies beside them.
    files_mib: f64,
    cold: Started,
    warm: Vec<Started>,
}

/// One start.
#[derive(Debug, Serialize)]
struct Started {
    seconds: f64,
    served: usize,
    peak_mib: f64,
}

const MIB: f64 = (1u32 << 20) as f64;

pub(crate) fn command(args: &StartArgs) -> Result<()> {
    let scratch =
        TempDir::with_prefix("symphony-bench-").context("cannot make a temporary directory")?;
    let models = scratch.path().join("models");
    let count = fill(&models, args)?;
    ensure!(count > 0, "no ONNX file: name files or directories, or give --examples");
    let cache = scratch.path().join("cache");
    let start = || started(&models, &cache, args);
    let files_mib = bytes_below(&models)? as f64 / MIB;
    let cold = start()?;
    let warm = (0..args.times).map(|_| start()).collect::<Result<_>>()?;
    StartReport { models: count, files_mib, cold, warm }.show(args.json)
}

/// Starts a server and waits until it is ready.
fn started(models: &Path, cache: &Path, args: &StartArgs) -> Result<Started> {
    let mut flags =
        vec!["--skip-failed".to_owned(), "--cache-dir".to_owned(), cache.display().to_string()];
    if let Some(library) = &args.onnxruntime {
        flags.extend(["--onnxruntime".to_owned(), library.display().to_string()]);
    }
    let begun = Instant::now();
    let with = StartWith { program: args.program.as_deref(), log_level: "off" };
    let server = Server::start_with(models, &flags, &with)?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak_mib = process::peak_bytes(server.pid())? as f64 / MIB;
    Ok(Started { seconds, served: server.models_ready()?, peak_mib })
}

/// The bytes of all files below a directory, also of those that links lead to.
fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::metadata(&path)?;
        bytes += if metadata.is_dir() { bytes_below(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Makes the repository. Returns how many models it has.
fn fill(models: &Path, args: &StartArgs) -> Result<usize> {
    let mut files = Vec::new();
    for path in &args.files {
        let path = path.canonicalize().with_context(|| format!("no {}", path.display()))?;
        onnx_files(&path, &mut files)?;
    }
    files.sort();
    let examples = if args.examples { EXAMPLES.as_slice() } else { &[] };
    let mut count = 0;
    let mut add = |name: &str| -> Result<PathBuf> {
        count += 1;
        let model = models.join(format!("{count:02}-{name}"));
        fs::create_dir_all(model.join("1"))?;
        Ok(model)
    };
    for example in examples.iter().take(args.models_max) {
        let model = add(example)?;
        fs::remove_dir(model.join("1"))?;
        fs::write(model.join("model.toml"), format!("generate = {example:?}\n"))?;
    }
    for file in files.iter().take(args.models_max.saturating_sub(examples.len())) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let model = add(&name.chars().map(plain).take(40).collect::<String>())?;
        let version = model.join("1");
        std::os::unix::fs::symlink(file, version.join("model.onnx"))?;
        // Weights that lie beside the file.
        for beside in beside(file)? {
            let name = beside.file_name().unwrap_or_default().to_owned();
            std::os::unix::fs::symlink(&beside, version.join(name))?;
        }
    }
    Ok(count)
}

/// The files whose names begin with that of a model's file: its weights.
fn beside(model: &Path) -> Result<Vec<PathBuf>> {
    let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = model.parent().context("a file lies in a directory")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        if other != name && other.starts_with(&name) {
            found.push(directory.join(other));
        }
    }
    Ok(found)
}

fn onnx_files(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let entry = entry?.path();
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "onnx") {
            onnx_files(&entry, found)?;
        }
    }
    Ok(())
}

impl Report for StartReport {
    fn columns(&self) -> Vec<String> {
        titles(["cache", "seconds until ready", "models served", "peak MiB"])
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |cache: &str, start: &Started| {
            let seconds = format!("{:.1}", start.seconds);
            let (served, peak) = (start.served.to_string(), format!("{:.0}", start.peak_mib));
            vec![cache.to_owned(), seconds, served, peak]
        };
        let warm = self.warm.iter().map(|start| row("its own", start));
        std::iter::once(row("empty", &self.cold)).chain(warm).collect()
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("{} models of {:.0} MiB in the repository", self.models, self.files_mib)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_examples_become_models_up_to_the_bound() {
        let root = TempDir::new().unwrap();
        let files = root.path().join("files");
        fs::create_dir_all(files.join("below")).unwrap();
        for name in ["b c.onnx", "below/a.onnx", "below/readme"] {
            fs::write(files.join(name), "").unwrap();
        }
        for (examples, models_max, expected) in [
            (false, 9, vec!["01-b_c", "02-a"]),
            (
                true,
                5,
                vec!["01-encoder", "02-mobilenet_v2", "03-resnet50", "04-wide_dense", "05-b_c"],
            ),
        ] {
            let models = root.path().join(format!("models-{examples}"));
            let args = StartArgs {
                files: vec![files.clone()],
                examples,
                models_max,
                times: 1,
                program: None,
                onnxruntime: None,
                json: false,
            };
            assert_eq!(fill(&models, &args).unwrap(), expected.len());
            let mut names: Vec<_> =
                fs::read_dir(&models).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, expected);
        }
    }
}
