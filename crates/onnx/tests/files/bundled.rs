//! The repository of examples agrees with the generators.

use std::fs;
use std::path::Path;

use symphony_onnx::OnnxModel;
use symphony_onnx::examples::find;

#[test]
fn every_bundled_model_is_there_or_can_be_generated() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    let mut names = Vec::new();
    for entry in fs::read_dir(&repository).expect("the repository of examples") {
        let directory = entry.expect("an entry").path();
        let settings = fs::read_to_string(directory.join("model.toml")).expect("model.toml");
        let generator = settings.lines().find_map(|line| line.strip_prefix("generate = "));
        match generator {
            None => drop(OnnxModel::read(&directory.join("1/model.onnx")).expect("a model")),
            Some(name) => {
                let example = find(name.trim_matches('"')).expect("a generator");
                assert!(settings.contains(example.model_toml), "{name}: settings differ");
            }
        }
        names.push(directory.file_name().expect("a name").to_owned());
    }
    names.sort();
    assert_eq!(names, ["digits", "mobilenet_v2", "wide_dense"]);
}
