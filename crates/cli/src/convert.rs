//! `symphony convert`: the `model.toml` of models that have a `config.pbtxt`.

use crate::args::ConvertArgs;
use crate::console::say;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use symphony_backend::repository::{ModelDirectory, Repository};

pub(crate) fn command(args: &ConvertArgs) -> Result<()> {
    let (models, is_one) = match args.path.join("config.pbtxt").is_file() {
        true => (vec![ModelDirectory::at(&args.path)?], true),
        false => (Repository::open(&args.path)?.scan()?.models, false),
    };
    let (mut written, mut failed) = (0, 0);
    for directory in &models {
        match directory.converted() {
            Ok(None) => {}
            Ok(Some(text)) => {
                written += 1;
                match (args.write, is_one) {
                    (true, _) => write(&directory.path.join("model.toml"), &text)?,
                    (false, true) => say(text.trim_end()),
                    (false, false) => {
                        say(format_args!("# {}/model.toml\n{text}", directory.name));
                    }
                }
            }
            Err(error) => {
                eprintln!("error: model {:?} cannot be converted: {error}", directory.name);
                failed += 1;
            }
        }
    }
    match (written, failed) {
        (_, 1..) => bail!("{failed} of {} models cannot be converted", models.len()),
        (0, _) => bail!(
            "nothing to convert: no model in {} has a config.pbtxt that says more than its \
             model.toml",
            args.path.display()
        ),
        _ => Ok(()),
    }
}

/// Writes the file as a whole, so that a server that reads it meanwhile finds the old or the new.
fn write(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("toml.new");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}
