//! The ONNX project's schemas: for every version of every operator, the names and types of inputs
//! and outputs and the names of attributes. This knows no engine and no model.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One version of an operator.
#[derive(Debug)]
pub(super) struct Schema {
    /// The first version of the operator set to which it belongs.
    pub(super) first: i64,
    /// The last version of the operator set to which it belongs.
    pub(super) last: i64,
    pub(super) inputs: Vec<OperatorValue>,
    pub(super) outputs: Vec<OperatorValue>,
    pub(super) attributes: Vec<SchemaAttribute>,
}

/// An attribute.
#[derive(Debug)]
pub(super) struct SchemaAttribute {
    pub(super) name: &'static str,
    /// The value that a node has which leaves the attribute out, if the schema gives one.
    pub(super) default: Option<AttributeDefault>,
}

/// The value of an attribute that is left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttributeDefault {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
    /// Numbers or texts, whose values never matter.
    List,
}

/// An input or output.
#[derive(Debug)]
pub(super) struct OperatorValue {
    pub(super) name: &'static str,
    /// An element type, a variable that stands for one, or `?` for anything but a tensor.
    pub(super) kind: &'static str,
    pub(super) optional: bool,
    /// Whether any number of values may take its place.
    pub(super) variadic: bool,
}

impl Schema {
    /// The schema of the input at a position.
    pub(super) fn input(&self, position: usize) -> Option<&OperatorValue> {
        at(&self.inputs, position)
    }

    /// The schema of the output at a position.
    pub(super) fn output(&self, position: usize) -> Option<&OperatorValue> {
        at(&self.outputs, position)
    }
}

fn at(parameters: &[OperatorValue], position: usize) -> Option<&OperatorValue> {
    parameters.get(position).or_else(|| parameters.last().filter(|last| last.variadic))
}

static SCHEMAS: LazyLock<HashMap<&'static str, Vec<Schema>>> = LazyLock::new(|| {
    let mut schemas: HashMap<_, Vec<_>> = HashMap::new();
    for line in include_str!("schemas.txt").lines() {
        // A test reads the whole file, so a line that does not parse is our own bug.
        let (name, schema) = parse(line).unwrap_or_else(|| panic!("schemas.txt: {line}"));
        schemas.entry(name).or_default().push(schema);
    }
    schemas
});

/// Every version of an operator, oldest first. Empty when the ONNX project has no operator of this
/// name.
pub(super) fn versions(operator: &str) -> &'static [Schema] {
    SCHEMAS.get(operator).map_or(&[], Vec::as_slice)
}

fn parse(line: &'static str) -> Option<(&'static str, Schema)> {
    let mut parts = line.split('|');
    let mut head = parts.next()?.split_whitespace();
    let name = head.next()?;
    let (first, last) = head.next()?.split_once('-')?;
    let schema = Schema {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
        inputs: head.map(parameter).collect::<Option<_>>()?,
        outputs: parts.next()?.split_whitespace().map(parameter).collect::<Option<_>>()?,
        attributes: parts.next()?.split_whitespace().map(attribute).collect::<Option<_>>()?,
    };
    Some((name, schema))
}

fn parameter(word: &'static str) -> Option<OperatorValue> {
    let (name, rest) = word.split_once(':')?;
    let variadic = rest.ends_with('*');
    // The kind itself may be `?`; only a `?` behind it marks an optional value.
    let optional = rest.len() > 1 && rest.ends_with('?');
    let kind = if variadic || optional { &rest[..rest.len() - 1] } else { rest };
    Some(OperatorValue { name, kind, optional, variadic })
}

/// Reads `name`, or `name=kind:value`.
fn attribute(word: &'static str) -> Option<SchemaAttribute> {
    let Some((name, default)) = word.split_once('=') else {
        return Some(SchemaAttribute { name: word, default: None });
    };
    let (kind, value) = default.split_once(':')?;
    let default = match kind {
        "int" => AttributeDefault::Int(value.parse().ok()?),
        "float" => AttributeDefault::Float(value.parse().ok()?),
        "text" => AttributeDefault::Text(value),
        "ints" => {
            let values = value.split(',').filter(|value| !value.is_empty());
            AttributeDefault::Ints(values.map(|v| v.parse().ok()).collect::<Option<_>>()?)
        }
        "list" => AttributeDefault::List,
        _ => return None,
    };
    Some(SchemaAttribute { name, default: Some(default) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_parses() {
        let clip = versions("Clip").last().expect("Clip is there");
        assert!(clip.first == 13 && clip.last > 20);
        assert!(!clip.inputs[0].optional && clip.inputs[1].optional);
        assert_eq!((clip.inputs[2].name, clip.inputs[2].kind), ("max", "T"));
        assert!(versions("Concat")[0].input(7).is_some_and(|p| p.variadic));
        assert!(clip.input(3).is_none());
        let pad = versions("Pad").last().expect("Pad is there");
        let mode = pad.attributes.iter().find(|a| a.name == "mode").expect("it has a mode");
        assert_eq!(mode.default, Some(AttributeDefault::Text("constant")));
    }
}
