//! Why a batch cannot be assembled.

use super::buffer::Misfit;

/// The inputs of a batch do not fit in memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "input {input:?} needs {bytes} bytes for {rows} rows, more memory than is available: lower \
     max_batch, or max_size where dimensions are open, in model.toml"
)]
pub struct MemoryError {
    /// The input.
    pub input: String,
    /// Rows of the batch.
    pub rows: u32,
    /// The bytes that these rows need; a lower bound when the number is too large.
    pub bytes: u128,
}

/// Why requests do not make a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// Some of them cannot be part of any. The others can, without them.
    #[error("{}", .0.first().map_or_else(String::new, |refused| refused.error.to_string()))]
    Requests(Vec<RefusedRequest>),
    /// Together they do not fit in memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A request that cannot be part of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRequest {
    /// Its position among the requests.
    pub position: usize,
    /// Why.
    pub error: InputError,
}

/// Why a request cannot be part of a batch. Other requests are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The number of tensors differs from the number of inputs.
    #[error("the request has {got} tensors, the model takes {expected} inputs")]
    Tensors {
        /// Inputs of the model.
        expected: usize,
        /// Tensors of the request.
        got: usize,
    },
    /// The request has no rows, or more rows than are left in the batch.
    #[error("the request has {got} rows where 1 to {room} fit")]
    Rows {
        /// Rows left.
        room: u32,
        /// Rows of the request.
        got: u32,
    },
    /// The number of sizes differs from the number of open dimensions.
    #[error("the request has {got} sizes, the model has {expected} open dimensions")]
    Sizes {
        /// Open dimensions of the model.
        expected: usize,
        /// Sizes of the request.
        got: usize,
    },
    /// The request differs from the first of the batch in what all have to have in common.
    #[error("the request is of another form than the others of its batch")]
    Form,
    /// The request is shorter than the longest of its batch, and nothing says what to fill it with.
    #[error("input {input:?} cannot be padded: nothing says what with")]
    Unpadded {
        /// The input.
        input: String,
    },
    /// A tensor is longer or shorter than its shape says.
    #[error("input {input:?} has {got} bytes where its shape needs {expected}")]
    Length {
        /// The input.
        input: String,
        /// Bytes its shape needs.
        expected: usize,
        /// Bytes it has.
        got: usize,
    },
    /// A BYTES tensor has more or fewer elements than its shape says.
    #[error("input {input:?} has {got} elements where its shape needs {expected}")]
    Count {
        /// The input.
        input: String,
        /// Elements its shape needs.
        expected: usize,
        /// Elements it has.
        got: usize,
    },
    /// A BYTES tensor ends within an element.
    #[error("input {input:?} is cut short: the element at byte {offset} goes past the end")]
    Truncated {
        /// The input.
        input: String,
        /// Where the unfinished element starts.
        offset: usize,
    },
    /// An INT64 value that the model's engine cannot represent.
    #[error(
        "element {index} of input {input:?} is {value}, but this model's engine computes with \
         32-bit integers: send values within 32 bits, or serve it with engine = \"onnxruntime\""
    )]
    Range {
        /// The input.
        input: String,
        /// The position of the element in the request's tensor.
        index: usize,
        /// The value.
        value: i64,
    },
    /// A string that the engine cannot take.
    #[error(
        "element {index} of input {input:?} is not UTF-8 text without null characters, which is \
         all that this model's engine takes: send text, or encode the bytes as text"
    )]
    Text {
        /// The input.
        input: String,
        /// The position of the element in the request's tensor.
        index: usize,
    },
}

impl InputError {
    /// Whether the client sent a value that cannot be used. All other errors should have been found
    /// before the request was queued.
    #[must_use]
    pub fn is_of_value(&self) -> bool {
        match self {
            InputError::Range { .. } | InputError::Text { .. } => true,
            InputError::Tensors { .. }
            | InputError::Rows { .. }
            | InputError::Sizes { .. }
            | InputError::Form
            | InputError::Unpadded { .. }
            | InputError::Length { .. }
            | InputError::Count { .. }
            | InputError::Truncated { .. } => false,
        }
    }

    pub(super) fn of(input: &str, misfit: Misfit) -> InputError {
        let input = input.to_owned();
        match misfit {
            Misfit::Length { expected, got } => InputError::Length { input, expected, got },
            Misfit::Count { expected, got } => InputError::Count { input, expected, got },
            Misfit::Truncated { offset } => InputError::Truncated { input, offset },
            Misfit::Range { index, value } => InputError::Range { input, index, value },
            Misfit::Text { index } => InputError::Text { input, index },
        }
    }
}
