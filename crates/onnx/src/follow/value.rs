//! What is known of one value.

use crate::proto::TensorProto;
use crate::tensor;

/// How the rows of a batch influence each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixing {
    /// The operator of the node that mixes them.
    pub operator: String,
    /// The node's name, or its first output when it has no name.
    pub node: String,
    /// How it mixes them.
    pub why: &'static str,
}

impl std::fmt::Display for Mixing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (node {:?}) {}", self.operator, self.node, self.why)
    }
}

/// Where the rows lie in an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsOfOutput {
    /// Along this axis, and nowhere else.
    Along(usize),
    /// It does not depend on the contents of any row.
    Free,
    /// Nothing is known.
    Unknown,
    /// What it holds for one row depends on the others.
    Mixed(Mixing),
}

/// Where rows lie in a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Track {
    /// Nowhere: it does not depend on the contents of rows.
    Free,
    /// Elements of different rows differ in their position along this axis, and only in it.
    Rows(usize),
    /// It lists what was found in all rows, so many entries as there were.
    Listed(Mixing),
    /// Each of its elements may depend on all rows.
    Mixed(Mixing),
    #[default]
    Unknown,
}

impl Track {
    pub(super) fn of_output(self) -> RowsOfOutput {
        match self {
            Track::Free => RowsOfOutput::Free,
            Track::Rows(axis) => RowsOfOutput::Along(axis),
            Track::Listed(mixing) | Track::Mixed(mixing) => RowsOfOutput::Mixed(mixing),
            Track::Unknown => RowsOfOutput::Unknown,
        }
    }
}

/// One element of a list of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Number(i64),
    /// The number of rows, or a multiple of it.
    Rows,
    Other,
}

impl Count {
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Count::Number(number) => Some(*number),
            Count::Rows | Count::Other => None,
        }
    }
}

/// Longer lists are data.
const COUNTS_MAX: usize = 64;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) track: Track,
    pub(super) rank: Option<usize>,
    /// Its elements, for a short list of integers, or for one.
    pub(super) counts: Option<Vec<Count>>,
    /// The node that quantised it by the batch.
    pub(super) quantized: Option<String>,
}

impl Fact {
    pub(super) fn new(track: Track, rank: Option<usize>) -> Fact {
        Fact { track, rank, ..Fact::default() }
    }

    pub(super) fn rows(axis: usize, rank: Option<usize>) -> Fact {
        Fact::new(Track::Rows(axis), rank)
    }

    pub(super) fn free(rank: Option<usize>) -> Fact {
        Fact::new(Track::Free, rank)
    }

    pub(super) fn counted(rank: usize, counts: Vec<Count>) -> Fact {
        let counts = Some(counts).filter(|counts| counts.len() <= COUNTS_MAX);
        Fact { track: Track::Free, rank: Some(rank), counts, quantized: None }
    }

    pub(super) fn stored(tensor: &TensorProto) -> Fact {
        let rank = tensor.dims.len();
        let is_list = rank <= 1 && tensor.dims.iter().all(|size| *size <= COUNTS_MAX as i64);
        match tensor::ints(tensor).filter(|_| is_list) {
            Some(list) => Fact::counted(rank, list.into_iter().map(Count::Number).collect()),
            None => Fact::free(Some(rank)),
        }
    }

    pub(super) fn axis(&self) -> Option<usize> {
        match self.track {
            Track::Rows(axis) => Some(axis),
            _ => None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.track == Track::Free
    }

    pub(super) fn with_rank(self, rank: Option<usize>) -> Fact {
        Fact { rank, ..self }
    }
}
