//! Finds circles in a graph of dependencies.

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// The groups of two or more nodes in which each node leads to every other, in order. Node numbers
/// are dense.
pub(crate) fn circles(arrows: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::default();
    for (from, to) in arrows {
        while graph.node_count() <= from.max(to) {
            graph.add_node(());
        }
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), ());
    }
    let groups = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1);
    let mut circles: Vec<Vec<usize>> =
        groups.map(|group| group.into_iter().map(NodeIndex::index).collect()).collect();
    for circle in &mut circles {
        circle.sort_unstable();
    }
    circles.sort();
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leads_back_is_a_circle() {
        let check = |arrows: &[(usize, usize)], expected: &[&[usize]]| {
            assert_eq!(circles(arrows.iter().copied()), expected, "{arrows:?}");
        };
        check(&[], &[]);
        check(&[(0, 1), (1, 2), (0, 2)], &[]);
        check(&[(0, 0)], &[]);
        check(&[(0, 1), (1, 0), (1, 2)], &[&[0, 1]]);
        check(&[(3, 1), (1, 2), (2, 3), (0, 3), (4, 5), (5, 4)], &[&[1, 2, 3], &[4, 5]]);
    }
}
