//! Repositories as data: a list of files, and what is read from them.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write as _;
use std::sync::Arc;
use symphony_core::{Profile, Span};
use symphony_wire::tensor::{Dim, TensorSpec};

const MODEL_TOML: &str = "m/model.toml";

/// Writes the files (a name that ends in `/` is a directory, contents `-> x` a link to `x`).
fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else if let Some(target) = contents.strip_prefix("-> ") {
            std::os::unix::fs::symlink(target, path).unwrap();
        } else {
            fs::write(path, contents).unwrap();
        }
    }
    root
}

/// What reading every model of a repository gives, a line each.
fn read_all(root: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let Scan { models, skipped } = Repository::open(root)?.scan()?;
    for directory in models {
        match directory.read() {
            Ok(source) => {
                let what = match source.kind {
                    ModelKind::Onnx { file: OnnxSource::File(path), .. } => {
                        path.display().to_string()
                    }
                    ModelKind::Onnx { file: OnnxSource::Example(name), .. } => {
                        format!("example {name}")
                    }
                    ModelKind::Python { file, .. } => file.display().to_string(),
                    ModelKind::Emulated(_) => "emulated".to_owned(),
                };
                let (name, version) = (source.name, source.version);
                writeln!(text, "{name} version {version}: {what}").unwrap();
            }
            Err(error) => writeln!(text, "refused: {error}").unwrap(),
        }
    }
    for skipped in skipped {
        writeln!(text, "skipped: {skipped}").unwrap();
    }
    Ok(text)
}

#[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
fn check(files: &[(&str, &str)], expected: Expect) {
    let root = repository(files);
    let text = read_all(root.path()).unwrap_or_else(|error| format!("refused: {error}\n"));
    expected.assert_eq(&text.replace(&root.path().display().to_string(), "ROOT"));
}

/// What a `model.toml` gives beside an ONNX file.
#[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
fn check_settings(text: &str, expected: Expect) {
    let source = TomlSource::from_text(Path::new("model.toml"), text);
    let shown = match ModelConfig::parse(&source) {
        Ok(config) => format!("{config:?}"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn layouts_that_work() {
    check(
        &[
            ("versions/1/model.onnx", ""),
            ("versions/10/model.onnx", ""),
            ("versions/9/model.onnx", ""),
            ("versions/01/model.onnx", ""),
            ("versions/notes/readme", ""),
            ("bare/model.onnx", ""),
            ("other/resnet.onnx", ""),
            ("other/labels.txt", ""),
            ("two/model.onnx", ""),
            ("two/old.onnx", ""),
            ("example/model.toml", "generate = 'mobilenet_v2'"),
            (".git/config", ""),
            ("README.md", ""),
        ],
        expect![[r#"
            bare version 1: ROOT/bare/model.onnx
            example version 1: example mobilenet_v2
            other version 1: ROOT/other/resnet.onnx
            two version 1: ROOT/two/model.onnx
            versions version 10: ROOT/versions/10/model.onnx
            skipped: directory ".git" is not a model: its name begins with a dot
        "#]],
    );
}

#[test]
fn links_are_followed() {
    check(
        &[
            ("a/1/model.onnx", ""),
            ("b", "-> a"),
            ("c/2", "-> ../a/1"),
            ("d/1/model.onnx", "-> ../../a/1/model.onnx"),
            ("nowhere", "-> gone"),
        ],
        expect![[r#"
            a version 1: ROOT/a/1/model.onnx
            b version 1: ROOT/b/1/model.onnx
            c version 2: ROOT/c/2/model.onnx
            d version 1: ROOT/d/1/model.onnx
            refused: cannot read ROOT/nowhere: No such file or directory (os error 2)
        "#]],
    );
}

#[test]
fn directories_that_are_not_models_are_skipped() {
    check(
        &[
            ("lost+found/", ""),
            ("my model/model.onnx", ""),
            ("..data/m/model.onnx", ""),
            ("empty/", ""),
            ("notes/readme.txt", ""),
            ("notes/01/model.onnx", ""),
            ("m/1/model.onnx", ""),
        ],
        expect![[r#"
            m version 1: ROOT/m/1/model.onnx
            skipped: directory "..data" is not a model: its name begins with a dot
            skipped: directory "empty" is not a model: it has no model.toml, no config.pbtxt, no ONNX file and no version directory
            skipped: directory "lost+found" is not a model: a model's name has 1 to 128 of the characters A-Z a-z 0-9 _ - .
            skipped: directory "my model" is not a model: a model's name has 1 to 128 of the characters A-Z a-z 0-9 _ - .
            skipped: directory "notes" is not a model: it has no model.toml, no config.pbtxt, no ONNX file and no version directory
        "#]],
    );
}

#[test]
fn settings_choose_versions() {
    let root = repository(&[
        ("m/1/model.onnx", ""),
        ("m/3/model.onnx", ""),
        ("m/10/", ""),
        ("m/model.toml", "versions = { latest = 2 }"),
        ("bare/model.onnx", ""),
        ("none/1/model.onnx", ""),
        ("none/model.toml", "versions = [7]"),
    ]);
    let find = |name: &str| Repository::open(root.path()).unwrap().find(name).unwrap();
    let choice = find("m").versions().unwrap();
    assert_eq!((choice.wanted(), choice.stand_ins()), (&[10, 3][..], &[1][..]));
    assert!(find("m").read().is_err());
    assert_eq!(find("m").read_version(3).unwrap().version, 3);
    assert_eq!(find("bare").versions().unwrap().wanted(), [1]);
    let none = find("none").versions().unwrap_err().to_string();
    assert!(none.contains("none of the versions that its settings name is there ([7])"), "{none}");
}

#[test]
fn layouts_that_are_refused() {
    check(
        &[
            ("half/1/model.onnx", ""),
            ("half/2/", ""),
            ("both/1/model.onnx", ""),
            ("both/model.onnx", ""),
            ("many/a.onnx", ""),
            ("many/b.onnx", ""),
            ("example/model.toml", "generate = 'mobilenet_v2'"),
            ("example/1/model.onnx", ""),
        ],
        expect![[r#"
            refused: ROOT/both: both version directories and ROOT/both/model.onnx: move the file into a version directory, or remove it
            refused: ROOT/example: model.toml says generate = "mobilenet_v2", but there is a model file or version directory too: remove one or the other
            refused: ROOT/half/2: no ONNX file in this version: add model.onnx (copy it in under another name, then rename it), or remove the directory
            refused: ROOT/many: 2 ONNX files and none is called model.onnx: keep one, or rename it so
        "#]],
    );
}

#[test]
fn repositories_that_are_none() {
    let root = repository(&[("file", ""), ("m/model.onnx", "")]);
    let open = |name: &str| {
        let error = Repository::open(&root.path().join(name)).unwrap_err().to_string();
        error.replace(&root.path().display().to_string(), "ROOT")
    };
    expect!["model repository ROOT/gone: No such file or directory (os error 2): give an existing directory with one directory per model"]
        .assert_eq(&open("gone"));
    expect![
        "model repository ROOT/file: not a directory: give the directory that holds the models"
    ]
    .assert_eq(&open("file"));
    expect![
        "model repository ROOT/m: this is one model's own directory: give the directory it lies in"
    ]
    .assert_eq(&open("m"));
}

#[test]
fn a_name_from_outside_leads_nowhere_else() {
    let root = repository(&[("models/m/model.onnx", ""), ("secret/model.onnx", "")]);
    let models = Repository::open(&root.path().join("models")).unwrap();
    assert!(models.find("m").is_some());
    for name in ["", ".", "..", "../secret", "m/", "/etc", "m\0", "gone", &"m".repeat(129)] {
        assert_eq!(models.find(name), None, "{name:?}");
    }
}

#[test]
fn an_unreadable_model_toml_is_named() {
    check(
        &[(MODEL_TOML, "-> gone"), ("m/model.onnx", "")],
        expect![[r#"
            refused: cannot read ROOT/m/model.toml: No such file or directory (os error 2)
        "#]],
    );
    let root = repository(&[("m/model.onnx", "")]);
    let at = root.path().join(MODEL_TOML);
    fs::write(&at, [0xff, 0xfe]).unwrap();
    assert!(read_all(root.path()).unwrap().contains("the file is not UTF-8 text"));
    fs::write(&at, "#".repeat(2 << 20)).unwrap();
    assert!(read_all(root.path()).unwrap().contains("1 MiB at most"));
}

#[test]
fn settings_that_work() {
    check_settings(
        "",
        expect![
            "ModelConfig { versions: Latest(1), terms: Terms { slo: Unstated, rows_max: 32, class: High, queue_max: None, loss_weight: 1.0 }, engine: Onnx { settings: GraphSettings { choice: Best, shapes: {}, reshape: {}, max_size: {}, pad: {}, pad_dimension: None, batch_axis: None, broadcast: {}, custom_ops: None, batch_dependent: false, share_weights: false }, file: None, generate: None } }"
        ],
    );
    check_settings(
        "slo_ms = 25\nmax_batch = 8\nengine = 'rten'\npriority = 'low'\nqueue_max = 7\nloss_weight = 2.0\n\
         shape = { ids = [128], image = [3, 224, 224], flag = [] }",
        expect![[
            r#"ModelConfig { versions: Latest(1), terms: Terms { slo: Given(Span(25000000)), rows_max: 8, class: Low, queue_max: Some(7), loss_weight: 2.0 }, engine: Onnx { settings: GraphSettings { choice: Rten, shapes: {"flag": [], "ids": [Some(128)], "image": [Some(3), Some(224), Some(224)]}, reshape: {}, max_size: {}, pad: {}, pad_dimension: None, batch_axis: None, broadcast: {}, custom_ops: None, batch_dependent: false, share_weights: false }, file: None, generate: None } }"#
        ]],
    );
}

const TENSORS: &str = "\n[[input]]\nname='x'\ndatatype='FP32'\nshape=[4]\n\
                       [[output]]\nname='y'\ndatatype='BYTES'\nshape=[]\n";

fn emulated_profile(text: &str) -> Result<Arc<Profile>, String> {
    let text = format!("engine = 'emulated'\n{text}{TENSORS}");
    let config = ModelConfig::parse(&TomlSource::from_text(Path::new("model.toml"), &text))
        .map_err(|error| error.to_string())?;
    let EngineConfig::Emulated(model) = config.engine else { panic!("emulated was asked for") };
    let profile = model.costs.at(1);
    assert_eq!(config.terms.rows_max, profile.rows_max());
    Ok(Arc::new(profile))
}

#[test]
fn an_emulated_model_with_an_open_dimension_takes_longer_for_larger_requests() {
    let text = "engine='emulated'\n[emulated]\nbeta_ms=5\nelement_us=10\nopen_max=512\npadded=true\n\
                [[input]]\nname='x'\ndatatype='FP32'\nshape=[-1, 2]\n\
                [[output]]\nname='y'\ndatatype='FP32'\nshape=[1]\n";
    let parse =
        |text: &str| ModelConfig::parse(&TomlSource::from_text(Path::new("model.toml"), text));
    let EngineConfig::Emulated(model) = parse(text).unwrap().engine else { panic!("not emulated") };
    let signature = &model.signature;
    assert_eq!((signature.dimensions[0].max, signature.padded), (512, Some(0)));
    assert_eq!((signature.size(&[1]), signature.size(&[512])), (2, 1024));
    let us = Span::from_micros;
    assert_eq!(model.costs.exec(2, 1), us(5020));
    assert_eq!(model.costs.exec(100, 3), us(8000));
    for wrong in ["open_max=0", "open_max=99999999999"] {
        let error = parse(&text.replace("open_max=512", wrong)).unwrap_err().to_string();
        assert!(error.contains("model.toml:5: open_max: give a number from 1 to"), "{error}");
    }
    let closed = parse(&text.replace("open_max=512\n", "")).unwrap_err().to_string();
    assert!(closed.contains("give every dimension but the batch dimension"), "{closed}");
}

#[test]
fn emulated_profiles() {
    let ms = Span::from_millis;
    let profile = emulated_profile("[emulated]\nalpha_ms=1\nbeta_ms=5.0").unwrap();
    assert_eq!((profile.rows_max(), profile.exec(1), profile.exec(32)), (32, ms(6), ms(37)));
    let profile = emulated_profile("max_batch=2\n[emulated]\nlatency_ms=[2,3,4]").unwrap();
    assert_eq!((profile.rows_max(), profile.exec(2)), (2, ms(3)));
    let profile = emulated_profile("[emulated]\nbeta_ms=5\nspread=0.25").unwrap();
    assert_eq!((profile.exec(9), profile.spread(9)), (ms(5), 0.25));
    let refused: String = [
        "",
        "[emulated]",
        "[emulated]\nalpha_ms=0\nbeta_ms=0",
        "[emulated]\nalpha_ms=-1",
        "[emulated]\nbeta_ms=nan",
        "[emulated]\nbeta_ms=1\nlatency_ms=[1]",
        "[emulated]\nlatency_ms=[2,1]",
        "[emulated]\nlatency_ms=[]",
        "[emulated]\nbeta_ms=1\nspread=1.5",
        "[emulated]\nbeta_ms=1\nspread=nan",
        "max_batch=3\n[emulated]\nlatency_ms=[2]",
    ]
    .map(|text| format!("{}\n", emulated_profile(text).unwrap_err()))
    .concat();
    expect![[r#"
        model.toml: engine = "emulated" needs a table [emulated] with alpha_ms and beta_ms, or with latency_ms = [time of 1 row, of 2 rows, …]
        model.toml:2: [emulated] needs alpha_ms and beta_ms, or latency_ms
        model.toml:2: the latency profile says that 1 rows take no time: every entry must be positive
        model.toml:3: alpha_ms: -1 is no latency: give milliseconds from 0 to 86400000 (a day)
        model.toml:3: beta_ms: NaN is no latency: give milliseconds from 0 to 86400000 (a day)
        model.toml:2: give either alpha_ms and beta_ms or latency_ms, not both
        model.toml:2: the latency profile decreases: 2 rows take 1.000ms, fewer rows take 2.000ms; make it non-decreasing
        model.toml:2: the latency profile is empty: give the execution time of at least one batch size
        model.toml:4: spread: give a share of the time from 0 to 1
        model.toml:4: spread: give a share of the time from 0 to 1
        model.toml:4: latency_ms has 1 entries but max_batch = 3: give one for every batch size from 1, or lower max_batch
    "#]]
    .assert_eq(&refused);
}

/// Why a `model.toml` is refused.
#[expect(clippy::needless_pass_by_value, reason = "each text is made for it")]
fn refusal(text: String) -> String {
    let source = TomlSource::from_text(Path::new("model.toml"), &text);
    format!("{}\n", ModelConfig::parse(&source).unwrap_err())
}

#[test]
fn settings_that_are_refused() {
    let emulated = "engine='emulated'\n[emulated]\nbeta_ms=1\n";
    let refused: String = [
        "slo = 3".to_owned(),
        "slo_ms = 0".to_owned(),
        "\nslo_ms = -1.5".to_owned(),
        "slo_ms = nan".to_owned(),
        "slo_ms = inf".to_owned(),
        "slo_ms = 86400001".to_owned(),
        "slo_ms = 1e-9".to_owned(),
        "slo_ms = 'fast'".to_owned(),
        "slo_ms =".to_owned(),
        "max_batch = 0".to_owned(),
        "max_batch = 5000".to_owned(),
        "max_batch = 1.5".to_owned(),
        "priority = 10".to_owned(),
        "priority = 'urgent'".to_owned(),
        "queue_max = -1".to_owned(),
        "loss_weight = 0.0".to_owned(),
        "engine = 'tract'".to_owned(),
        "shape = { ids = [0] }".to_owned(),
        "shape = { ids = 'many' }".to_owned(),
        TENSORS.to_owned(),
        "[emulated]".to_owned(),
        emulated.to_owned(),
        format!("generate='x'\n{emulated}{TENSORS}"),
        format!("shape={{x=[1]}}\n{emulated}{TENSORS}"),
        format!("{emulated}{}", TENSORS.replace("FP32", "FLOAT")),
        format!("{emulated}{}", TENSORS.replace("[4]", "[99999999999, 99999999999]")),
        format!("{emulated}{TENSORS}{TENSORS}"),
    ]
    .map(refusal)
    .concat();
    expect![[r#"
        model.toml:1: unknown field `slo`, expected one of `versions`, `file`, `slo_ms`, `queue_timeout_ms`, `max_batch`, `engine`, `shape`, `reshape`, `max_size`, `pad`, `pad_dimension`, `batch_axis`, `broadcast`, `custom_ops`, `batch_dependent`, `share_weights`, `priority`, `queue_max`, `loss_weight`, `generate`, `emulated`, `python`, `parameters`, `input`, `output`
        model.toml:1: slo_ms = 0 is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:2: slo_ms = -1.5 is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:1: slo_ms = NaN is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:1: slo_ms = inf is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:1: slo_ms = 86400001 is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:1: slo_ms = 0.000000001 is no latency objective: give milliseconds above 0 and at most 86400000 (a day)
        model.toml:1: invalid type: string "fast", expected f64
        model.toml:1: string values must be quoted, expected literal string
        model.toml:1: max_batch = 0 is not allowed: give a whole number from 1 to 4096
        model.toml:1: max_batch = 5000 is not allowed: give a whole number from 1 to 4096
        model.toml:1: invalid type: floating point `1.5`, expected i64
        model.toml:1: priority = 10 is not allowed: give "high" or "low", which its requests have that do not say
        model.toml:1: priority = "urgent" is not allowed: give "high" or "low", which its requests have that do not say
        model.toml:1: queue_max = -1 is not allowed: give a whole number from 1 to 10000000
        model.toml:1: loss_weight = 0 is not allowed: give a number from 0.01 to 100
        model.toml:1: unknown variant `tract`, expected one of `onnxruntime`, `rten`, `python`, `emulated`
        model.toml:1: shape [0]: give every dimension but the batch dimension, each at least 1, or -1 to leave it open
        model.toml:1: invalid type: string "many", expected a sequence
        model.toml:2: [[input]] does not go with an ONNX file, which says itself what it takes and gives: add engine = "python" or engine = "emulated", or remove it
        model.toml:1: [emulated] does not go with an ONNX file, which says itself what it takes and gives: add engine = "python" or engine = "emulated", or remove it
        model.toml: engine = "emulated" needs at least one [[input]] with name, datatype and shape (without the batch dimension)
        model.toml:1: generate does not go with engine = "emulated", which runs no ONNX file
        model.toml:1: shape does not go with engine = "emulated", which runs no ONNX file
        model.toml:7: unknown datatype "FLOAT": use BOOL, UINT8-64, INT8-64, FP16, BF16, FP32, FP64 or BYTES
        model.toml:8: input "x": one row may take 1 GiB at most
        model.toml:15: input "x": give every input a name of its own
    "#]].assert_eq(&refused);
}

#[test]
fn settings_of_python_models_that_are_refused() {
    let refused: String = [
        "engine = 'python'".to_owned(),
        format!("engine = 'python'\n[python]\ntimeout_s = 0\n{TENSORS}"),
        format!("engine = 'python'\n[python]\nmemory_mib = 0\n{TENSORS}"),
        format!("engine = 'python'\n[python]\ngpu = 1\n{TENSORS}"),
        format!("engine = 'python'\ngenerate = 'x'\n{TENSORS}"),
        format!("engine = 'python'\nmax_size = {{ n = 3 }}\n{}", TENSORS.replace("[4]", "[-1]")),
        format!("engine = 'python'\n{}", TENSORS.replace("[4]", "[0]")),
        format!("engine = 'python'\nfile = '../model.py'\n{TENSORS}"),
    ]
    .map(refusal)
    .concat();
    expect![[r#"
        model.toml: engine = "python" needs at least one [[input]] with name, datatype and shape (without the batch dimension)
        model.toml:3: timeout_s = 0 is not allowed: give seconds above 0 and at most a day
        model.toml:3: memory_mib = 0 is not allowed: give mebibytes from 1 to 16777216
        model.toml:3: unknown field `gpu`, expected one of `device`, `compile`, `cuda_graphs`, `memory_mib`, `timeout_s`
        model.toml:2: generate does not go with engine = "python", which runs no ONNX file
        model.toml:2: max_size of "n": no input has such a dimension (open are: x.1)
        model.toml:6: shape [0]: give every dimension but the batch dimension, each at least 1
        model.toml:2: file = "../model.py" is not in the version's directory: give the name of a file there
    "#]].assert_eq(&refused);
}

#[test]
fn a_python_model_says_what_it_takes() {
    let text = "max_size = { length = 128 }\n\
                [python]\ntimeout_s = 2.5\nmemory_mib = 64\n\
                [parameters]\nthreshold = 0.5\n\
                [[input]]\nname = 'ids'\ndatatype = 'INT64'\nshape = ['length']\n\
                [[input]]\nname = 'mask'\ndatatype = 'INT64'\nshape = ['length']\n\
                [[input]]\nname = 'x'\ndatatype = 'FP32'\nshape = [-1, 3]\n\
                [[output]]\nname = 'y'\ndatatype = 'FP32'\nshape = ['length', -1]\n";
    let source = TomlSource::from_text(Path::new("model.toml"), text);
    let config = ModelConfig::parse(&source).unwrap();
    let EngineConfig::Python(model) = config.engine else { panic!("{:?}", config.engine) };
    let signature = &model.signature;
    let shapes =
        |specs: &[TensorSpec]| -> Vec<_> { specs.iter().map(|spec| spec.shape.clone()).collect() };
    let (length, x) = (Dim::Open(0), Dim::Open(1));
    let inputs = shapes(&signature.inputs);
    let ids = vec![Dim::Batch, length];
    assert_eq!(inputs, [ids.clone(), ids, vec![Dim::Batch, x, Dim::Fixed(3)]]);
    assert_eq!(shapes(&signature.outputs), [[Dim::Batch, length, Dim::Unknown]]);
    assert_eq!((signature.dimensions[0].max, signature.dimensions[1].name.as_str()), (128, "x.1"));
    assert_eq!(model.bounds, [TensorBounds::Configured, TensorBounds::Free]);
    assert_eq!(model.options.timeout.as_secs_f64(), 2.5);
    assert_eq!(model.options.memory_max, Some(64 << 20));
    assert_eq!(model.parameters["threshold"].as_float(), Some(0.5));
    assert_eq!(config.terms.rows_max, MAX_BATCH_DEFAULT);
}

#[test]
fn a_fingerprint_tells_files_apart() {
    let root = repository(&[("a", "one"), ("b", "two"), ("c", "one")]);
    let of = |names: &[&str]| {
        let start = FingerprintBuilder::default().text("t").number(1);
        let all = names.iter().try_fold(start, |hash, name| hash.file(&root.path().join(name)));
        all.map(FingerprintBuilder::finish)
    };
    assert_eq!(of(&["a"]).unwrap(), of(&["c"]).unwrap());
    assert_ne!(of(&["a"]).unwrap(), of(&["b"]).unwrap());
    assert_ne!(of(&["a", "b"]).unwrap(), of(&["b", "a"]).unwrap());
    assert!(of(&["gone"]).is_err());
    assert_eq!(of(&[]).unwrap().to_string().len(), 64);
}

/// Lines of which a file that almost parses is made.
const LINES: [&str; 16] = [
    "slo_ms = 1e300",
    "slo_ms = 0x7fffffffffffffff",
    "max_batch = 9223372036854775807",
    "max_batch = 4096",
    "priority = -9223372036854775808",
    "engine = 'emulated'",
    "shape = { x = [9223372036854775807, 2], '' = [] }",
    "shape.x = [[1]]",
    "generate = ''",
    "[emulated]",
    "alpha_ms = 86400000",
    "latency_ms = [1e-300, inf]",
    "[[input]]\nname = 'é'\ndatatype = 'FP64'\nshape = [9223372036854775807, 3]",
    "[[output]]\nname = 'y'\ndatatype = 'BOOL'\nshape = []",
    "\u{feff}",
    "'",
];

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_it_panic(
        lines in proptest::collection::vec(0..LINES.len(), 0..8),
        noise in ".{0,16}",
        at in 0usize..9,
    ) {
        let mut lines: Vec<&str> = lines.into_iter().map(|line| LINES[line]).collect();
        lines.insert(at.min(lines.len()), &noise);
        let source = TomlSource::from_text(Path::new("model.toml"), &lines.join("\n"));
        // An error or a configuration: both are fine.
        let _ = ModelConfig::parse(&source);
    }
}
