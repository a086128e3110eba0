//! Nodes that hold graphs.

use std::collections::HashMap;

use super::value::{Fact, Track};
use super::view::{View, from_start};
use crate::proto::{GraphProto, NodeProto};

/// `If`: what holds for the results of both branches.
pub(super) fn branches(view: &View<'_>) -> Vec<Fact> {
    let condition = view.input(0);
    match condition.track {
        Track::Free => {}
        Track::Mixed(_) => return vec![Fact::new(condition.track, None)],
        Track::Rows(_) | Track::Listed(_) | Track::Unknown => return vec![Fact::default()],
    }
    let graph = |name| view.attribute(name).and_then(|attribute| attribute.g.as_ref());
    let (Some(one), Some(other)) = (graph("then_branch"), graph("else_branch")) else {
        return vec![Fact::default()];
    };
    let [one, other] = [one, other].map(|graph| (view.inner)(graph, view.values, view.opset));
    let both = one.into_iter().zip(other).map(|(one, other)| either(one, other));
    both.collect()
}

/// What holds for a value that is one of two.
fn either(one: Fact, other: Fact) -> Fact {
    let quantized = one.quantized.clone().or(other.quantized.clone());
    let rank = one.rank.filter(|_| one.rank == other.rank);
    let track = match (one.track, other.track) {
        (one, other) if one == other => one,
        (mixed @ Track::Mixed(_), _) | (_, mixed @ Track::Mixed(_)) => mixed,
        (Track::Free, rows @ Track::Rows(_)) | (rows @ Track::Rows(_), Track::Free) => rows,
        _ => Track::Unknown,
    };
    Fact { quantized, ..Fact::new(track, rank) }
}

/// `Loop` and `Scan`: a scan along the batch that carries something from row to row mixes them.
pub(super) fn steps(view: &View<'_>) -> Fact {
    let mut named = Vec::new();
    for attribute in &view.node.attribute {
        if let Some(graph) = &attribute.g {
            read_in(graph, &mut named);
        }
    }
    let captured = named.iter().filter_map(|name| view.values.get(*name).cloned());
    let mut is_free = true;
    for value in view.inputs().chain(captured) {
        match value.track {
            Track::Mixed(_) => return Fact::new(value.track, None),
            Track::Free => {}
            Track::Rows(_) | Track::Listed(_) | Track::Unknown => is_free = false,
        }
    }
    if is_free {
        return Fact::free(None);
    }
    let body = view.attribute("body").and_then(|body| body.g.as_ref());
    match body {
        Some(body) if view.operator() == "Scan" && scans_rows(view, body) => {
            view.mixed("carries values from one row of a batch to the next")
        }
        _ => Fact::default(),
    }
}

/// Whether a scan runs along the batch and changes what it carries.
fn scans_rows(view: &View<'_>, body: &GraphProto) -> bool {
    let scanned = usize::try_from(view.int("num_scan_inputs", 0)).unwrap_or(0);
    let Some(carried) = view.node.input.len().checked_sub(scanned) else { return false };
    let axes = view.ints("scan_input_axes").unwrap_or_default();
    let along = (0..scanned).any(|at| {
        let input = view.input(carried + at);
        let axis = from_start(axes.get(at).copied().unwrap_or(0), input.rank);
        input.axis().is_some() && input.axis() == axis
    });
    let identities: HashMap<&str, &str> = body
        .node
        .iter()
        .filter(|node| node.op_type() == "Identity")
        .filter_map(|node| Some((node.output.first()?.as_str(), node.input.first()?.as_str())))
        .collect();
    let changes = |at: usize| {
        let (Some(input), Some(output)) = (body.input.get(at), body.output.get(at)) else {
            return true;
        };
        let source = identities.get(output.name()).copied().unwrap_or(output.name());
        source != input.name()
    };
    along && (0..carried).any(changes)
}

/// The names that the nodes of a graph read.
fn read_in<'a>(graph: &'a GraphProto, named: &mut Vec<&'a str>) {
    fn of_nodes<'a>(nodes: &'a [NodeProto], named: &mut Vec<&'a str>) {
        for node in nodes {
            named.extend(node.input.iter().map(String::as_str));
            for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                read_in(graph, named);
            }
        }
    }
    of_nodes(&graph.node, named);
    named.extend(graph.output.iter().map(|output| output.name()));
}
