//! A node, as the rules see it.

use std::collections::HashMap;

use super::value::{Count, Fact, Mixing, Track};
use crate::proto::{AttributeProto, GraphProto, NodeProto};

/// What is known of the values of a graph and of the graphs around it, by name.
pub(super) type Values = HashMap<String, Fact>;

/// A value that nothing is known of comes from a node that was not followed.
pub(super) fn value_of(values: &Values, name: &str) -> Fact {
    values.get(name).cloned().unwrap_or_default()
}

/// A node with what is known of its inputs.
pub(super) struct View<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) values: &'a Values,
    /// The version of the standard operator set.
    pub(super) opset: i64,
    /// What follows for the outputs of a graph within the node.
    pub(super) inner: fn(&GraphProto, &Values, i64) -> Vec<Fact>,
}

impl<'a> View<'a> {
    pub(super) fn operator(&self) -> &'a str {
        self.node.op_type()
    }

    pub(super) fn has(&self, position: usize) -> bool {
        self.node.input.get(position).is_some_and(|name| !name.is_empty())
    }

    /// An input. One that is left out is free of rows.
    pub(super) fn input(&self, position: usize) -> Fact {
        match self.node.input.get(position) {
            Some(name) if !name.is_empty() => value_of(self.values, name),
            _ => Fact::new(Track::Free, None),
        }
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = Fact> + use<'_, 'a> {
        (0..self.node.input.len()).filter(|position| self.has(*position)).map(|i| self.input(i))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name() == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i())
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// The integers of an input that is stored in the model.
    pub(super) fn numbers(&self, position: usize) -> Option<Vec<i64>> {
        self.input(position).counts?.iter().map(Count::number).collect()
    }

    /// A list that newer versions take as an input, and older ones as an attribute.
    pub(super) fn list(&self, attribute: &str, position: usize) -> Listed {
        if let Some(list) = self.ints(attribute) {
            return Listed::Given(list.to_vec());
        }
        if !self.has(position) {
            return Listed::LeftOut;
        }
        self.numbers(position).map_or(Listed::Computed, Listed::Given)
    }

    /// The rows influence each other here.
    pub(super) fn mixed(&self, why: &'static str) -> Fact {
        let node = match self.node.name() {
            "" => self.node.output.first().map_or("", String::as_str),
            name => name,
        };
        let mixing = Mixing { operator: self.operator().to_owned(), node: node.to_owned(), why };
        Fact::new(Track::Mixed(mixing), None)
    }

    /// What holds for the result of any operator: without rows in its inputs it has none, and rows
    /// that were mixed before stay mixed.
    pub(super) fn general(&self) -> Option<Fact> {
        let mut is_free = true;
        for input in self.inputs() {
            match input.track {
                Track::Mixed(_) => return Some(Fact::new(input.track, None)),
                Track::Free => {}
                Track::Rows(_) | Track::Listed(_) | Track::Unknown => is_free = false,
            }
        }
        is_free.then(|| Fact::new(Track::Free, None))
    }

    pub(super) fn unknown(&self) -> Fact {
        self.general().unwrap_or_default()
    }
}

/// A list of integers that parametrises a node.
pub(super) enum Listed {
    Given(Vec<i64>),
    /// Known only when the model runs.
    Computed,
    LeftOut,
}

/// An axis counted from the first one.
pub(super) fn from_start(axis: i64, rank: Option<usize>) -> Option<usize> {
    match usize::try_from(axis) {
        Ok(axis) => Some(axis),
        Err(_) => usize::try_from(axis + i64::try_from(rank?).ok()?).ok(),
    }
}
