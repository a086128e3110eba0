//! Model repositories that last as long as a benchmark.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use symphony_core::Span;
use symphony_wire::tensor::{DataType, Signature, TensorSpec};
use tempfile::TempDir;

/// A directory with one model in it; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Repository {
    directory: TempDir,
    pub(crate) model: String,
}

/// An emulated model with one input. A small one comes back, of a long one as much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emulated {
    /// Time per row in milliseconds.
    pub(crate) alpha_ms: f64,
    /// Time per batch in milliseconds.
    pub(crate) beta_ms: f64,
    /// The standard deviation of the times, as a share of them.
    pub(crate) spread: f64,
    pub(crate) slo_ms: f64,
    pub(crate) max_batch: u32,
    /// Numbers in its input.
    pub(crate) elements: usize,
}

/// Numbers in the emulated model's input, where nothing else is said, and in its output.
pub(crate) const ELEMENTS: usize = 16;

impl Emulated {
    /// Takes as little time as can be said.
    pub(crate) const INSTANT: Emulated = Emulated {
        alpha_ms: 0.0,
        beta_ms: 0.000_001,
        spread: 0.0,
        slo_ms: 1000.0,
        max_batch: 32,
        elements: ELEMENTS,
    };

    pub(crate) fn signature(self) -> Signature {
        let spec = |name: &str, elements| TensorSpec::of_rows(name, DataType::Fp32, &[elements]);
        Signature::fixed(vec![spec("x", self.elements)], vec![spec("y", ELEMENTS)])
    }

    /// A repository with this model.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn repository(self) -> Result<Repository> {
        let Emulated { alpha_ms, beta_ms, spread, slo_ms, max_batch, elements } = self;
        let settings = format!(
            "engine = \"emulated\"\nslo_ms = {slo_ms:?}\nmax_batch = {max_batch}\n\
             queue_max = 100000\n\
             [emulated]\nalpha_ms = {alpha_ms:?}\nbeta_ms = {beta_ms:?}\nspread = {spread:?}\n\
             [[input]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [{elements}]\n\
             [[output]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [{ELEMENTS}]\n"
        );
        Repository::with("emulated", &settings)
    }
}

impl Repository {
    /// One model of another repository, with an engine and an objective of its own.
    ///
    /// # Errors
    /// There is no such model, or the copy cannot be written.
    pub(crate) fn variant(
        models: &Path,
        model: &str,
        engine: &str,
        slo: Option<Span>,
    ) -> Result<Repository> {
        let source = models.join(model);
        let source = source
            .canonicalize()
            .with_context(|| format!("no model directory at {}", source.display()))?;
        let mut settings = read_settings(&source.join("model.toml"))?;
        settings.insert("engine".to_owned(), engine.into());
        settings.remove("slo_ms");
        if let Some(slo) = slo {
            settings.insert("slo_ms".to_owned(), slo.as_millis_f64().into());
        }
        let repository = Repository::with(model, &toml::to_string(&settings)?)?;
        let copy = repository.path().join(model);
        for entry in fs::read_dir(&source)? {
            let entry = entry?;
            if entry.file_name() != "model.toml" {
                std::os::unix::fs::symlink(entry.path(), copy.join(entry.file_name()))?;
            }
        }
        Ok(repository)
    }

    /// A repository with one model that has these settings and no file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn with(model: &str, settings: &str) -> Result<Repository> {
        let directory = TempDir::with_prefix("symphony-bench-")
            .context("cannot make a directory for temporary files")?;
        let path = directory.path().join(model);
        fs::create_dir(&path)
            .and_then(|()| fs::write(path.join("model.toml"), settings))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Repository { directory, model: model.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The settings of a model; none when there is no file.
fn read_settings(path: &Path) -> Result<toml::Table> {
    if !path.exists() {
        return Ok(toml::Table::new());
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphony_backend::repository::ModelConfig;
    use symphony_backend::repository::{EngineConfig, TomlSource};

    #[test]
    fn the_emulated_model_is_as_its_clients_think() {
        let repository = Emulated::INSTANT.repository().unwrap();
        let path = repository.path().join(&repository.model).join("model.toml");
        let config = ModelConfig::parse(&TomlSource::read(&path).unwrap()).unwrap();
        let EngineConfig::Emulated(model) = config.engine else { panic!("not emulated") };
        assert_eq!(model.signature, Emulated::INSTANT.signature());
        assert_eq!(model.costs.at(1).exec(32), Span(1));
    }

    #[test]
    fn a_variant_keeps_what_it_does_not_change() {
        let models = TempDir::new().unwrap();
        let model = models.path().join("m");
        fs::create_dir_all(model.join("1")).unwrap();
        fs::write(model.join("1/model.onnx"), "graph").unwrap();
        fs::write(model.join("model.toml"), "slo_ms = 9.0\nmax_batch = 3\n").unwrap();
        let slo = Some(Span::from_micros(1500));
        let variant = Repository::variant(models.path(), "m", "rten", slo).unwrap();
        let read = |file: &str| fs::read_to_string(variant.path().join("m").join(file)).unwrap();
        assert_eq!(read("1/model.onnx"), "graph");
        let settings: toml::Table = read("model.toml").parse().unwrap();
        let expected = "engine = 'rten'\nmax_batch = 3\nslo_ms = 1.5".parse::<toml::Table>();
        assert_eq!(settings, expected.unwrap());
        let missing = Repository::variant(models.path(), "none", "rten", None).unwrap_err();
        assert!(missing.to_string().contains("no model directory at"), "{missing}");
    }
}
