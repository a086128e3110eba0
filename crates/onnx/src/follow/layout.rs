//! Operators that move, cut, join or repeat elements, and those that compute shapes.

use super::value::{Count, Fact, Track};
use super::view::{Listed, View, from_start};

/// Why a row that is chosen by its place is mixed with the others.
const BY_PLACE: &str = "takes rows by their place in the batch";

/// A slice that ends beyond this takes all rows: no batch has so many.
const ROWS_MAX: i64 = 1 << 16;

/// The sizes of a value.
pub(super) fn shape(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Some(rank) = input.rank else { return Fact::free(Some(1)) };
    let count = |axis| if input.axis() == Some(axis) { Count::Rows } else { Count::Other };
    let all: Vec<Count> = (0..rank).map(count).collect();
    let index = |name| {
        let at = view.attribute(name).map(|at| from_start(at.i(), Some(rank)).unwrap_or(0));
        at.map(|at| at.min(rank))
    };
    let (start, end) = (index("start").unwrap_or(0), index("end").unwrap_or(rank));
    Fact::counted(1, all.get(start..end).unwrap_or_default().to_vec())
}

pub(super) fn size(view: &View<'_>) -> Count {
    if view.input(0).axis().is_some() { Count::Rows } else { Count::Other }
}

/// Values without rows: lists of sizes are computed as far as they are simple.
pub(super) fn free(view: &View<'_>) -> Fact {
    let inputs: Vec<Fact> = view.inputs().collect();
    let first = inputs.first().cloned().unwrap_or_else(|| Fact::free(None));
    let counts = |at: usize| inputs.get(at).and_then(|input| input.counts.as_ref());
    let length = |at: usize| Fact::free(counts(at).map(Vec::len));
    match view.operator() {
        "Cast" | "Identity" => first,
        "Unsqueeze" if first.rank == Some(0) => first.with_rank(Some(1)),
        "Squeeze" if first.counts.as_ref().is_some_and(|counts| counts.len() == 1) => {
            first.with_rank(Some(0))
        }
        "Concat" => {
            let lists: Option<Vec<_>> = (0..inputs.len()).map(|at| counts(at).cloned()).collect();
            lists.map_or(Fact::free(first.rank), |lists| Fact::counted(1, lists.concat()))
        }
        "Gather" => gather_counts(view, &inputs),
        "Slice" => match (counts(0), view.numbers(1), view.numbers(2)) {
            (Some(counts), Some(starts), Some(ends)) => sliced_counts(counts, &starts, &ends),
            _ => Fact::free(first.rank),
        },
        "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" => {
            let rank = inputs.iter().try_fold(0, |most, input| Some(most.max(input.rank?)));
            match (counts(0), counts(1)) {
                (Some(left), Some(right)) => computed(view.operator(), left, right, rank),
                _ => Fact::free(rank),
            }
        }
        "Reshape" | "Expand" => length(1),
        "ConstantOfShape" => length(0),
        "Range" => Fact::free(Some(1)),
        "Unsqueeze" => match view.list("axes", 1) {
            Listed::Given(axes) => Fact::free(first.rank.map(|rank| rank + axes.len())),
            Listed::Computed | Listed::LeftOut => Fact::free(None),
        },
        "Transpose" | "Softmax" | "Sigmoid" | "Tanh" | "Sqrt" | "Relu" | "QuantizeLinear"
        | "DequantizeLinear" | "Pad" | "Not" => Fact::free(first.rank),
        _ => Fact::free(None),
    }
}

fn gather_counts(view: &View<'_>, inputs: &[Fact]) -> Fact {
    let [data, indices, ..] = inputs else { return Fact::free(None) };
    let rank = data.rank.zip(indices.rank).and_then(|(data, more)| (data + more).checked_sub(1));
    let picked = || {
        let counts = data.counts.as_ref()?;
        let at = |index: &i64| counts.get(from_start(*index, Some(counts.len()))?).copied();
        view.numbers(1)?.iter().map(at).collect::<Option<Vec<Count>>>()
    };
    picked().map_or(Fact::free(rank), |counts| Fact { rank, ..Fact::counted(1, counts) })
}

fn sliced_counts(counts: &[Count], starts: &[i64], ends: &[i64]) -> Fact {
    let length = i64::try_from(counts.len()).unwrap_or(i64::MAX);
    let place = |at: Option<&i64>, default: i64| {
        let at = at.copied().unwrap_or(default);
        let at = if at < 0 { at.saturating_add(length) } else { at };
        usize::try_from(at.clamp(0, length)).unwrap_or(0)
    };
    let (start, end) = (place(starts.first(), 0), place(ends.first(), length));
    Fact::counted(1, counts.get(start..end.max(start)).unwrap_or_default().to_vec())
}

fn computed(operator: &str, left: &[Count], right: &[Count], rank: Option<usize>) -> Fact {
    let at = |list: &[Count], index: usize| {
        list.get(if list.len() == 1 { 0 } else { index }).copied().unwrap_or(Count::Other)
    };
    let both = |index| match (at(left, index), at(right, index)) {
        (Count::Number(a), Count::Number(b)) => {
            let result = match operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                "Max" => Some(a.max(b)),
                _ => Some(a.min(b)),
            };
            result.map_or(Count::Other, Count::Number)
        }
        (Count::Rows, _) | (_, Count::Rows) if operator == "Mul" => Count::Rows,
        _ => Count::Other,
    };
    let counts = (0..left.len().max(right.len())).map(both).collect();
    Fact { rank, ..Fact::counted(1, counts) }
}

pub(super) fn transpose(view: &View<'_>) -> Fact {
    let input = view.input(0);
    if let Track::Listed(_) = input.track {
        return input;
    }
    let Some(axis) = input.axis() else { return Fact::default() };
    let moved = match view.ints("perm") {
        Some(order) => order.iter().position(|from| usize::try_from(*from) == Ok(axis)),
        None => input.rank.and_then(|rank| rank.checked_sub(axis + 1)),
    };
    moved.map_or(Fact::default(), |axis| Fact::rows(axis, input.rank))
}

/// The target is a list of sizes. Rows stay together along one axis where the sizes before it are
/// kept.
pub(super) fn reshape(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Some(axis) = input.axis() else { return Fact::default() };
    let target: Option<Vec<Count>> = match view.ints("shape") {
        Some(shape) => Some(shape.iter().copied().map(Count::Number).collect()),
        None => view.input(1).counts,
    };
    let Some(target) = target else { return Fact::default() };
    let rank = Some(target.len());
    let keeps_zero = view.int("allowzero", 0) == 0;
    let is_kept = |at: usize| target.get(at) == Some(&Count::Number(0)) && keeps_zero;
    if (0..=axis).all(is_kept) {
        return Fact::rows(axis, rank);
    }
    // Ones before the rows change nothing.
    let leading = target.iter().take_while(|count| **count == Count::Number(1)).count();
    let is_whole = |at: usize| matches!(target.get(at), Some(Count::Number(-1) | Count::Rows));
    if axis == 0 && is_whole(leading) {
        return Fact::rows(leading, rank);
    }
    if (0..axis).all(is_kept) && is_whole(axis) {
        return Fact::rows(axis, rank);
    }
    Fact::new(Track::Unknown, rank)
}

/// Two dimensions: those before the axis, and the others.
pub(super) fn flatten(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let axis = from_start(view.int("axis", 1), input.rank);
    match (input.axis(), axis) {
        (Some(0), Some(axis)) => Fact::rows(usize::from(axis == 0), Some(2)),
        _ => Fact::new(Track::Unknown, Some(2)),
    }
}

pub(super) fn squeeze(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Listed::Given(axes) = view.list("axes", 1) else { return Fact::default() };
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_start(*axis, input.rank)).collect();
    let (Some(rows), Some(axes)) = (input.axis(), axes) else { return Fact::default() };
    if axes.contains(&rows) {
        return Fact::default();
    }
    let before = axes.iter().filter(|axis| **axis < rows).count();
    Fact::rows(rows - before, input.rank.and_then(|rank| rank.checked_sub(axes.len())))
}

pub(super) fn unsqueeze(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Listed::Given(axes) = view.list("axes", 1) else { return Fact::default() };
    let rank = input.rank.map(|rank| rank + axes.len());
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_start(*axis, rank)).collect();
    let (Some(rows), Some(mut axes)) = (input.axis(), axes) else { return Fact::default() };
    axes.sort_unstable();
    let moved = axes.iter().fold(rows, |rows, axis| if *axis <= rows { rows + 1 } else { rows });
    Fact::rows(moved, rank)
}

pub(super) fn concat(view: &View<'_>) -> Fact {
    let inputs: Vec<Fact> = view.inputs().collect();
    let rank = inputs.iter().find_map(|input| input.rank);
    if let Some(listed) = inputs.iter().find(|input| matches!(input.track, Track::Listed(_))) {
        return listed.clone();
    }
    let mut axes = inputs.iter().filter(|input| !input.is_free()).map(Fact::axis);
    let Some(Some(axis)) = axes.next() else { return Fact::default() };
    if axes.all(|other| other == Some(axis)) { Fact::rows(axis, rank) } else { Fact::default() }
}

/// A slice along the batch takes rows by their place, unless it takes all of them.
pub(super) fn slice(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Some(rows) = input.axis() else {
        return if let Track::Listed(_) = input.track { input } else { Fact::default() };
    };
    let axes = match view.list("axes", 3) {
        Listed::Given(axes) => axes,
        Listed::LeftOut => (0..i64::try_from(input.rank.unwrap_or(0)).unwrap_or(0)).collect(),
        Listed::Computed => return Fact::default(),
    };
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_start(*axis, input.rank)).collect();
    let Some(axes) = axes else { return Fact::default() };
    let Some(at) = axes.iter().position(|axis| *axis == rows) else { return input };
    let entry = |listed| match listed {
        Listed::Given(list) => list.get(at).copied().map(Some),
        Listed::LeftOut => Some(Some(1)),
        Listed::Computed => Some(None),
    };
    let starts = entry(view.list("starts", 1));
    let (Some(start), Some(end), Some(step)) =
        (starts, entry(view.list("ends", 2)), entry(view.list("steps", 4)))
    else {
        // Without an entry the axis is not cut.
        return input;
    };
    match (start, end, step) {
        (Some(0), Some(end), Some(1)) if end > ROWS_MAX => input,
        (Some(_), Some(_), Some(_)) => view.mixed(BY_PLACE),
        _ => Fact::default(),
    }
}

pub(super) fn gather(view: &View<'_>) -> Fact {
    let (data, indices) = (view.input(0), view.input(1));
    let Some(axis) = from_start(view.int("axis", 0), data.rank) else { return Fact::default() };
    let rank = data.rank.zip(indices.rank).and_then(|(data, of)| (data + of).checked_sub(1));
    match (&data.track, &indices.track) {
        (Track::Free, Track::Rows(rows)) => Fact::rows(axis + rows, rank),
        (Track::Rows(rows), Track::Free) if *rows < axis => Fact::rows(*rows, rank),
        (Track::Rows(rows), Track::Free) if *rows > axis => match indices.rank {
            Some(more) => Fact::rows(rows + more - 1, rank),
            None => Fact::default(),
        },
        (Track::Rows(_), Track::Free) if view.numbers(1).is_some() => view.mixed(BY_PLACE),
        (Track::Rows(rows), Track::Listed(mixing)) if *rows == axis => {
            Fact::new(Track::Listed(mixing.clone()), rank)
        }
        _ => Fact::default(),
    }
}

pub(super) fn gather_elements(view: &View<'_>) -> Fact {
    let (data, indices) = (view.input(0), view.input(1));
    let axis = from_start(view.int("axis", 0), data.rank);
    match (data.axis(), indices.axis()) {
        (Some(rows), Some(other)) if rows == other && axis.is_some() && axis != Some(rows) => {
            Fact::rows(rows, data.rank)
        }
        _ => Fact::default(),
    }
}

/// Repeats along new axes in front, and along those of size 1.
pub(super) fn expand(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let rank = view.input(1).counts.map(|counts| counts.len());
    match (input.axis(), input.rank, rank) {
        (Some(rows), Some(own), Some(rank)) => {
            let rank = rank.max(own);
            Fact::rows(rows + rank - own, Some(rank))
        }
        _ => Fact::default(),
    }
}

/// Operators that change sizes: rows stay where the batch dimension keeps its size.
pub(super) fn resized(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let (Some(rows), Some(rank)) = (input.axis(), input.rank) else { return Fact::default() };
    let is_kept = match view.operator() {
        "Tile" => view.numbers(1).is_some_and(|repeats| repeats.get(rows) == Some(&1)),
        "Pad" if view.has(3) => false,
        "Pad" => match view.list("pads", 1) {
            Listed::Given(pads) => pads.get(rows) == Some(&0) && pads.get(rows + rank) == Some(&0),
            Listed::Computed | Listed::LeftOut => false,
        },
        // Images have their batch first, and no one scales the channels.
        _ => rows < 2,
    };
    if is_kept { input } else { Fact::new(Track::Unknown, Some(rank)) }
}

pub(super) fn one_hot(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let (Some(rows), Some(rank)) = (input.axis(), input.rank) else { return Fact::default() };
    let Some(axis) = from_start(view.int("axis", -1), Some(rank + 1)) else {
        return Fact::default();
    };
    Fact::rows(if axis <= rows { rows + 1 } else { rows }, Some(rank + 1))
}
