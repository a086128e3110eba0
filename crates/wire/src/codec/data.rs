//! The frames between a backend and a frontend. The contents of tensors stand at the end.

use super::error::DecodeError;
use super::frame::Frame;
use super::kinds::{AWAITED, FETCH, INPUTS, NO_INPUTS, NOT_RUN, OUTCOME};
use super::layout::{
    ExecutionLayout, FetchLayout, InputsLayout, NoSuch, OutcomeDroppedLayout, OutcomeLayout,
    OutputLayout, TensorLayout, accelerator, reason, reason_byte,
};
use super::reading::Body;
use super::writing::FrameWriter;
use crate::message::link::{BackendToFrontend, Fetch, FrontendToBackend};
use crate::message::{Answer, Execution, Outcome};
use crate::tensor::{Inputs, OutputTensor};
use symphony_core::{BatchId, Span};
use zerocopy::little_endian::{U32, U64};

// The kinds of outcomes.
const DONE: u8 = 0;
const DROPPED: u8 = 1;
const UNLOADED: u8 = 2;
const REFUSED: u8 = 3;
const FAILED: u8 = 4;

impl Frame for FrontendToBackend {
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            FrontendToBackend::Inputs { number, inputs } => {
                to.kind(INPUTS).put(&U64::new(*number));
                write_inputs(inputs, to);
            }
            FrontendToBackend::NoInputs { number } => {
                to.kind(NO_INPUTS).put(&U64::new(*number));
            }
            FrontendToBackend::Awaited { numbers } => {
                to.kind(AWAITED).numbers(numbers);
            }
        }
    }

    fn decode(mut body: Body<'_>) -> Result<FrontendToBackend, DecodeError> {
        match body.kind() {
            INPUTS => {
                let number = body.number("number")?;
                Ok(FrontendToBackend::Inputs { number, inputs: read_inputs(body)? })
            }
            NO_INPUTS => {
                let number = body.number("number")?;
                body.end(FrontendToBackend::NoInputs { number })
            }
            AWAITED => Ok(FrontendToBackend::Awaited { numbers: body.numbers("requests")? }),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

impl Frame for BackendToFrontend {
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            BackendToFrontend::Fetch(Fetch { epoch, batch, numbers }) => {
                let layout = FetchLayout { epoch: (*epoch).into(), batch: batch.0.into() };
                to.kind(FETCH).put(&layout).numbers(numbers);
            }
            BackendToFrontend::Outcome { number, outcome } => {
                to.kind(OUTCOME);
                write_outcome(*number, outcome, to);
            }
            BackendToFrontend::NotRun { number } => {
                to.kind(NOT_RUN).put(&U64::new(*number));
            }
        }
    }

    fn decode(mut body: Body<'_>) -> Result<BackendToFrontend, DecodeError> {
        match body.kind() {
            FETCH => {
                let layout: FetchLayout = body.take("batch")?;
                Ok(BackendToFrontend::Fetch(Fetch {
                    epoch: layout.epoch.get(),
                    batch: BatchId(layout.batch.get()),
                    numbers: body.numbers("requests")?,
                }))
            }
            OUTCOME => {
                let layout: OutcomeLayout = body.take("outcome")?;
                let outcome = read_outcome(layout.kind, body)?;
                Ok(BackendToFrontend::Outcome { number: layout.number.get(), outcome })
            }
            NOT_RUN => {
                let number = body.number("number")?;
                body.end(BackendToFrontend::NotRun { number })
            }
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

/// A length as a layout holds it. One that it cannot hold is of a frame that is too long in any case.
fn count(length: usize) -> U32 {
    u32::try_from(length).unwrap_or(u32::MAX).into()
}

fn write_inputs(inputs: &Inputs, to: &mut FrameWriter<'_>) {
    let Inputs { rows, sizes, tensors } = inputs;
    to.put(&InputsLayout {
        rows: (*rows).into(),
        sizes: count(sizes.len()),
        tensors: count(tensors.len()),
        reserved: U32::ZERO,
    });
    for size in sizes {
        to.put(&U64::new(*size as u64));
    }
    let mut places = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let place = to.place(tensor);
        to.put(&place);
        places.push(place);
    }
    for (place, tensor) in places.into_iter().zip(tensors) {
        to.contents(place, tensor);
    }
}

fn read_inputs(mut body: Body<'_>) -> Result<Inputs, DecodeError> {
    let layout: InputsLayout = body.take("inputs")?;
    let sizes: &[U64] = body.list(layout.sizes.get(), "sizes")?;
    let places: &[TensorLayout] = body.list(layout.tensors.get(), "tensors")?;
    let sizes = sizes.iter().map(|size| usize_of(*size)).collect::<Result<_, _>>();
    let sizes = body.checked(sizes)?;
    let mut tensors = Vec::with_capacity(places.len());
    for place in places {
        tensors.push(body.tensor(*place)?);
    }
    body.end(Inputs { rows: layout.rows.get(), sizes, tensors })
}

fn usize_of(number: U64) -> Result<usize, NoSuch> {
    usize::try_from(number.get()).map_err(|_| NoSuch("size"))
}

fn write_outcome(number: u64, outcome: &Outcome, to: &mut FrameWriter<'_>) {
    let kind = match outcome {
        Outcome::Done(_) => DONE,
        Outcome::Dropped { .. } => DROPPED,
        Outcome::Unloaded(_) => UNLOADED,
        Outcome::Refused(_) => REFUSED,
        Outcome::Failed(_) => FAILED,
    };
    to.put(&OutcomeLayout { number: number.into(), kind, reserved: [0; 7] });
    match outcome {
        Outcome::Done(answer) => write_answer(answer, to),
        Outcome::Dropped { reason, queued } => {
            let (reason, queued) = (reason_byte(*reason), queued.0.into());
            to.put(&OutcomeDroppedLayout { reason, reserved: [0; 7], queued });
        }
        Outcome::Unloaded(inputs) => write_inputs(inputs, to),
        Outcome::Refused(text) | Outcome::Failed(text) => {
            to.bytes(text.as_bytes());
        }
    }
}

fn read_outcome(kind: u8, mut body: Body<'_>) -> Result<Outcome, DecodeError> {
    match kind {
        DONE => Ok(Outcome::Done(read_answer(body)?)),
        DROPPED => {
            let layout: OutcomeDroppedLayout = body.take("reason")?;
            let reason = body.checked(reason(layout.reason))?;
            body.end(Outcome::Dropped { reason, queued: Span(layout.queued.get()) })
        }
        UNLOADED => Ok(Outcome::Unloaded(read_inputs(body)?)),
        REFUSED => Ok(Outcome::Refused(body.text()?)),
        FAILED => Ok(Outcome::Failed(body.text()?)),
        _ => Err(NoSuch("outcome").in_kind(body.kind())),
    }
}

fn write_answer(answer: &Answer, to: &mut FrameWriter<'_>) {
    let Answer { outputs, execution } = answer;
    let Execution { accelerator, batch_rows, queued, assembly, compute, split, slack } = execution;
    to.put(&ExecutionLayout {
        accelerator: accelerator.0.into(),
        batch_rows: (*batch_rows).into(),
        queued: queued.0.into(),
        assembly: assembly.0.into(),
        compute: compute.0.into(),
        split: split.0.into(),
        slack: slack.0.into(),
        outputs: count(outputs.len()),
        reserved: U32::ZERO,
    });
    let mut places = Vec::with_capacity(outputs.len());
    for output in outputs {
        let tensor = to.place(&output.data);
        let dimensions = count(output.shape.len());
        to.put(&OutputLayout { dimensions, reserved: U32::ZERO, tensor });
        places.push(tensor);
    }
    for size in outputs.iter().flat_map(|output| &output.shape) {
        to.put(&U64::new(*size as u64));
    }
    for (place, output) in places.into_iter().zip(outputs) {
        to.contents(place, &output.data);
    }
}

fn read_answer(mut body: Body<'_>) -> Result<Answer, DecodeError> {
    let layout: ExecutionLayout = body.take("execution")?;
    let places: &[OutputLayout] = body.list(layout.outputs.get(), "outputs")?;
    let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(places.len());
    for output in places {
        let shape: &[U64] = body.list(output.dimensions.get(), "shapes")?;
        let shape = shape.iter().map(|size| usize_of(*size)).collect::<Result<_, _>>();
        shapes.push(body.checked(shape)?);
    }
    let mut outputs = Vec::with_capacity(places.len());
    for (place, shape) in places.iter().zip(shapes) {
        outputs.push(OutputTensor { shape, data: body.tensor(place.tensor)? });
    }
    let execution = Execution {
        accelerator: body.checked(accelerator(layout.accelerator))?,
        batch_rows: layout.batch_rows.get(),
        queued: Span(layout.queued.get()),
        assembly: Span(layout.assembly.get()),
        compute: Span(layout.compute.get()),
        split: Span(layout.split.get()),
        slack: Span(layout.slack.get()),
    };
    body.end(Answer { outputs, execution })
}
