//! A request in the queue of its model: as a whole, or in several parts where it has more rows than
//! a batch takes. All parts share its deadline and its class; it has its answer when all have
//! theirs, and whatever else becomes of one of them becomes of the request.

use crate::admission::{Admission, Submitted};
use crate::error::InferError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use symphony_core::{Class, Request, Time};
use symphony_wire::carrier::Timed;
use symphony_wire::lanes::RequestLane;
use symphony_wire::message::{Answer, Cancel, Outcome, ServedModel};
use symphony_wire::tensor::{
    ElementBytes, Inputs, OutputTensor, Runs, Signature, TensorSpec, elements_in, join,
};
use tokio::sync::oneshot;

/// What a request asks of the scheduler, whole or in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTerms {
    /// When the server had it.
    pub(crate) arrival: Time,
    /// When its answer has to be with the client.
    pub(crate) deadline: Time,
    /// Rows of all parts together.
    pub(crate) rows: u32,
    /// Whether others go first.
    pub(crate) class: Class,
}

/// The parts of one request, in the order of its rows.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    /// The inputs of all of them, where there are several.
    whole: Option<Inputs>,
}

/// What waits in the queue.
#[derive(Debug)]
struct Part {
    /// What the scheduler knows of it.
    metadata: Request,
    /// Where it is queued.
    lane: RequestLane,
    /// Where its outcome arrives.
    reply: oneshot::Receiver<Outcome>,
    answer: Option<Answer>,
}

impl Part {
    /// Keeps its answer. Returns any other outcome.
    fn keep(&mut self, outcome: Result<Outcome, oneshot::error::RecvError>) -> Option<Outcome> {
        match outcome {
            Ok(Outcome::Done(answer)) => {
                self.answer = Some(answer);
                None
            }
            Ok(other) => Some(other),
            // Whatever took the entry let it go without even the outcome that a drop gives.
            Err(_) => Some(Outcome::Failed("its outcome was lost".to_owned())),
        }
    }
}

impl Parts {
    /// Submits a request, in parts if it has more rows than a batch of the model takes.
    ///
    /// # Errors
    /// There is no room for all of it now, or the scheduler has stopped. Nothing of it is queued then.
    pub(crate) fn submit(
        admission: &Admission,
        model: &ServedModel,
        inputs: Inputs,
        terms: RequestTerms,
    ) -> Result<Parts, InferError> {
        let mut submitted = Parts { parts: Vec::with_capacity(1), whole: None };
        if inputs.rows <= model.rows_max {
            submitted.add(admission, model, inputs, terms)?;
            return Ok(submitted);
        }
        for part in divided(&model.signature, &inputs, model.rows_max) {
            if let Err(error) = submitted.add(admission, model, part, terms) {
                submitted.withdraw(admission);
                return Err(error);
            }
        }
        submitted.whole = Some(inputs);
        Ok(submitted)
    }

    fn add(
        &mut self,
        admission: &Admission,
        model: &ServedModel,
        inputs: Inputs,
        terms: RequestTerms,
    ) -> Result<(), InferError> {
        let (rows, RequestTerms { arrival, deadline, class, .. }) = (inputs.rows, terms);
        let metadata = |id| Request { id, arrival, deadline, rows, class };
        let Submitted { metadata, lane, reply } = admission.submit(model, inputs, metadata)?;
        self.parts.push(Part { metadata, lane, reply, answer: None });
        Ok(())
    }

    /// Waits until all parts have their answers, or one has another outcome, which is returned.
    pub(crate) async fn ended(&mut self) -> Option<Outcome> {
        if let [part] = &mut self.parts[..] {
            let outcome = (&mut part.reply).await;
            return part.keep(outcome);
        }
        let waiting = self.parts.iter_mut().map(async |part| {
            let outcome = (&mut part.reply).await;
            part.keep(outcome)
        });
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        while let Some(outcome) = waiting.next().await {
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    /// Takes the outcomes that have come. Returns one that is no answer.
    pub(crate) fn take_outcomes(&mut self) -> Option<Outcome> {
        self.parts.iter_mut().find_map(|part| {
            let outcome = part.reply.try_recv().ok()?;
            part.keep(Ok(outcome))
        })
    }

    /// Takes what still waits out of the queue. Returns whether anything did.
    pub(crate) fn withdraw(&self, admission: &Admission) -> bool {
        let mut was_queued = false;
        for part in self.parts.iter().filter(|part| part.answer.is_none()) {
            let Request { id, arrival, deadline, .. } = part.metadata;
            let Some(pending) = admission.inflight.take(id) else { continue };
            drop(pending);
            let (model, budget) = (part.lane.id, deadline.since(arrival));
            admission.scheduler.cancel(Timed::new(arrival, Cancel { model, id, budget }));
            was_queued = true;
        }
        was_queued
    }

    /// The inputs of the whole request, of which one part came back with these.
    pub(crate) fn inputs(&mut self, of_part: Inputs) -> Inputs {
        self.whole.take().unwrap_or(of_part)
    }

    /// Whether all parts have their answers.
    pub(crate) fn are_answered(&self) -> bool {
        self.parts.iter().all(|part| part.answer.is_some())
    }

    /// The answers, each with the rows of its part.
    pub(crate) fn answers(&mut self) -> Vec<(u32, Answer)> {
        let answers = self.parts.iter_mut();
        answers.filter_map(|part| Some((part.metadata.rows, part.answer.take()?))).collect()
    }
}

/// Bytes that a request holds while it is queued: its inputs, and copies of those whose rows do not
/// lie together where it is queued in parts.
pub(crate) fn bytes(signature: &Signature, inputs: &Inputs, rows_max: u32) -> usize {
    let is_divided = inputs.rows > rows_max;
    let tensors = signature.inputs.iter().zip(&inputs.tensors);
    let bytes = tensors.map(|(spec, data)| {
        let is_copied = is_divided && spec.batch_axis().is_some_and(|axis| axis > 0);
        if is_copied { data.len().saturating_mul(2) } else { data.len() }
    });
    bytes.fold(0, usize::saturating_add)
}

/// Divides the rows of a request evenly over as few parts as there have to be.
fn divided(signature: &Signature, inputs: &Inputs, rows_max: u32) -> Vec<Inputs> {
    let count = inputs.rows.div_ceil(rows_max.max(1));
    let (each, more) = (inputs.rows / count, inputs.rows % count);
    let cuts: Vec<Cut<'_>> = signature
        .inputs
        .iter()
        .zip(&inputs.tensors)
        .map(|(spec, data)| Cut::new(signature, spec, inputs, data))
        .collect();
    let mut start = 0;
    let part = |index: u32| {
        let rows = each + u32::from(index < more);
        let tensors = cuts.iter().map(|cut| cut.rows(start, rows)).collect();
        start += rows as usize;
        Inputs { rows, sizes: inputs.sizes.clone(), tensors }
    };
    (0..count).map(part).collect()
}

/// How the rows of one input are cut.
struct Cut<'a> {
    data: &'a bytes::Bytes,
    /// `None` for an input of which every part gets the whole: one that all rows share, or that is
    /// one row for all of them.
    by_rows: Option<(usize, Vec<usize>, ElementBytes)>,
}

impl<'a> Cut<'a> {
    fn new(
        signature: &Signature,
        spec: &TensorSpec,
        inputs: &Inputs,
        data: &'a bytes::Bytes,
    ) -> Cut<'a> {
        let by_rows = spec.batch_axis().and_then(|axis| {
            let shape = signature.shape_of(spec, inputs.rows, &inputs.sizes)?;
            // Contents that are checked and too few for all rows are one row.
            let bytes = ElementBytes::new(data, spec.datatype, elements_in(&shape)?)?;
            Some((axis, shape, bytes))
        });
        Cut { data, by_rows }
    }

    fn rows(&self, start: usize, rows: u32) -> bytes::Bytes {
        let Some((axis, shape, bytes)) = &self.by_rows else { return self.data.clone() };
        let (mut part, mut at) = (shape.clone(), vec![0; shape.len()]);
        (part[*axis], at[*axis]) = (rows as usize, start);
        bytes.cut(self.data, Runs::of_box(shape, &part, &at))
    }
}

/// Joins the answers of the parts of a request, in the order of its rows. What the answer says of
/// its execution is what was slowest to come.
///
/// # Errors
/// An output has another shape in one part than in another. The text names it.
pub(crate) fn joined(signature: &Signature, answers: Vec<(u32, Answer)>) -> Result<Answer, String> {
    let mut answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
    if answers.len() == 1 {
        return answers.pop().ok_or_else(String::new);
    }
    let outputs = signature.outputs.iter().enumerate().map(|(index, spec)| {
        let of_parts = answers.iter_mut().map(|answer| {
            let output = answer.outputs.get_mut(index)?;
            Some(std::mem::replace(
                output,
                OutputTensor { shape: vec![], data: Default::default() },
            ))
        });
        let of_parts = of_parts.collect::<Option<Vec<_>>>();
        let joined = of_parts.and_then(|mut parts| match spec.batch_axis() {
            Some(axis) => join(spec.datatype, axis, &parts),
            None => Some(parts.swap_remove(0)),
        });
        joined.ok_or_else(|| {
            format!(
                "output {:?} has another shape for some of the rows than for others: \
                 send at most max_batch rows in one request",
                spec.name
            )
        })
    });
    let outputs = outputs.collect::<Result<_, _>>()?;
    let took = |answer: &Answer| {
        let execution = &answer.execution;
        execution.queued + execution.assembly + execution.compute
    };
    let slowest = answers.iter().max_by_key(|answer| took(answer));
    slowest.map(|answer| Answer { outputs, execution: answer.execution }).ok_or_else(String::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use symphony_core::AcceleratorId;
    use symphony_wire::message::Execution;
    use symphony_wire::tensor::{DataType, Dim, OpenDimension, bytes_contents};

    fn execution(queued: u64) -> Execution {
        Execution {
            accelerator: AcceleratorId(0),
            batch_rows: 4,
            queued: symphony_core::Span(queued),
            assembly: symphony_core::Span::ZERO,
            compute: symphony_core::Span::ZERO,
            split: symphony_core::Span::ZERO,
            slack: symphony_core::Span::ZERO,
        }
    }

    /// A model of inputs with their rows anywhere, and outputs like them.
    fn signature() -> Signature {
        let spec =
            |name: &str, datatype, shape: &[Dim]| TensorSpec::new(name, datatype, shape.to_vec());
        let inputs = vec![
            spec("first", DataType::Uint8, &[Dim::Batch, Dim::Open(0)]),
            spec("last", DataType::Bytes, &[Dim::Fixed(2), Dim::Batch]),
            spec("shared", DataType::Uint8, &[Dim::Fixed(2)]),
            TensorSpec {
                broadcast: true,
                ..spec("user", DataType::Uint8, &[Dim::Batch, Dim::Fixed(2)])
            },
        ];
        let dimensions = vec![OpenDimension { name: "length".to_owned(), max: 9 }];
        Signature { outputs: inputs[..3].to_vec(), inputs, dimensions, padded: None }
    }

    fn request(rows: u32) -> Inputs {
        let count = usize::try_from(rows).unwrap();
        let strings: Vec<_> = (0..2 * count).map(|at| at.to_string()).collect();
        let tensors = vec![
            (0..3 * count).map(|at| u8::try_from(at).unwrap()).collect::<Vec<_>>().into(),
            bytes_contents(strings.iter().map(String::as_bytes)).into(),
            Bytes::from_static(&[7, 8]),
            Bytes::from_static(&[9, 9]),
        ];
        Inputs { rows, sizes: vec![3], tensors }
    }

    #[test]
    fn what_is_divided_evenly_is_joined_again() {
        let signature = signature();
        for rows in 1..=20 {
            for rows_max in 1..=rows {
                let whole = request(rows);
                let parts = divided(&signature, &whole, rows_max);
                assert_eq!(parts.len(), rows.div_ceil(rows_max) as usize);
                assert_eq!(parts.iter().map(|part| part.rows).sum::<u32>(), rows);
                let least = parts.iter().map(|part| part.rows).min().unwrap();
                assert!(parts.iter().all(|part| part.rows <= rows_max.min(least + 1)));
                let address = whole.tensors[0].as_ptr();
                assert_eq!(
                    parts[0].tensors[0].as_ptr(),
                    address,
                    "rows that lie together are not copied"
                );
                let answer = |(at, part): (u64, Inputs)| {
                    let outputs =
                        signature.outputs.iter().zip(&part.tensors).map(|(spec, data)| {
                            let shape = signature.shape_of(spec, part.rows, &part.sizes).unwrap();
                            OutputTensor { shape, data: data.clone() }
                        });
                    (part.rows, Answer { outputs: outputs.collect(), execution: execution(at) })
                };
                let last = parts.len() as u64 - 1;
                let answers = (0..).zip(parts).map(answer).collect();
                let joined = joined(&signature, answers).unwrap();
                assert_eq!(joined.execution.queued.0, last, "the slowest part's");
                for ((spec, sent), got) in
                    signature.outputs.iter().zip(&whole.tensors).zip(&joined.outputs)
                {
                    assert_eq!(&got.data, sent, "{}", spec.name);
                    assert_eq!(Some(&got.shape), signature.shape_of(spec, rows, &[3]).as_ref());
                }
            }
        }
    }

    #[test]
    fn outputs_of_different_shapes_are_not_joined() {
        let mut signature = signature();
        signature.outputs.truncate(1);
        let answer = |length: usize| {
            let output = OutputTensor { shape: vec![1, length], data: vec![1; length].into() };
            (1, Answer { outputs: vec![output], execution: execution(0) })
        };
        assert!(joined(&signature, vec![answer(2), answer(2)]).is_ok());
        let error = joined(&signature, vec![answer(2), answer(3)]).unwrap_err();
        assert!(error.starts_with("output \"first\" has another shape"), "{error}");
    }

    #[test]
    fn copies_of_rows_that_do_not_lie_together_count() {
        let signature = signature();
        let (small, large) = (request(4), request(5));
        let held = |inputs: &Inputs| inputs.tensors.iter().map(Bytes::len).sum::<usize>();
        assert_eq!(bytes(&signature, &small, 4), held(&small));
        assert_eq!(bytes(&signature, &large, 4), held(&large) + large.tensors[1].len());
    }
}
