//! Operators that combine several inputs element by element, or sum over products.

use super::value::{Fact, Track};
use super::view::View;

/// Why rows that meet rows of another operand are mixed.
const CROSSED: &str = "combines each row of a batch with every other";
const SUMMED: &str = "sums over the batch dimension";

/// The results of broadcasting: the axes of all operands are counted from the last one.
pub(super) fn broadcast(view: &View<'_>) -> Fact {
    let inputs: Vec<Fact> = view.inputs().collect();
    join(view, &inputs)
}

/// Where rows lie in a result of which each element comes from those of the inputs at its place.
fn join(view: &View<'_>, inputs: &[Fact]) -> Fact {
    let rank = inputs.iter().try_fold(0, |most, input| Some(most.max(input.rank?)));
    let mut found: Option<usize> = None;
    for input in inputs {
        match &input.track {
            Track::Free => {}
            Track::Rows(axis) => {
                // With one operand that has rows, and no longer one beside it, its axes stay.
                let Some((rank, own)) = rank.zip(input.rank) else {
                    return Fact::default();
                };
                let axis = axis + rank - own;
                if found.is_some_and(|other| other != axis) {
                    return view.mixed(CROSSED);
                }
                found = Some(axis);
            }
            Track::Listed(mixing) => {
                return Fact::new(Track::Listed(mixing.clone()), rank);
            }
            Track::Mixed(_) | Track::Unknown => return Fact::default(),
        }
    }
    found.map_or(Fact::free(rank), |axis| Fact::rows(axis, rank))
}

/// `A [.., m, k] x B [.., k, n]`.
pub(super) fn matmul(view: &View<'_>) -> Fact {
    let second = if view.operator() == "QLinearMatMul" { 3 } else { 1 };
    let (left, right) = (view.input(0), view.input(second));
    let (Some(left_rank), Some(right_rank)) = (left.rank, right.rank) else {
        return Fact::default();
    };
    if left_rank < 2 || right_rank < 2 {
        let summed = left.axis() == left_rank.checked_sub(1) && left_rank > 0
            || right.axis() == Some(right_rank.saturating_sub(2));
        return if summed && left.axis().or(right.axis()).is_some() {
            view.mixed(SUMMED)
        } else {
            Fact::default()
        };
    }
    let rank = left_rank.max(right_rank);
    if left.axis() == Some(left_rank - 1) || right.axis() == Some(right_rank - 2) {
        return view.mixed(SUMMED);
    }
    let left_axis = left.axis().map(|axis| axis + rank - left_rank);
    let right_axis = right.axis().map(|axis| axis + rank - right_rank);
    let axis = match (left_axis, right_axis) {
        (Some(left), Some(right)) if left != right => return view.mixed(CROSSED),
        (Some(axis), _) if right.is_free() || right_axis.is_some() => axis,
        (None, Some(axis)) if left.is_free() => axis,
        _ => return Fact::default(),
    };
    Fact::rows(axis, Some(rank))
}

/// `A [m, k] x B [k, n] + C`, where A and B may be transposed.
pub(super) fn gemm(view: &View<'_>) -> Fact {
    let turned = |name| usize::from(view.int(name, 0) != 0);
    let (left, right, added) = (view.input(0), view.input(1), view.input(2));
    let (kept_left, kept_right) = (turned("transA"), 1 - turned("transB"));
    if left.axis().is_some_and(|axis| axis != kept_left)
        || right.axis().is_some_and(|axis| axis != kept_right)
    {
        return view.mixed(SUMMED);
    }
    let product = match (left.axis(), right.axis()) {
        (Some(_), Some(_)) => return view.mixed(CROSSED),
        (Some(_), None) if right.is_free() => Fact::rows(0, Some(2)),
        (None, Some(_)) if left.is_free() => Fact::rows(1, Some(2)),
        (None, None) if left.is_free() && right.is_free() => Fact::free(Some(2)),
        _ => return Fact::default(),
    };
    if !view.has(2) {
        return product;
    }
    join(view, &[product, added])
}

/// Sums over the labels that the result does not have.
pub(super) fn einsum(view: &View<'_>) -> Fact {
    let equation = view.attribute("equation").map(|equation| equation.s()).unwrap_or_default();
    let equation: String =
        String::from_utf8_lossy(equation).chars().filter(|c| !c.is_whitespace()).collect();
    let Some((operands, result)) = equation.split_once("->") else { return Fact::default() };
    if equation.contains('.') {
        return Fact::default();
    }
    let mut label = None;
    for (position, operand) in operands.split(',').enumerate() {
        let input = view.input(position);
        let Some(axis) = input.axis() else {
            if input.is_free() {
                continue;
            }
            return Fact::default();
        };
        let Some(of_rows) = operand.chars().nth(axis) else { return Fact::default() };
        if label.is_some_and(|other| other != of_rows) {
            return view.mixed(CROSSED);
        }
        label = Some(of_rows);
    }
    let Some(label) = label else { return Fact::default() };
    match result.chars().position(|c| c == label) {
        Some(axis) => Fact::rows(axis, Some(result.chars().count())),
        None => view.mixed(SUMMED),
    }
}
