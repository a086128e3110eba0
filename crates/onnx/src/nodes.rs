//! Lists every operator that a model uses, with what is known about its inputs. Other crates check
//! with it what an engine can run.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::element::ElementType;
use crate::model::OnnxModel;
use crate::opset::{opset, plain_domain};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, ValueInfoProto,
};
use crate::signature::{self, Dim, TensorType};
use crate::tensor;

/// An attribute's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string. The standard demands UTF-8, which is not checked here.
    Text(&'a [u8]),
    /// A stored tensor.
    Tensor(&'a TensorProto),
    /// Numbers.
    Floats(&'a [f32]),
    /// Integers.
    Ints(&'a [i64]),
    /// Strings.
    Texts(&'a [Vec<u8>]),
    /// The value that the caller of the enclosing function gives for its attribute of this name.
    Reference(&'a str),
    /// A graph (whose nodes are listed separately), a sparse tensor, a type or a list of tensors.
    Other,
}

/// What the model file says about a value before anything runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known<'a> {
    /// Its tensor type, declared or taken from its stored data.
    pub tensor: Option<TensorType>,
    /// Its data, if it is an initializer or a `Constant` node with a tensor.
    pub constant: Option<&'a TensorProto>,
}

/// One use of an operator, in the graph, in a graph inside a node, or in a local function.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// The node in the form of the schema.
    pub proto: &'a NodeProto,
    /// The version of its operator set; `None` when the model does not import its domain.
    pub opset: Option<i64>,
    /// Whether it calls one of the model's own functions, whose nodes are listed separately.
    pub is_local_function: bool,
    /// Whether it lies in a graph inside a node (`If`, `Loop`, `Scan`) or in a function.
    pub is_nested: bool,
    scope: Rc<Scope<'a>>,
}

impl<'a> Node<'a> {
    /// The operator, such as `Conv`.
    pub fn operator(&self) -> &'a str {
        self.proto.op_type()
    }

    /// Its domain; the standard one is `""`, even where the file writes `ai.onnx`.
    pub fn domain(&self) -> &'a str {
        plain_domain(self.proto.domain())
    }

    /// Its name, or its first output when it has no name: enough to find it in a viewer.
    pub fn label(&self) -> &'a str {
        match self.proto.name() {
            "" => self.proto.output.first().map_or("", String::as_str),
            name => name,
        }
    }

    /// An attribute's value, if the node sets it.
    pub fn attribute(&self, name: &str) -> Option<Attribute<'a>> {
        self.proto.attribute.iter().find(|a| a.name() == name).map(value)
    }

    /// An integer attribute, if the node sets it as one.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            Attribute::Int(value) => Some(value),
            _ => None,
        }
    }

    /// A list of integers, if the node sets the attribute as one.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        match self.attribute(name)? {
            Attribute::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// A number, if the node sets the attribute as one.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name)? {
            Attribute::Float(value) => Some(value),
            _ => None,
        }
    }

    /// A string, if the node sets the attribute as one and it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.attribute(name)? {
            Attribute::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number of given inputs. An optional input that is left out by an empty name does not
    /// count.
    pub fn input_count(&self) -> usize {
        self.proto.input.iter().filter(|name| !name.is_empty()).count()
    }

    /// Whether the input at a position is given.
    pub fn has_input(&self, position: usize) -> bool {
        self.proto.input.get(position).is_some_and(|name| !name.is_empty())
    }

    /// What the file says about the input at a position; nothing when it is left out.
    pub fn input(&self, position: usize) -> Known<'a> {
        let name = self.proto.input.get(position).map_or("", String::as_str);
        self.scope.find(name)
    }

    /// The element type of an input, if the file gives it.
    pub fn input_element(&self, position: usize) -> Option<ElementType> {
        self.input(position).tensor.map(|t| t.element)
    }

    /// The number of dimensions of an input, if the file gives it.
    pub fn input_rank(&self, position: usize) -> Option<usize> {
        self.input(position).tensor?.dims.map(|dims| dims.len())
    }

    /// The integers of a constant int64 or int32 input, in row-major order.
    pub fn input_ints(&self, position: usize) -> Option<Vec<i64>> {
        tensor::ints(self.input(position).constant?)
    }
}

/// What is known about the values of one graph. A name that is not found here belongs to the graph
/// around it.
#[derive(Debug, Default)]
struct Scope<'a> {
    values: HashMap<&'a str, Known<'a>>,
    around: Option<Rc<Scope<'a>>>,
}

impl<'a> Scope<'a> {
    fn find(&self, name: &str) -> Known<'a> {
        match (self.values.get(name), &self.around) {
            (Some(known), _) => known.clone(),
            (None, Some(around)) => around.find(name),
            (None, None) => Known::default(),
        }
    }

    fn declare(&mut self, values: &'a [ValueInfoProto]) {
        for value in values {
            let tensor = signature::tensor_type(value.r#type.as_ref());
            self.values.insert(value.name(), Known { tensor, constant: None });
        }
    }

    fn store(&mut self, name: &'a str, data: &'a TensorProto) {
        let tensor = tensor::element(data).map(|element| TensorType {
            element,
            dims: Some(data.dims.iter().map(|size| Dim::Fixed(*size)).collect()),
        });
        self.values.insert(name, Known { tensor, constant: Some(data) });
    }

    fn store_constants(&mut self, nodes: &'a [NodeProto]) {
        for node in nodes.iter().filter(|n| n.op_type() == "Constant") {
            let data = node.attribute.iter().find(|a| a.name() == "value");
            if let (Some(output), Some(data)) =
                (node.output.first(), data.and_then(|a| a.t.as_ref()))
            {
                self.store(output, data);
            }
        }
    }

    fn of_graph(graph: &'a GraphProto, around: Option<Rc<Scope<'a>>>) -> Rc<Scope<'a>> {
        let mut scope = Scope { values: HashMap::new(), around };
        for values in [&graph.value_info, &graph.output, &graph.input] {
            scope.declare(values);
        }
        for data in &graph.initializer {
            scope.store(data.name(), data);
        }
        scope.store_constants(&graph.node);
        Rc::new(scope)
    }

    fn of_function(function: &'a FunctionProto) -> Rc<Scope<'a>> {
        let mut scope = Scope::default();
        scope.declare(&function.value_info);
        scope.store_constants(&function.node);
        Rc::new(scope)
    }
}

impl OnnxModel {
    /// Every node of the model: those of its graph in order, with those of nested graphs after the
    /// node that holds them, and then those of its functions.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let model = self.proto();
        let functions = model.functions.iter().map(|f| called(f.domain(), f.name(), f.overload()));
        let functions = functions.collect();
        let imports = &model.opset_import;
        let mut list = Listing { model, functions, imports, found: Vec::new() };
        if let Some(graph) = &model.graph {
            list.add(&graph.node, &Scope::of_graph(graph, None), false);
        }
        for function in &model.functions {
            list.imports = &function.opset_import;
            list.add(&function.node, &Scope::of_function(function), true);
        }
        list.found
    }
}

struct Listing<'a> {
    model: &'a ModelProto,
    functions: HashSet<Called<'a>>,
    imports: &'a [OperatorSetIdProto],
    found: Vec<Node<'a>>,
}

impl<'a> Listing<'a> {
    fn add(&mut self, nodes: &'a [NodeProto], scope: &Rc<Scope<'a>>, is_nested: bool) {
        for node in nodes {
            self.found.push(Node {
                proto: node,
                opset: opset(self.model, self.imports, node.domain()),
                is_local_function: self.functions.contains(&called(
                    node.domain(),
                    node.op_type(),
                    node.overload(),
                )),
                is_nested,
                scope: Rc::clone(scope),
            });
            for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                let inner = Scope::of_graph(graph, Some(Rc::clone(scope)));
                self.add(&graph.node, &inner, true);
            }
        }
    }
}

/// How a node names a function: by domain, name and overload.
type Called<'a> = (&'a str, &'a str, &'a str);

fn called<'a>(domain: &'a str, name: &'a str, overload: &'a str) -> Called<'a> {
    (plain_domain(domain), name, overload)
}

fn value(attribute: &AttributeProto) -> Attribute<'_> {
    if !attribute.ref_attr_name().is_empty() {
        return Attribute::Reference(attribute.ref_attr_name());
    }
    match attribute.r#type() {
        AttributeType::Undefined => untyped(attribute),
        AttributeType::Float => Attribute::Float(attribute.f()),
        AttributeType::Int => Attribute::Int(attribute.i()),
        AttributeType::String => Attribute::Text(attribute.s()),
        AttributeType::Floats => Attribute::Floats(&attribute.floats),
        AttributeType::Ints => Attribute::Ints(&attribute.ints),
        AttributeType::Strings => Attribute::Texts(&attribute.strings),
        AttributeType::Tensor => attribute.t.as_ref().map_or(Attribute::Other, Attribute::Tensor),
        _ => Attribute::Other,
    }
}

/// Files of the first version of the format give no type: the field that is filled tells it.
fn untyped(attribute: &AttributeProto) -> Attribute<'_> {
    match attribute {
        AttributeProto { f: Some(value), .. } => Attribute::Float(*value),
        AttributeProto { i: Some(value), .. } => Attribute::Int(*value),
        AttributeProto { s: Some(value), .. } => Attribute::Text(value),
        AttributeProto { t: Some(value), .. } => Attribute::Tensor(value),
        AttributeProto { floats, .. } if !floats.is_empty() => Attribute::Floats(floats),
        AttributeProto { ints, .. } if !ints.is_empty() => Attribute::Ints(ints),
        AttributeProto { strings, .. } if !strings.is_empty() => Attribute::Texts(strings),
        _ => Attribute::Other,
    }
}
