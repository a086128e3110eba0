//! The inputs of a request, from files, from the command line, or made up.

mod contents;
mod json;
mod npy;
mod random;
mod shape;

pub(crate) use npy::header as npy_header;
pub(crate) use shape::SizeArg;

use crate::metadata::{InputInfo, ModelInputs};
use crate::payload::NamedTensor;
use anyhow::{Context, Result, anyhow, bail, ensure};
use contents::Contents;
use random::MadeUp;
use shape::OpenSizes;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// One `--input`: which, and where its contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputArg {
    name: String,
    source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// Made up; in this shape, or in the model's.
    Random(Option<Vec<i64>>),
    Npy(PathBuf),
    Json(PathBuf),
    /// JSON itself.
    Text(String),
}

impl FromStr for InputArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<InputArg> {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).context(
            "give NAME=FILE.npy, NAME=FILE.json, NAME=JSON, NAME=@random or NAME=@random[1,40]",
        )?;
        Ok(InputArg { name: name.to_owned(), source: value.parse()? })
    }
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Source> {
        if let Some(shape) = text.strip_prefix("@random") {
            return random_shape(shape).map(Source::Random);
        }
        let path = PathBuf::from(text);
        Ok(match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Source::Npy(path),
            Some("json") => Source::Json(path),
            _ => Source::Text(text.to_owned()),
        })
    }
}

fn random_shape(text: &str) -> Result<Option<Vec<i64>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let shape: Option<Vec<i64>> = serde_json::from_str(text).ok();
    match shape.filter(|shape| shape.iter().all(|size| *size >= 0)) {
        Some(shape) => Ok(Some(shape)),
        None => bail!("@random{text}: give the shape in brackets, such as @random[1,40]"),
    }
}

/// The inputs that are given, or, where none is, made-up ones for everything that the model has to
/// be given.
///
/// # Errors
/// What is given is not what the model takes, or cannot be read.
pub(crate) fn inputs(
    model: &ModelInputs,
    given: &[InputArg],
    sizes: &[SizeArg],
    seed: u64,
) -> Result<Vec<NamedTensor>> {
    let mut sizes = OpenSizes::new(model, sizes)?;
    let mut random = MadeUp::new(seed);
    if given.is_empty() {
        let made = |info: &InputInfo| random.tensor(info, sizes.made_up(info));
        return model.inputs.iter().filter(|info| !info.is_optional).map(made).collect();
    }
    let mut inputs: Vec<NamedTensor> = Vec::new();
    // What is read from files first: made-up inputs take the sizes of open dimensions from there.
    let (made, read): (Vec<_>, Vec<_>) =
        given.iter().partition(|input| matches!(input.source, Source::Random(_)));
    for input in read.into_iter().chain(made) {
        let info = known(model, &input.name)?;
        ensure!(
            inputs.iter().all(|other| other.name != input.name),
            "input {:?} is given twice: give each input once",
            input.name
        );
        let tensor = match &input.source {
            Source::Random(Some(shape)) => {
                let shape = shape::fit(shape, info).with_context(|| wrong_shape(shape, info))?;
                random.tensor(info, shape)?
            }
            Source::Random(None) => random.tensor(info, sizes.made_up(info))?,
            Source::Npy(path) => from_file(info, path, npy::read)?,
            Source::Json(path) => from_file(info, path, json::read)?,
            Source::Text(text) => from_text(info, text)?,
        };
        sizes.learn(info, &tensor.shape);
        inputs.push(tensor);
    }
    Ok(inputs)
}

fn known<'a>(model: &'a ModelInputs, name: &str) -> Result<&'a InputInfo> {
    let found = model.inputs.iter().find(|info| info.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = model.inputs.iter().map(|info| format!("{:?}", info.name)).collect();
        anyhow!("the model has no input {name:?}; its inputs are {}", names.join(", "))
    })
}

type Read = fn(&InputInfo, &[u8]) -> Result<Contents>;

fn from_file(info: &InputInfo, path: &PathBuf, read: Read) -> Result<NamedTensor> {
    let place = || format!("input {:?} from {}", info.name, path.display());
    let bytes = fs::read(path).with_context(place)?;
    let contents = read(info, &bytes).with_context(place)?;
    fitted(info, contents).with_context(place)
}

fn from_text(info: &InputInfo, text: &str) -> Result<NamedTensor> {
    let place = || format!("input {:?}", info.name);
    let contents = json::read(info, text.as_bytes()).map_err(|error| {
        if fs::exists(text).unwrap_or(false) {
            return anyhow!("{text} is neither JSON nor a file whose name ends in .npy or .json");
        }
        error
    });
    contents.and_then(|contents| fitted(info, contents)).with_context(place)
}

fn fitted(info: &InputInfo, contents: Contents) -> Result<NamedTensor> {
    let shape =
        shape::fit(&contents.shape, info).with_context(|| wrong_shape(&contents.shape, info))?;
    Ok(NamedTensor { name: info.name.clone(), datatype: info.datatype, shape, data: contents.data })
}

fn wrong_shape(given: &[i64], info: &InputInfo) -> String {
    format!("the shape {given:?} is given, the model takes {}", shape::text(info))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dimension;
    use std::collections::BTreeMap;
    use symphony_wire::tensor::DataType;

    fn model() -> ModelInputs {
        let named = |name: &str| Dimension::Named(name.to_owned());
        let input = |name: &str, datatype, shape, is_optional| InputInfo {
            name: name.to_owned(),
            datatype,
            shape,
            is_optional,
        };
        ModelInputs {
            inputs: vec![
                input("ids", DataType::Int64, vec![named("batch"), named("sequence")], false),
                input("image", DataType::Fp32, vec![named("batch"), Dimension::Size(3)], false),
                input("rate", DataType::Int64, vec![], true),
            ],
            largest: BTreeMap::from([("sequence".to_owned(), 8)]),
        }
    }

    fn shapes(given: &[&str], sizes: &[&str]) -> Result<Vec<Vec<i64>>> {
        let given = given.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
        let sizes = sizes.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
        let inputs = inputs(&model(), &given, &sizes, 1)?;
        for input in &inputs {
            let elements: i64 = input.shape.iter().product();
            let size = input.datatype.size().unwrap() as i64;
            assert_eq!(input.data.len() as i64, elements * size, "{input:?}");
        }
        Ok(inputs.into_iter().map(|input| input.shape).collect())
    }

    #[test]
    fn inputs_have_the_shape_that_is_given_or_a_sensible_one() {
        type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static [i64]]);
        let cases: [Case; 9] = [
            (&[], &[], &[&[1, 8], &[1, 3]]),
            (&[], &["sequence=5", "batch=2"], &[&[2, 5], &[2, 3]]),
            (&["ids=@random[4,7]"], &[], &[&[4, 7]]),
            (&["ids=[[1,2],[3,4]]", "image=@random"], &[], &[&[2, 2], &[2, 3]]),
            (&["image=@random", "ids=[[1],[2],[3]]"], &[], &[&[3, 1], &[3, 3]]),
            (&["ids=[1,2,3]"], &[], &[&[1, 3]]),
            (&["image=[1,2,3,4,5,6]"], &[], &[&[2, 3]]),
            (&["image=[0.5,1,2]"], &[], &[&[1, 3]]),
            (&["rate=16000"], &[], &[&[]]),
        ];
        for (given, sizes, expected) in cases {
            let found = shapes(given, sizes).unwrap();
            assert_eq!(found, expected, "{given:?} {sizes:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (given, size, part) in [
            ("ids", "batch=1", "give NAME=FILE.npy"),
            ("ids=@random[-1]", "batch=1", "such as @random[1,40]"),
            (
                "other=@random",
                "batch=1",
                "no input \"other\"; its inputs are \"ids\", \"image\", \"rate\"",
            ),
            ("image=[1,2]", "batch=1", "the shape [2] is given, the model takes [batch, 3]"),
            ("image=[[1,2],[3]]", "batch=1", "[1] has 1 elements, [0] has 2"),
            ("image=[1,\"a\",3]", "batch=1", "[1] is \"a\", not FP32"),
            ("image=nonsense", "batch=1", "not JSON"),
            ("image=none.npy", "batch=1", "none.npy"),
            (
                "ids=@random",
                "width=1",
                "no open dimension \"width\"; there are \"batch\", \"sequence\"",
            ),
            ("ids=@random", "width", "such as sequence=40"),
            ("ids=@random", "sequence=-1", "such as sequence=40"),
            ("ids=@random", "sequence=9", "\"sequence\" takes at most 8"),
        ] {
            let error = format!("{:#}", shapes(&[given], &[size]).unwrap_err());
            assert!(error.contains(part), "{given} {size}: {error}");
        }
    }
}
