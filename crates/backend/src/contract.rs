//! What a `config.pbtxt` says of a model's inputs and outputs, held against its graph. Where they
//! contradict each other the model is not served: somebody means another file.

use std::fmt;
use symphony_onnx::{Dim, ElementType, GraphSignature, TensorType, ValueInfo};
use symphony_triton::proto::{
    DataType as FileType, ModelConfig, ModelInput, ModelOutput, ModelTensorReshape,
};

/// A contradiction between the file and the graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config.pbtxt and the graph contradict each other: {0}")]
pub struct Contradiction(String);

/// What the file says of one input or output.
struct Declared<'a> {
    role: &'static str,
    name: &'a str,
    datatype: FileType,
    /// Without the batch dimension, as the graph has it; `None` when the file does not say.
    dims: Option<&'a [i64]>,
}

impl<'a> Declared<'a> {
    fn input(input: &'a ModelInput) -> Declared<'a> {
        Declared {
            role: "input",
            name: &input.name,
            datatype: input.data_type(),
            dims: graph_dims(&input.dims, input.reshape.as_ref()),
        }
    }

    fn output(output: &'a ModelOutput) -> Declared<'a> {
        Declared {
            role: "output",
            name: &output.name,
            datatype: output.data_type(),
            dims: graph_dims(&output.dims, output.reshape.as_ref()),
        }
    }
}

/// The dimensions that a file says the graph has: those of clients, or those that they are reshaped
/// to. A file that gives none leaves them to the graph.
pub(crate) fn graph_dims<'a>(
    dims: &'a [i64],
    reshape: Option<&'a ModelTensorReshape>,
) -> Option<&'a [i64]> {
    match reshape {
        Some(reshape) => Some(&reshape.shape),
        None => Some(dims).filter(|dims| !dims.is_empty()),
    }
}

/// Holds what a file says against a graph. Returns what is worth telling and no contradiction.
///
/// # Errors
/// The first contradiction; it names what the one and the other say.
pub(crate) fn check(
    config: &ModelConfig,
    graph: &GraphSignature,
) -> Result<Vec<String>, Contradiction> {
    let mut told = Vec::new();
    let inputs: Vec<_> = config.input.iter().map(Declared::input).collect();
    let outputs: Vec<_> = config.output.iter().map(Declared::output).collect();
    for declared in &inputs {
        check_tensor(config.max_batch_size, declared, &graph.inputs)?;
    }
    // Outputs that are no tensors are served as tensors of other names.
    if graph.outputs.iter().all(|output| output.tensor().is_some()) {
        for declared in &outputs {
            check_tensor(config.max_batch_size, declared, &graph.outputs)?;
        }
    }
    let is_listed = |value: &ValueInfo, among: &[Declared<'_>]| {
        among.is_empty() || among.iter().any(|declared| declared.name == value.name)
    };
    if let Some(missing) = graph.inputs.iter().find(|value| !is_listed(value, &inputs)) {
        return Err(Contradiction(format!(
            "the graph has an input {missing} that the file does not list: add it, or list no \
             inputs"
        )));
    }
    let unlisted = graph.outputs.iter().filter(|value| !is_listed(value, &outputs));
    told.extend(unlisted.map(|value| {
        format!("config.pbtxt does not list output {:?}: it is served all the same", value.name)
    }));
    let optional = config.input.iter().filter(|input| input.optional);
    told.extend(optional.map(|input| {
        format!(
            "config.pbtxt says that input {:?} is optional: requests may leave it out only if \
             the graph has a default for it",
            input.name
        )
    }));
    Ok(told)
}

fn check_tensor(
    max_batch: Option<i32>,
    declared: &Declared<'_>,
    graph: &[ValueInfo],
) -> Result<(), Contradiction> {
    let Declared { role, name, datatype, dims } = declared;
    let Some(value) = graph.iter().find(|value| value.name == *name) else {
        let known: Vec<_> = graph.iter().map(|value| format!("{:?}", value.name)).collect();
        let known = known.join(", ");
        return Err(Contradiction(format!(
            "the file lists {role} {name:?}, and the graph has {known}"
        )));
    };
    let Some(TensorType { element, dims: Some(actual) }) = value.tensor() else { return Ok(()) };
    if *datatype != FileType::TypeInvalid && file_type(*element) != Some(*datatype) {
        return Err(Contradiction(format!(
            "{role} {name:?} is {} in the file, and {element} in the graph",
            datatype.as_str_name()
        )));
    }
    let Some(dims) = dims else { return Ok(()) };
    let contradicts = |why: &dyn fmt::Display| {
        Contradiction(format!(
            "{role} {name:?} has dims {dims:?} in the file, and the graph has {value}: {why}"
        ))
    };
    let leading = leading(max_batch, dims.len(), actual.len()).map_err(|why| contradicts(&why))?;
    if leading == 1 && matches!(actual[0], Dim::Fixed(size) if size > 1) {
        return Err(contradicts(&format_args!(
            "its first dimension is {} and cannot be the batch's; with max_batch_size: 0, dims \
             has all dimensions",
            actual[0]
        )));
    }
    for (said, there) in dims.iter().zip(&actual[leading..]) {
        match there {
            Dim::Fixed(size) if *size > 0 && said != size => {
                return Err(contradicts(&format_args!("{said} is not {size}")));
            }
            _ if *said == 0 || *said < -1 => {
                return Err(contradicts(&format_args!("a dimension is at least 1, or -1 (open)")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many dimensions of the graph come before those of the file: the batch dimension, or none.
fn leading(max_batch: Option<i32>, said: usize, there: usize) -> Result<usize, String> {
    let rows = match max_batch {
        Some(0) => "max_batch_size: 0 says that these are all dimensions".to_owned(),
        Some(rows) => format!("max_batch_size: {rows} adds a batch dimension in front"),
        None => "neither with a batch dimension in front nor without one".to_owned(),
    };
    match (max_batch, there.checked_sub(said)) {
        (Some(0) | None, Some(0)) => Ok(0),
        (Some(1..) | None, Some(1)) => Ok(1),
        _ => Err(rows),
    }
}

/// The file's name for a type of the graph.
fn file_type(element: ElementType) -> Option<FileType> {
    Some(match element {
        ElementType::Bool => FileType::TypeBool,
        ElementType::Uint8 => FileType::TypeUint8,
        ElementType::Uint16 => FileType::TypeUint16,
        ElementType::Uint32 => FileType::TypeUint32,
        ElementType::Uint64 => FileType::TypeUint64,
        ElementType::Int8 => FileType::TypeInt8,
        ElementType::Int16 => FileType::TypeInt16,
        ElementType::Int32 => FileType::TypeInt32,
        ElementType::Int64 => FileType::TypeInt64,
        ElementType::Float16 => FileType::TypeFp16,
        ElementType::Bfloat16 => FileType::TypeBf16,
        ElementType::Float32 => FileType::TypeFp32,
        ElementType::Float64 => FileType::TypeFp64,
        ElementType::String => FileType::TypeString,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;
    use symphony_onnx::ValueKind;

    fn value(name: &str, element: ElementType, dims: &[i64]) -> ValueInfo {
        let dim =
            |size: &i64| if *size < 0 { Dim::Named("n".to_owned()) } else { Dim::Fixed(*size) };
        let dims = Some(dims.iter().map(dim).collect());
        ValueInfo { name: name.to_owned(), kind: ValueKind::Tensor(TensorType { element, dims }) }
    }

    /// What each file says of a graph `x: float [n, 3, n]`, `s: string [n]` to `y: float [n, 10]`,
    /// `z: int64 [1]`.
    #[expect(clippy::needless_pass_by_value, reason = "the form expect! gives")]
    fn check_files(files: &[&str], expected: Expect) {
        let graph = GraphSignature {
            inputs: vec![
                value("x", ElementType::Float32, &[-1, 3, -1]),
                value("s", ElementType::String, &[-1]),
            ],
            outputs: vec![
                value("y", ElementType::Float32, &[-1, 10]),
                value("z", ElementType::Int64, &[1]),
            ],
        };
        let mut shown = String::new();
        for file in files {
            match check(&symphony_triton::parse(file).unwrap(), &graph) {
                Ok(told) => writeln!(shown, "ok {told:?}").unwrap(),
                Err(error) => writeln!(shown, "{error}").unwrap(),
            }
        }
        expected.assert_eq(&shown);
    }

    #[test]
    fn files_that_fit() {
        check_files(
            &[
                "max_batch_size: 8",
                "max_batch_size: 8 output { name: 'y' data_type: TYPE_FP32 dims: 10 }
                 input [ { name: 'x' data_type: TYPE_FP32 dims: [ 3, 224 ] },
                         { name: 's' data_type: TYPE_STRING dims: [ 1 ] reshape {} } ]",
                "max_batch_size: 0 input [ { name: 'x' dims: [ -1, 3, -1 ] }, { name: 's' dims: -1 } ]
                 output [ { name: 'z' dims: 1 } ]",
                "input [ { name: 'x' dims: [ 3, -1 ] optional: true }, { name: 's' reshape {} } ]",
                "input [ { name: 'x' }, { name: 's' data_type: TYPE_STRING } ]",
            ],
            expect![[r#"
                ok []
                ok ["config.pbtxt does not list output \"z\": it is served all the same"]
                ok ["config.pbtxt does not list output \"y\": it is served all the same"]
                ok ["config.pbtxt says that input \"x\" is optional: requests may leave it out only if the graph has a default for it"]
                ok []
            "#]],
        );
    }

    #[test]
    fn contradictions_name_both() {
        check_files(
            &[
                "input { name: 'a' }",
                "output { name: 'a' }",
                "max_batch_size: 1 input { name: 'x' dims: [ 3, -1 ] }",
                "max_batch_size: 8 input { name: 'x' data_type: TYPE_INT32 dims: [ 3, -1 ] }",
                "max_batch_size: 8 input { name: 'x' dims: [ 4, -1 ] }",
                "max_batch_size: 8 input { name: 'x' dims: [ -1, -1 ] }",
                "max_batch_size: 8 input { name: 'x' dims: [ 3, 0 ] }",
                "max_batch_size: 8 input { name: 'x' dims: [ -1, 3, -1 ] }",
                "max_batch_size: 0 input { name: 'x' dims: [ 3, -1 ] }",
                "input { name: 'x' dims: [ 3 ] }",
                "max_batch_size: 8 output { name: 'z' dims: 1 }",
                "max_batch_size: 8 input { name: 's' dims: [ 1 ] }",
            ],
            expect![[r#"
                config.pbtxt and the graph contradict each other: the file lists input "a", and the graph has "x", "s"
                config.pbtxt and the graph contradict each other: the file lists output "a", and the graph has "y", "z"
                config.pbtxt and the graph contradict each other: the graph has an input s: string [n] that the file does not list: add it, or list no inputs
                config.pbtxt and the graph contradict each other: input "x" is TYPE_INT32 in the file, and float in the graph
                config.pbtxt and the graph contradict each other: input "x" has dims [4, -1] in the file, and the graph has x: float [n, 3, n]: 4 is not 3
                config.pbtxt and the graph contradict each other: input "x" has dims [-1, -1] in the file, and the graph has x: float [n, 3, n]: -1 is not 3
                config.pbtxt and the graph contradict each other: input "x" has dims [3, 0] in the file, and the graph has x: float [n, 3, n]: a dimension is at least 1, or -1 (open)
                config.pbtxt and the graph contradict each other: input "x" has dims [-1, 3, -1] in the file, and the graph has x: float [n, 3, n]: max_batch_size: 8 adds a batch dimension in front
                config.pbtxt and the graph contradict each other: input "x" has dims [3, -1] in the file, and the graph has x: float [n, 3, n]: max_batch_size: 0 says that these are all dimensions
                config.pbtxt and the graph contradict each other: input "x" has dims [3] in the file, and the graph has x: float [n, 3, n]: neither with a batch dimension in front nor without one
                config.pbtxt and the graph contradict each other: output "z" has dims [1] in the file, and the graph has z: int64 [1]: max_batch_size: 8 adds a batch dimension in front
                config.pbtxt and the graph contradict each other: input "s" has dims [1] in the file, and the graph has s: string [n]: max_batch_size: 8 adds a batch dimension in front
            "#]],
        );
    }
}
