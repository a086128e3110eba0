//! Operators that go along an axis: over the batch dimension they mix rows.

use super::value::{Fact, Track};
use super::view::{Listed, View, from_start};

/// Why rows that are normalised together are mixed.
const NORMALIZED: &str = "normalises over the batch dimension";

pub(super) fn reduce(view: &View<'_>) -> Fact {
    const WHY: &str = "reduces over the batch dimension";
    let input = view.input(0);
    let Some(rows) = input.axis() else {
        let over_list = matches!(input.track, Track::Listed(_));
        return if over_list { view.mixed(WHY) } else { Fact::default() };
    };
    let axes = if view.operator().starts_with("Arg") {
        vec![view.int("axis", 0)]
    } else {
        match view.list("axes", 1) {
            Listed::Given(axes) if !axes.is_empty() => axes,
            Listed::Computed => return Fact::default(),
            _ if view.int("noop_with_empty_axes", 0) != 0 => return input,
            _ => return view.mixed(WHY),
        }
    };
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_start(*axis, input.rank)).collect();
    let Some(axes) = axes else { return Fact::default() };
    if axes.contains(&rows) {
        return view.mixed(WHY);
    }
    if view.int("keepdims", 1) != 0 {
        return input;
    }
    let before = axes.iter().filter(|axis| **axis < rows).count();
    Fact::rows(rows - before, input.rank.and_then(|rank| rank.checked_sub(axes.len())))
}

/// Before operator set 13 these go over the axis and all behind it, since then over one.
pub(super) fn softmax(view: &View<'_>) -> Fact {
    let flattens = view.opset < 13;
    let input = view.input(0);
    let axis = from_start(view.int("axis", if flattens { 1 } else { -1 }), input.rank);
    let (Some(rows), Some(axis)) = (input.axis(), axis) else { return Fact::default() };
    if rows == axis || (flattens && rows > axis) { view.mixed(NORMALIZED) } else { input }
}

/// Over an axis and all behind it.
pub(super) fn normalized_from(view: &View<'_>, default: i64) -> Fact {
    let input = view.input(0);
    let axis = from_start(view.int("axis", default), input.rank);
    let (Some(rows), Some(axis)) = (input.axis(), axis) else { return Fact::default() };
    if rows >= axis { view.mixed(NORMALIZED) } else { input }
}

/// Over the channels, over what is behind them, or over given axes.
pub(super) fn normalized(view: &View<'_>) -> Fact {
    let input = view.input(0);
    let Some(rows) = input.axis() else { return Fact::default() };
    let is_over = |axes: &[i64]| axes.iter().any(|a| from_start(*a, input.rank) == Some(rows));
    let mixes = match view.operator() {
        "LRN" => rows == 1,
        "GroupNormalization" => rows > 0,
        "LpNormalization" => is_over(&[view.int("axis", -1)]),
        "MeanVarianceNormalization" => is_over(view.ints("axes").unwrap_or(&[0, 2, 3])),
        _ => rows > 1,
    };
    if mixes { view.mixed(NORMALIZED) } else { input }
}

/// Results that depend on the order or on all values along an axis.
pub(super) fn ordered(view: &View<'_>) -> Fact {
    const WHY: &str = "goes along the batch dimension";
    let input = view.input(0);
    let Some(rows) = input.axis() else { return Fact::default() };
    let axis = match view.operator() {
        "CumSum" => view.numbers(1).and_then(|axes| axes.first().copied()),
        "TopK" => Some(view.int("axis", -1)),
        _ => match view.attribute("axis") {
            Some(axis) => Some(axis.i()),
            None => return view.mixed(WHY),
        },
    };
    match axis.and_then(|axis| from_start(axis, input.rank)) {
        None => Fact::default(),
        Some(axis) if axis == rows => view.mixed(WHY),
        Some(_) if view.operator() == "Unique" => Fact::default(),
        Some(_) => input,
    }
}

/// Images: batch, channels, then the axes along which windows move.
pub(super) fn windows(view: &View<'_>) -> Fact {
    let input = view.input(0);
    match input.axis() {
        Some(0) => input,
        Some(1) if view.operator().ends_with("Pool") => input,
        Some(1) if view.operator() == "Conv" && view.int("group", 1) == 1 => {
            view.mixed("sums over the batch dimension, which is where channels belong")
        }
        Some(axis) if axis > 1 => {
            let kernel = view.ints("kernel_shape").and_then(|kernel| kernel.get(axis - 2));
            if kernel.is_some_and(|size| *size > 1) {
                view.mixed("moves its window along the batch dimension")
            } else {
                Fact::default()
            }
        }
        _ => Fact::default(),
    }
}

/// Recurrent operators: the steps, the batch, the features; with `layout = 1` the batch first.
pub(super) fn recurrent(view: &View<'_>) -> Vec<Fact> {
    const WHY: &str = "takes the rows of a batch for the steps of one sequence";
    let batch_first = view.int("layout", 0) == 1;
    let (steps, rows) = if batch_first { (1, 0) } else { (0, 1) };
    match view.input(0).track {
        Track::Rows(axis) if axis == steps => return vec![view.mixed(WHY)],
        Track::Rows(axis) if axis != rows => return vec![view.mixed("sums over the batch")],
        Track::Rows(_) | Track::Free => {}
        Track::Listed(_) | Track::Mixed(_) | Track::Unknown => return vec![Fact::default()],
    }
    // Sequence lengths, and the states of each direction.
    let states = [(4, 0), (5, rows), (6, rows)];
    let agrees = |&(position, at): &(usize, usize)| {
        let state = view.input(position);
        state.is_free() || state.axis() == Some(at)
    };
    let weights_are_free = (1..4).all(|position| view.input(position).is_free());
    if !weights_are_free || !states.iter().all(agrees) {
        return vec![Fact::default()];
    }
    let (all, last) = if batch_first { (0, 0) } else { (2, 1) };
    vec![Fact::rows(all, Some(4)), Fact::rows(last, Some(3)), Fact::rows(last, Some(3))]
}
