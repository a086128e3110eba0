//! Boxes within row-major tensors, as runs of elements that lie together: how a request's elements
//! are found among those of its batch, wherever the batch dimension stands.

/// The elements of a box, in the order of the box's own row-major layout, as runs that are
/// contiguous in the tensor. All runs have the same length. Yields where each begins: in the
/// tensor, and in the box. Both are counted in elements.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    length: usize,
    count: usize,
    done: usize,
    next: usize,
    /// The dimensions over which the runs are spread; none for a single run.
    axes: Vec<Axis>,
}

#[derive(Clone, Debug)]
struct Axis {
    size: usize,
    stride: usize,
    index: usize,
}

impl Runs {
    /// A box that is one run.
    pub(super) fn one(start: usize, length: usize) -> Runs {
        Runs { length, count: usize::from(length > 0), done: 0, next: start, axes: Vec::new() }
    }

    /// The box of shape `part` that begins at `at` within a tensor of shape `whole`. It must lie
    /// within the tensor.
    pub(super) fn of_box(whole: &[usize], part: &[usize], at: &[usize]) -> Runs {
        debug_assert!(whole.len() == part.len() && part.len() == at.len(), "one rank for all");
        debug_assert!((0..whole.len()).all(|axis| at[axis] + part[axis] <= whole[axis]), "inside");
        // Dimensions that the box spans whole lie together with the one before them.
        let split = (0..whole.len()).rev().find(|&axis| part[axis] != whole[axis]).unwrap_or(0);
        let length = part[split..].iter().product();
        let mut axes = Vec::with_capacity(split);
        let (mut stride, mut start) = (1, 0);
        for axis in (0..whole.len()).rev() {
            start += at[axis] * stride;
            if axis < split {
                axes.push(Axis { size: part[axis], stride, index: 0 });
            }
            stride *= whole[axis];
        }
        let count = part[..split].iter().product::<usize>() * usize::from(length > 0);
        Runs { length, count, done: 0, next: start, axes }
    }

    /// Elements of each run.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Elements of the box.
    pub(super) fn elements(&self) -> usize {
        self.length * self.count
    }

    /// Where the box begins, if it lies together as a whole.
    pub(super) fn single(&self) -> Option<usize> {
        (self.count == 1).then_some(self.next)
    }
}

impl Iterator for Runs {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        if self.done == self.count {
            return None;
        }
        let found = (self.next, self.done * self.length);
        self.done += 1;
        // The innermost dimension comes first.
        for axis in &mut self.axes {
            axis.index += 1;
            self.next += axis.stride;
            if axis.index < axis.size {
                break;
            }
            self.next -= axis.size * axis.stride;
            axis.index = 0;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(whole: &[usize], part: &[usize], at: &[usize], length: usize, starts: &[usize]) {
        let runs = Runs::of_box(whole, part, at);
        assert_eq!((runs.length(), runs.elements()), (length, length * starts.len()));
        let found: Vec<_> = runs.collect();
        let expected: Vec<_> = starts.iter().copied().zip((0..).step_by(length.max(1))).collect();
        assert_eq!(found, expected, "{part:?} at {at:?} of {whole:?}");
    }

    #[test]
    fn a_box_is_found_in_runs_that_are_as_long_as_they_can_be() {
        check(&[5, 3], &[2, 3], &[1, 0], 6, &[3]);
        check(&[2, 5, 3], &[2, 2, 3], &[0, 1, 0], 6, &[3, 18]);
        check(&[2, 3, 4], &[2, 1, 2], &[0, 2, 1], 2, &[9, 21]);
        check(&[4, 6], &[2, 6], &[0, 0], 12, &[0]);
        check(&[2, 2], &[2, 1], &[0, 1], 1, &[1, 3]);
        check(&[], &[], &[], 1, &[0]);
        check(&[3, 0, 2], &[1, 0, 2], &[1, 0, 0], 0, &[]);
        check(&[3, 4], &[0, 4], &[3, 0], 0, &[]);
        check(&[2, 3, 4], &[0, 3, 2], &[2, 0, 0], 2, &[]);
    }
}
