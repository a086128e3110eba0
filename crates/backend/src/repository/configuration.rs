//! A model's settings in the form of Triton's configuration, as its clients ask for them.

use super::directory::{ModelKind, ModelSource, OnnxSource};
use super::versions::VersionPolicy;
use symphony_triton::proto::model_version_policy::{All, Latest, PolicyChoice, Specific};
use symphony_triton::proto::{ModelConfig, ModelVersionPolicy};

impl ModelSource {
    /// The configuration in Triton's form, as far as the settings and the files say it.
    #[must_use]
    pub fn configuration(&self) -> ModelConfig {
        let file = self.settings.triton.as_ref();
        let config =
            file.map_or_else(ModelConfig::default, |file| ModelConfig::clone(file.config()));
        let name = match &self.kind {
            ModelKind::Onnx { file: OnnxSource::File(path), .. }
            | ModelKind::Python { file: path, .. } => path.file_name(),
            _ => None,
        };
        let name = name.map(|name| name.to_string_lossy().into_owned());
        ModelConfig {
            version_policy: Some(ModelVersionPolicy { policy_choice: Some((&self.policy).into()) }),
            default_model_filename: Some(config.default_model_filename.clone())
                .filter(|name| !name.is_empty())
                .or(name)
                .unwrap_or_default(),
            ..config
        }
    }
}

impl From<&VersionPolicy> for PolicyChoice {
    fn from(policy: &VersionPolicy) -> PolicyChoice {
        match policy {
            VersionPolicy::Latest(count) => {
                let num_versions = u32::try_from(*count).unwrap_or(u32::MAX);
                PolicyChoice::Latest(Latest { num_versions })
            }
            VersionPolicy::All => PolicyChoice::All(All {}),
            VersionPolicy::Specific(versions) => {
                let number = |version: &u64| i64::try_from(*version).ok();
                PolicyChoice::Specific(Specific {
                    versions: versions.iter().filter_map(number).collect(),
                })
            }
        }
    }
}
