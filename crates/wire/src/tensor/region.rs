//! Boxes within row-major tensors, as runs of elements that lie together: how the rows of a request
//! are found among those of others, wherever the batch dimension stands.

use super::{DataType, OutputTensor};
use bytes::Bytes;
use std::ops::Range;

/// The elements of a box, in the order of the box's own row-major layout, as runs that are
/// contiguous in the tensor. All runs have the same length. Yields where each begins: in the
/// tensor, and in the box. Both are counted in elements.
#[derive(Clone, Debug)]
pub struct Runs {
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
    #[must_use]
    pub fn one(start: usize, length: usize) -> Runs {
        Runs { length, count: usize::from(length > 0), done: 0, next: start, axes: Vec::new() }
    }

    /// The box of shape `part` that begins at `at` within a tensor of shape `whole`. It must lie
    /// within the tensor.
    #[must_use]
    pub fn of_box(whole: &[usize], part: &[usize], at: &[usize]) -> Runs {
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
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Elements of the box.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.length * self.count
    }

    /// Where the box begins, if it lies together as a whole.
    #[must_use]
    pub fn single(&self) -> Option<usize> {
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

/// Where the elements of a tensor lie in its contents.
#[derive(Clone, Debug)]
pub struct ElementBytes(Begins);

#[derive(Clone, Debug)]
enum Begins {
    /// All elements take the same number of bytes.
    Even(usize),
    /// Where each string begins, and where the last ends.
    Each(Vec<usize>),
}

impl ElementBytes {
    /// Finds so many elements. Returns `None` when the contents hold fewer.
    #[must_use]
    pub fn new(data: &[u8], datatype: DataType, elements: usize) -> Option<ElementBytes> {
        if let Some(size) = datatype.size() {
            let fits = elements.checked_mul(size)? <= data.len();
            return fits.then_some(ElementBytes(Begins::Even(size)));
        }
        let mut begins = vec![0];
        let mut at = 0;
        for _ in 0..elements {
            let (length, rest) = data.get(at..)?.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length) as usize;
            rest.get(..length)?;
            at += 4 + length;
            begins.push(at);
        }
        Some(ElementBytes(Begins::Each(begins)))
    }

    /// The bytes of so many elements that lie together. They must be among those that were found.
    #[must_use]
    pub fn range(&self, start: usize, count: usize) -> Range<usize> {
        match &self.0 {
            Begins::Even(size) => start * size..(start + count) * size,
            Begins::Each(begins) => begins[start]..begins[start + count],
        }
    }

    /// The contents of a box: a part of `data` where it lies together, and a copy otherwise.
    #[must_use]
    pub fn cut(&self, data: &Bytes, runs: Runs) -> Bytes {
        let length = runs.length();
        if let Some(start) = runs.single() {
            return data.slice(self.range(start, length));
        }
        let mut gathered = Vec::new();
        for (start, _) in runs {
            gathered.extend_from_slice(&data[self.range(start, length)]);
        }
        gathered.into()
    }
}

/// Elements of a shape, unless they are too many to count.
#[must_use]
pub fn elements_in(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |elements, size| elements.checked_mul(*size))
}

/// Joins tensors along one dimension, in their order. Returns `None` when their shapes differ in
/// another dimension, or one has less contents than its shape says.
#[must_use]
pub fn join(datatype: DataType, axis: usize, parts: &[OutputTensor]) -> Option<OutputTensor> {
    let first = parts.first()?;
    let mut shape = first.shape.clone();
    *shape.get_mut(axis)? = 0;
    let mut found = Vec::with_capacity(parts.len());
    for part in parts {
        let same = part.shape.len() == shape.len()
            && (0..shape.len()).all(|at| at == axis || part.shape[at] == shape[at]);
        if !same {
            return None;
        }
        shape[axis] = shape[axis].checked_add(part.shape[axis])?;
        found.push(ElementBytes::new(&part.data, datatype, elements_in(&part.shape)?)?);
    }
    let outer: usize = shape[..axis].iter().product();
    let mut data = Vec::with_capacity(parts.iter().map(|part| part.data.len()).sum());
    for at in 0..outer {
        for (part, bytes) in parts.iter().zip(&found) {
            let length: usize = part.shape[axis..].iter().product();
            data.extend_from_slice(&part.data[bytes.range(at * length, length)]);
        }
    }
    Some(OutputTensor { shape, data: data.into() })
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

    #[test]
    fn what_is_cut_along_any_dimension_is_joined_again() {
        let number = |number: u8| vec![number + 1; usize::from(number % 3)];
        for datatype in [DataType::Uint8, DataType::Bytes] {
            for axis in 0..3 {
                let shape = vec![2, 3, 2];
                let data: Vec<u8> = match datatype {
                    DataType::Bytes => {
                        let strings: Vec<_> = (0..12).map(number).collect();
                        super::super::bytes_contents(strings.iter().map(Vec::as_slice))
                    }
                    _ => (0..12).collect(),
                };
                let whole = OutputTensor { shape, data: data.into() };
                let bytes = ElementBytes::new(&whole.data, datatype, 12).unwrap();
                let cut = |(start, size): (usize, usize)| {
                    let (mut shape, mut at) = (whole.shape.clone(), vec![0; 3]);
                    (shape[axis], at[axis]) = (size, start);
                    let data = bytes.cut(&whole.data, Runs::of_box(&whole.shape, &shape, &at));
                    OutputTensor { shape, data }
                };
                let parts = [(0, 1), (1, 0), (1, whole.shape[axis] - 1)].map(cut);
                assert_eq!(join(datatype, axis, &parts), Some(whole.clone()));
                assert_eq!(parts[0].data.as_ptr() == whole.data.as_ptr(), axis == 0);
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_not_joined() {
        let tensor = |shape: &[usize], data: &[u8]| OutputTensor {
            shape: shape.to_vec(),
            data: Bytes::copy_from_slice(data),
        };
        let one = || tensor(&[1, 2], &[1, 2]);
        assert_eq!(join(DataType::Uint8, 0, &[]), None);
        assert_eq!(join(DataType::Uint8, 0, &[tensor(&[], &[1])]), None);
        assert_eq!(join(DataType::Uint8, 0, &[one(), tensor(&[1, 3], &[1, 2, 3])]), None);
        assert_eq!(join(DataType::Uint8, 0, &[one(), tensor(&[1, 2], &[1])]), None);
        assert_eq!(join(DataType::Uint8, 0, &[one(), tensor(&[2], &[1, 2])]), None);
    }
}
