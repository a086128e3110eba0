//! Outputs, shown short, or saved.

use crate::answer::Answer;
use crate::console::print_line;
use crate::input::npy_header;
use crate::payload::NamedTensor;
use crate::values;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use symphony_wire::tensor::DataType;

/// One `--output`: where outputs are saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputArg {
    /// All of them, each as a file of its name.
    Folder(PathBuf),
    /// One, in the form that the file's ending says.
    File { name: String, path: PathBuf },
}

impl FromStr for OutputArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<OutputArg> {
        match text.split_once('=') {
            None => Ok(OutputArg::Folder(text.into())),
            Some((name, path)) => {
                let path = PathBuf::from(path);
                form(&path)?;
                Ok(OutputArg::File { name: name.to_owned(), path })
            }
        }
    }
}

/// How a file holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Npy,
    Json,
}

fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("npy") => Ok(Form::Npy),
        Some("json") => Ok(Form::Json),
        _ => bail!("{}: name a file that ends in .npy or .json", path.display()),
    }
}

/// Saves outputs.
///
/// # Errors
/// There is no such output, it has no such form, or the file cannot be written.
pub(crate) fn save(answer: &Answer, wanted: &[OutputArg]) -> Result<()> {
    for wanted in wanted {
        match wanted {
            OutputArg::File { name, path } => save_one(named(answer, name)?, path, form(path)?)?,
            OutputArg::Folder(folder) => {
                fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                for output in &answer.outputs {
                    let form = match output.datatype {
                        DataType::Bytes => Form::Json,
                        _ => Form::Npy,
                    };
                    save_one(output, &folder.join(file_name(&output.name, form)), form)?;
                }
            }
        }
    }
    Ok(())
}

fn named<'a>(answer: &'a Answer, name: &str) -> Result<&'a NamedTensor> {
    answer.outputs.iter().find(|output| output.name == name).ok_or_else(|| {
        let names: Vec<_> =
            answer.outputs.iter().map(|output| format!("{:?}", output.name)).collect();
        anyhow!("the model has no output {name:?}; its outputs are {}", names.join(", "))
    })
}

/// A file name for an output: names of tensors may hold slashes.
fn file_name(output: &str, form: Form) -> String {
    let plain = |letter: char| {
        if letter.is_alphanumeric() || "._-".contains(letter) { letter } else { '_' }
    };
    let ending = match form {
        Form::Npy => "npy",
        Form::Json => "json",
    };
    format!("{}.{ending}", output.chars().map(plain).collect::<String>().trim_start_matches('.'))
}

fn save_one(output: &NamedTensor, path: &Path, form: Form) -> Result<()> {
    let place = || format!("output {:?} to {}", output.name, path.display());
    let bytes = match form {
        Form::Npy => [npy_header(output).with_context(place)?, output.data.to_vec()].concat(),
        Form::Json => {
            let values = values::elements(output.datatype, &output.data);
            let values = values.map_err(|why| anyhow!("it {why}")).with_context(place)?;
            let mut values = values.into_iter();
            serde_json::to_vec(&nested(&output.shape, &mut values))?
        }
    };
    fs::write(path, bytes).with_context(place)?;
    print_line(format_args!("  {} {:?} is in {}", output.name, output.shape, path.display()))
}

/// The values in arrays nested as the shape says.
fn nested(shape: &[i64], values: &mut impl Iterator<Item = Value>) -> Value {
    match shape.split_first() {
        None => values.next().unwrap_or_default(),
        Some((&size, inner)) => (0..size).map(|_| nested(inner, values)).collect(),
    }
}

/// So many values are shown whole; of more, the first and the last ones.
const WHOLE_MAX: usize = 64;
const FIRST: usize = 6;
const LAST: usize = 2;

/// One output on a line: name, type, shape, and its values, or some of them.
///
/// # Errors
/// The contents are cut off.
pub(crate) fn line(output: &NamedTensor) -> Result<String> {
    let values = values::elements(output.datatype, &output.data);
    let values = values.map_err(|why| anyhow!("output {:?} {why}", output.name))?;
    let elements = output.shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size));
    ensure!(
        elements == i64::try_from(values.len()).ok(),
        "output {:?} has {} elements, its shape is {:?}",
        output.name,
        values.len(),
        output.shape
    );
    let count = values.len();
    let shown = if count <= WHOLE_MAX {
        nested(&output.shape, &mut values.into_iter()).to_string().replace(',', ", ")
    } else {
        let texts = |values: &[Value]| {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (first, last) = (texts(&values[..FIRST]), texts(&values[count - LAST..]));
        format!("[{first}, ... {last}] ({count} values{})", range(&values))
    };
    Ok(format!("  {} {} {:?}: {shown}", output.name, output.datatype, output.shape))
}

fn range(values: &[Value]) -> String {
    let mut numbers = values.iter().filter_map(Value::as_f64);
    let Some(first) = numbers.next() else { return String::new() };
    let (low, high) =
        numbers.fold((first, first), |(low, high), value| (low.min(value), high.max(value)));
    format!(" from {low} to {high}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[i64], data: &[u8]) -> NamedTensor {
        let data = data.to_vec().into();
        NamedTensor {
            name: name.to_owned(),
            datatype: DataType::Uint8,
            shape: shape.to_vec(),
            data,
        }
    }

    #[test]
    fn outputs_are_shown_short() {
        assert_eq!(line(&tensor("y", &[2, 1], &[1, 2])).unwrap(), "  y UINT8 [2, 1]: [[1], [2]]");
        assert_eq!(line(&tensor("y", &[], &[7])).unwrap(), "  y UINT8 []: 7");
        assert_eq!(line(&tensor("y", &[0, 7], &[])).unwrap(), "  y UINT8 [0, 7]: []");
        let long: Vec<u8> = (1..=100).collect();
        let expected =
            "  y UINT8 [1, 100]: [1, 2, 3, 4, 5, 6, ... 99, 100] (100 values from 1 to 100)";
        assert_eq!(line(&tensor("y", &[1, 100], &long)).unwrap(), expected);
        assert!(line(&tensor("y", &[3], &[1])).is_err());
    }

    #[test]
    fn outputs_are_saved_where_and_as_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = vec![tensor("a/b", &[2], &[1, 2]), tensor("c", &[1, 1], &[3])];
        let answer = Answer { model: String::new(), version: String::new(), outputs };
        let to = |text: &str| text.parse::<OutputArg>().unwrap();
        let path = |name: &str| folder.path().join(name);
        let json = to(&format!("c={}", path("c.json").display()));
        save(&answer, &[to(path("all").to_str().unwrap()), json]).unwrap();
        assert_eq!(fs::read_to_string(path("c.json")).unwrap(), "[[3]]");
        let npy = fs::read(path("all/a_b.npy")).unwrap();
        assert!(npy.starts_with(b"\x93NUMPY") && npy.ends_with(&[1, 2]));
        let error = save(&answer, &[to("d=d.npy")]).unwrap_err().to_string();
        assert!(error.contains("its outputs are \"a/b\", \"c\""), "{error}");
        assert!("c=c.txt".parse::<OutputArg>().is_err());
    }
}
