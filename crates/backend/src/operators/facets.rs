//! Describes a node by facets: the element types of its inputs, which inputs are stored in the
//! model, which outputs are used, and the class of every attribute.
//!
//! The same code describes the cases that prove an engine and the models that are to be loaded, so
//! both compare word by word.

use std::collections::BTreeSet;
use std::fmt;

use symphony_onnx::proto::TensorProto;
use symphony_onnx::{Attribute, ElementType, Node};

use super::schema::{AttributeDefault, OperatorValue, Schema, SchemaAttribute};
use super::values::{KnownValue, KnownValues};

/// What a facet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetKind {
    /// The element type of an input.
    Type,
    /// Whether an input is stored in the model or computed.
    Origin,
    /// Whether an optional output is used.
    Output,
    /// The class of an attribute's value.
    Attribute,
    /// A circumstance, such as the rank. It needs no proof, but it may tell failing cases from
    /// passing ones.
    Circumstance,
}

impl FacetKind {
    /// Every kind.
    pub const ALL: [FacetKind; 5] = [
        FacetKind::Type,
        FacetKind::Origin,
        FacetKind::Output,
        FacetKind::Attribute,
        FacetKind::Circumstance,
    ];

    /// The character between name and value in the table.
    #[must_use]
    pub fn mark(self) -> char {
        match self {
            FacetKind::Type => ':',
            FacetKind::Origin => '~',
            FacetKind::Output => '>',
            FacetKind::Attribute => '=',
            FacetKind::Circumstance => '#',
        }
    }
}

/// One fact about one use of an operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facet {
    /// What it is about.
    pub kind: FacetKind,
    /// The input, output, attribute or circumstance.
    pub name: String,
    /// Its value or the class of it.
    pub value: String,
}

/// The value of something that is left out.
pub(super) const ABSENT: &str = "-";
/// The value of something that is unknown before a run.
pub const UNKNOWN: &str = "unknown";

impl Facet {
    fn new(kind: FacetKind, name: &str, value: impl Into<String>) -> Facet {
        Facet { kind, name: name.to_owned(), value: value.into() }
    }

    /// Reads the form in the table, such as `axis=negative`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Facet> {
        let at = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))?;
        let (name, rest) = word.split_at(at);
        let kind = FacetKind::ALL.into_iter().find(|kind| rest.starts_with(kind.mark()))?;
        let value = rest.split_at_checked(1)?.1;
        (!name.is_empty() && !value.is_empty()).then(|| Facet::new(kind, name, value))
    }

    /// The facet in words that follow the name of an operator in an error.
    pub(super) fn words(&self) -> String {
        let Facet { kind, name, value } = self;
        match (kind, value.as_str()) {
            (FacetKind::Type, ABSENT) => format!("without input {name}"),
            (FacetKind::Type, UNKNOWN) => {
                format!("with input {name} of a type that the file does not give")
            }
            (FacetKind::Type, _) => format!("with input {name} of type {value}"),
            (FacetKind::Origin, STORED) => format!("with input {name} stored in the model"),
            (FacetKind::Origin, _) => format!("with input {name} computed by the graph"),
            (FacetKind::Output, ABSENT) => format!("without output {name}"),
            (FacetKind::Output, _) => format!("with output {name} in use"),
            (FacetKind::Attribute, ABSENT) => format!("without {name}"),
            (FacetKind::Attribute, _) => format!("with {name} = {value}"),
            (FacetKind::Circumstance, _) if name == AXES_NORMALISED => {
                "normalising over several axes at once".to_owned()
            }
            (FacetKind::Circumstance, _) if name == GATHERED => format!("gathering {value}"),
            (FacetKind::Circumstance, _) => format!("with {name} {value}"),
        }
    }
}

impl fmt::Display for Facet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.kind.mark(), self.value)
    }
}

/// The circumstance of Softmax and similar operators before opset 13: over `one` axis or `many`.
const AXES_NORMALISED: &str = "axes_normalised";

/// The circumstance of Gather: it takes `elements` along the last axis, or whole `slices`.
const GATHERED: &str = "gathered";

const STORED: &str = "stored";
const COMPUTED: &str = "computed";

/// Every facet of a node.
pub(super) fn describe<'a>(
    node: &Node<'a>,
    schema: &Schema,
    values: &KnownValues<'a>,
) -> BTreeSet<Facet> {
    let mut facets = BTreeSet::new();
    for (position, parameter) in schema.inputs.iter().enumerate() {
        if parameter.variadic {
            for position in position..node.proto.input.len() {
                input(node, position, parameter, values, &mut facets);
            }
        } else {
            input(node, position, parameter, values, &mut facets);
        }
    }
    for position in schema.inputs.len()..node.proto.input.len() {
        if schema.input(position).is_none() {
            facets.insert(Facet::new(FacetKind::Type, &format!("input{position}"), OTHER));
        }
    }
    outputs(node, schema, values, &mut facets);
    attributes(node, schema, values, &mut facets);
    circumstances(node, schema, values, &mut facets);
    facets
}

fn input<'a>(
    node: &Node<'a>,
    position: usize,
    parameter: &OperatorValue,
    values: &KnownValues<'a>,
    facets: &mut BTreeSet<Facet>,
) {
    let name = parameter.name;
    if !node.has_input(position) {
        facets.insert(Facet::new(FacetKind::Type, name, ABSENT));
        return;
    }
    let KnownValue { element, .. } = values.input(node, position);
    let element = element.map_or(UNKNOWN, ElementType::name);
    facets.insert(Facet::new(FacetKind::Type, name, element));
    let stored = node.input(position).constant.is_some();
    facets.insert(Facet::new(FacetKind::Origin, name, if stored { STORED } else { COMPUTED }));
    let stands_out = match element {
        "int64" | "int32" => integers(node.input_ints(position).as_deref()),
        "float" if matches!(name, "scales" | "ratio") => {
            numbers(node.input(position).constant.and_then(floats).as_deref())
        }
        "bool" if name == "training_mode" => truth(node.input(position).constant),
        _ => vec![],
    };
    for value in stands_out {
        facets.insert(Facet::new(FacetKind::Circumstance, name, value));
    }
}

/// Lists longer than this are data, not the parameters of an operator.
const LIST_MAX: usize = 16;

/// The notable properties of a list of integers that an operator receives as an input.
fn integers(list: Option<&[i64]>) -> Vec<&'static str> {
    let Some(list) = list.filter(|list| list.len() <= LIST_MAX) else { return vec![UNKNOWN] };
    let narrow = i64::from(i32::MIN)..=i64::from(i32::MAX);
    let found = [
        ("empty", list.is_empty()),
        ("negative", list.iter().any(|v| *v < 0)),
        ("zero", list.contains(&0)),
        ("far", list.iter().any(|v| !narrow.contains(v))),
    ];
    found.into_iter().filter(|(_, is_found)| *is_found).map(|(value, _)| value).collect()
}

/// The notable properties of a list of numbers, such as scales.
fn numbers(list: Option<&[f32]>) -> Vec<&'static str> {
    match list.filter(|list| list.len() <= LIST_MAX) {
        None => vec![UNKNOWN],
        Some(list) if list.iter().all(|v| *v == 0.0) => vec!["zero"],
        Some(list) if list.iter().any(|v| *v < 1.0) => vec!["below_one"],
        Some(_) => vec![],
    }
}

/// The value of a stored switch.
fn truth(tensor: Option<&TensorProto>) -> Vec<&'static str> {
    let Some(tensor) = tensor else { return vec![UNKNOWN] };
    let raw = tensor.raw_data.iter().flatten().any(|v| *v != 0);
    vec![if raw || tensor.int32_data.iter().any(|v| *v != 0) { "on" } else { "off" }]
}

/// The numbers of a short stored tensor.
fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    match &tensor.raw_data {
        Some(raw) if raw.len() <= LIST_MAX * size_of::<f32>() => {
            let (values, _) = raw.as_chunks::<4>();
            Some(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
        Some(raw) if !raw.is_empty() => None,
        _ => Some(tensor.float_data.clone()),
    }
}

fn outputs<'a>(
    node: &Node<'a>,
    schema: &Schema,
    values: &KnownValues<'a>,
    facets: &mut BTreeSet<Facet>,
) {
    for (position, parameter) in schema.outputs.iter().enumerate() {
        if parameter.optional {
            let name = node.proto.output.get(position);
            let used = name.is_some_and(|name| values.is_read(name));
            let value = if used { "used" } else { ABSENT };
            facets.insert(Facet::new(FacetKind::Output, parameter.name, value));
        }
    }
}

fn attributes<'a>(
    node: &Node<'a>,
    schema: &Schema,
    values: &KnownValues<'a>,
    facets: &mut BTreeSet<Facet>,
) {
    for SchemaAttribute { name, default } in &schema.attributes {
        let value = node.attribute(name).map(|value| class(name, value));
        let value = value
            .or_else(|| Some(default_class(name, default.as_ref()?)))
            .or_else(|| derived_class(name, node, values));
        let value = value.unwrap_or_else(|| ABSENT.to_owned());
        facets.insert(Facet::new(FacetKind::Attribute, name, value));
    }
    for attribute in &node.proto.attribute {
        if !schema.attributes.iter().any(|known| known.name == attribute.name()) {
            // An engine may ignore it and answer as if it were not there.
            facets.insert(Facet::new(FacetKind::Attribute, &plain(attribute.name()), OTHER));
        }
    }
}

/// The class of the value that a schema gives to an attribute that is left out.
fn default_class(name: &str, default: &AttributeDefault) -> String {
    match default {
        AttributeDefault::Int(value) => class(name, Attribute::Int(*value)),
        AttributeDefault::Float(value) => class(name, Attribute::Float(*value)),
        AttributeDefault::Text(text) => class(name, Attribute::Text(text.as_bytes())),
        AttributeDefault::Ints(list) => class(name, Attribute::Ints(list)),
        AttributeDefault::List => SET.to_owned(),
    }
}

/// The class of an attribute that is left out and for which the schema has no number, because its
/// default depends on the node's inputs. What the ONNX documents say of it stands here.
fn derived_class<'a>(name: &str, node: &Node<'a>, values: &KnownValues<'a>) -> Option<String> {
    match (name, node.operator()) {
        ("activations", "LSTM" | "GRU") => return Some("Sigmoid+Tanh".to_owned()),
        ("activations", "RNN") => return Some("Tanh".to_owned()),
        // The number of units is a dimension of the weights.
        ("hidden_size", _) => return Some(SET.to_owned()),
        _ => {}
    }
    if !matches!(name, "kernel_shape" | "strides" | "dilations" | "pads" | "output_padding") {
        return None;
    }
    // Weights and images have two dimensions before those that the kernel moves along.
    let given = node.ints("kernel_shape").map(<[i64]>::len);
    let moved = given.or_else(|| {
        let weights = if node.operator() == "QLinearConv" { 3 } else { 1 };
        let rank = |position| values.input(node, position).rank;
        rank(weights).or_else(|| rank(0))?.checked_sub(2)
    })?;
    let ones = vec![1; moved];
    Some(match name {
        "pads" => ints_class(name, &[0].repeat(2 * moved)),
        "output_padding" => ints_class(name, &[0].repeat(moved)),
        _ => ints_class(name, &ones),
    })
}

/// A value for which there can be no proof.
pub const OTHER: &str = "other";

/// The class of an attribute's value. An engine needs the same ability for all values of a class.
fn class(name: &str, value: Attribute<'_>) -> String {
    match value {
        Attribute::Int(_) if ANY_INTEGER.contains(&name) => SET.to_owned(),
        Attribute::Int(value) if name == "axis" => {
            (if value < 0 { "negative" } else { "positive" }).to_owned()
        }
        Attribute::Int(0) => "0".to_owned(),
        Attribute::Int(code) if name == "to" || name.ends_with("dtype") => element(code),
        Attribute::Int(1) => "1".to_owned(),
        Attribute::Int(value) => (if value < 0 { "negative" } else { "more" }).to_owned(),
        Attribute::Ints(_) if ANY_INTEGERS.contains(&name) => SET.to_owned(),
        Attribute::Ints(list) => ints_class(name, list),
        Attribute::Text([_, ..]) if ANY_TEXT.contains(&name) => SET.to_owned(),
        Attribute::Text(text) => text_class(text),
        Attribute::Texts(texts) if matches!(name, "nodes_modes" | "activations") => {
            let texts: BTreeSet<_> = texts.iter().map(|text| text_class(text)).collect();
            texts.into_iter().collect::<Vec<_>>().join("+")
        }
        Attribute::Tensor(tensor) => element(i64::from(tensor.data_type())),
        Attribute::Float(_) | Attribute::Floats(_) | Attribute::Texts(_) => SET.to_owned(),
        Attribute::Other => SET.to_owned(),
        Attribute::Reference(_) => OTHER.to_owned(),
    }
}

/// Attributes whose integer is data or a size, not a switch.
const ANY_INTEGER: &[&str] = &["default_int64", "hidden_size", "seed", "value_int"];

/// Attributes whose integers are data.
const ANY_INTEGERS: &[&str] = &[
    "cats_int64s",
    "classlabels_int64s",
    "classlabels_ints",
    "keys_int64s",
    "value_ints",
    "values_int64s",
];

/// Attributes whose text is data and not the name of a mode. An empty text is a class of its own.
const ANY_TEXT: &[&str] = &["default_string", "delimiter", "pattern", "value_string"];

/// The class of values that do not matter.
const SET: &str = "set";

fn element(code: i64) -> String {
    let element = i32::try_from(code).ok().and_then(ElementType::from_code);
    element.map_or(OTHER, ElementType::name).to_owned()
}

fn ints_class(name: &str, list: &[i64]) -> String {
    match name {
        "kernel_shape" => format!("{}d", list.len()),
        "strides" | "dilations" => {
            let one = list.iter().all(|v| *v == 1);
            format!("{}d-{}", list.len(), if one { "one" } else { "more" })
        }
        "pads" if list.iter().any(|v| *v < 0) => "negative".to_owned(),
        "pads" if list.iter().all(|v| *v == 0) => "zero".to_owned(),
        "pads" => {
            let (begin, end) = list.split_at(list.len() / 2);
            (if begin == end { "even" } else { "uneven" }).to_owned()
        }
        _ if list.is_empty() => "empty".to_owned(),
        _ if list.iter().any(|v| *v < 0) => "negative".to_owned(),
        _ => SET.to_owned(),
    }
}

fn text_class(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok("") => "empty".to_owned(),
        Ok(text) => plain(&text.split_whitespace().collect::<String>()),
        Err(_) => OTHER.to_owned(),
    }
}

/// A text in the form of the table. A text that has no such form becomes a value that no case has.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.,->+".contains(c);
    if !text.is_empty() && text.chars().all(fits) { text.to_owned() } else { OTHER.to_owned() }
}

fn circumstances<'a>(
    node: &Node<'a>,
    schema: &Schema,
    values: &KnownValues<'a>,
    facets: &mut BTreeSet<Facet>,
) {
    let mut add = |name: &str, value| {
        facets.insert(Facet::new(FacetKind::Circumstance, name, value));
    };
    for (position, parameter) in schema.inputs.iter().enumerate() {
        if node.has_input(position) {
            let rank = values.input(node, position).rank;
            let rank = rank.map_or_else(|| UNKNOWN.to_owned(), |rank| rank.to_string());
            add(&format!("{}.rank", parameter.name), rank);
        }
    }
    // Whether an axis is the last one. Unknown when the rank is unknown.
    let is_last = |axis: i64| {
        let rank = i64::try_from(values.input(node, 0).rank?).ok()?;
        Some(axis == -1 || axis == rank - 1)
    };
    let named = |is_last, [last, other]: [&str; 2]| match is_last {
        None => UNKNOWN.to_owned(),
        Some(true) => last.to_owned(),
        Some(false) => other.to_owned(),
    };
    let flattens = matches!(node.operator(), "Softmax" | "LogSoftmax" | "Hardmax");
    if flattens && schema.first < 13 {
        // Before opset 13 these normalise over `axis` and all axes behind it; since then over
        // `axis` alone.
        let axis = node.int("axis").unwrap_or(1);
        add(AXES_NORMALISED, named(is_last(axis), ["one", "many"]));
    }
    if node.operator() == "Gather" {
        let axis = node.int("axis").unwrap_or(0);
        add(GATHERED, named(is_last(axis), ["elements", "slices"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facets_read_back() {
        for word in ["X:float", "W~stored", "mask>used", "equation=ij,jk->ik", "X.rank#4", "axis=-"]
        {
            assert_eq!(Facet::parse(word).expect(word).to_string(), word);
        }
        for word in ["", "X", "X:", "=1", "X?1"] {
            assert_eq!(Facet::parse(word), None, "{word}");
        }
    }

    #[test]
    fn attributes_fall_into_classes() {
        for (name, value, expected) in [
            ("to", Attribute::Int(1), "float"),
            ("to", Attribute::Int(99), "other"),
            ("axis", Attribute::Int(-1), "negative"),
            ("group", Attribute::Int(32), "more"),
            ("keepdims", Attribute::Int(0), "0"),
            ("strides", Attribute::Ints(&[1, 2]), "2d-more"),
            ("pads", Attribute::Ints(&[1, 1, 1, 1]), "even"),
            ("pads", Attribute::Ints(&[0, 0, 1, 1]), "uneven"),
            ("mode", Attribute::Text(b"linear"), "linear"),
            ("equation", Attribute::Text(b"ij, jk -> ik"), "ij,jk->ik"),
            ("mode", Attribute::Text(b"\xff"), "other"),
            ("mode", Attribute::Text(b"a|b"), "other"),
            ("pattern", Attribute::Text(b"a|b"), "set"),
            ("delimiter", Attribute::Text(b""), "empty"),
        ] {
            assert_eq!(class(name, value), expected, "{name} {value:?}");
        }
    }
}
