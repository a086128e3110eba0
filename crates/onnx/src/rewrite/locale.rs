//! Sets the locale by which texts are changed.

use crate::builder::attribute;
use crate::error::Error;
use crate::model::OnnxModel;

impl OnnxModel {
    /// Whether the model changes texts by a locale of the machine.
    pub fn uses_locale(&self) -> bool {
        self.nodes().iter().any(|node| node.operator() == "StringNormalizer")
    }

    /// Sets the locale of the nodes of the graph that change texts by one.
    ///
    /// # Errors
    /// As [`OnnxModel::edit`].
    pub fn set_locale(&mut self, locale: &str) -> Result<(), Error> {
        self.edit(|proto| {
            let nodes = proto.graph.iter_mut().flat_map(|graph| &mut graph.node);
            for node in nodes.filter(|node| node.op_type() == "StringNormalizer") {
                node.attribute.retain(|attribute| attribute.name() != "locale");
                node.attribute.push(attribute::text("locale", locale));
            }
        })
    }
}
