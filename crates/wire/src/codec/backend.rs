//! The frames between the scheduler and a backend.

use super::error::DecodeError;
use super::frame::Frame;
use super::kinds::{
    BACKEND_REFUSED, BACKEND_WELCOME, COMPLETED, DONE, DRAIN, FILE, FILE_WANTED, FRONTENDS, GAPS,
    HANDED_BACK, LEAVING, LOST, NO_FILE, ORDER, PLAN, REFINED, REGISTER,
};
use super::layout::{
    CompletedLayout, FileLayout, FileWantedLayout, HandedBackLayout, ModelLayout, PlanLayout,
    PlannedLayout, accelerator,
};
use super::reading::Body;
use super::writing::FrameWriter;
use crate::message::link::{BackendToScheduler, HandedBack, SchedulerToBackend, SentPlan};
use crate::message::{BatchPlan, FilePart, FileWanted};
use symphony_core::{BatchId, Span};
use zerocopy::little_endian::{U32, U64};

impl Frame for SchedulerToBackend {
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            SchedulerToBackend::Welcome { epoch, accelerators } => {
                to.kind(BACKEND_WELCOME).put(&U64::new(*epoch)).value(accelerators)
            }
            SchedulerToBackend::Plan(sent) => write_plan(sent, to),
            SchedulerToBackend::Order { number, order } => {
                to.kind(ORDER).put(&U64::new(*number)).value(order)
            }
            SchedulerToBackend::File(part) => {
                let layout = FileLayout {
                    number: part.number.into(),
                    offset: part.offset.into(),
                    file: part.file.into(),
                    reserved: U32::ZERO,
                };
                to.kind(FILE).put(&layout).splice(&part.bytes)
            }
            SchedulerToBackend::NoFile { number, text } => {
                to.kind(NO_FILE).put(&U64::new(*number)).bytes(text.as_bytes())
            }
            SchedulerToBackend::Drain => to.kind(DRAIN),
            SchedulerToBackend::Frontends(all) => to.kind(FRONTENDS).value(all),
            SchedulerToBackend::Refused { text } => to.kind(BACKEND_REFUSED).bytes(text.as_bytes()),
        };
    }

    fn decode(mut body: Body<'_>) -> Result<SchedulerToBackend, DecodeError> {
        match body.kind() {
            BACKEND_WELCOME => {
                let epoch = body.number("epoch")?;
                Ok(SchedulerToBackend::Welcome { epoch, accelerators: body.value()? })
            }
            PLAN => Ok(SchedulerToBackend::Plan(read_plan(body)?)),
            ORDER => {
                let number = body.number("number")?;
                Ok(SchedulerToBackend::Order { number, order: body.value()? })
            }
            FILE => {
                let layout: FileLayout = body.take("place")?;
                Ok(SchedulerToBackend::File(FilePart {
                    number: layout.number.get(),
                    file: layout.file.get(),
                    offset: layout.offset.get(),
                    bytes: body.rest(),
                }))
            }
            NO_FILE => {
                let number = body.number("number")?;
                Ok(SchedulerToBackend::NoFile { number, text: body.text()? })
            }
            DRAIN => body.end(SchedulerToBackend::Drain),
            FRONTENDS => Ok(SchedulerToBackend::Frontends(body.value()?)),
            BACKEND_REFUSED => Ok(SchedulerToBackend::Refused { text: body.text()? }),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

fn write_plan<'a, 'b>(sent: &SentPlan, to: &'a mut FrameWriter<'b>) -> &'a mut FrameWriter<'b> {
    let SentPlan { epoch, accelerator, plan } = sent;
    // A plan with more requests than this can say is longer than any frame.
    let requests = u32::try_from(plan.requests.len()).unwrap_or(u32::MAX);
    to.kind(PLAN).put(&PlanLayout {
        epoch: (*epoch).into(),
        batch: plan.batch.0.into(),
        model: ModelLayout::of(plan.model),
        accelerator: accelerator.0.into(),
        rows: plan.rows.into(),
        exec: plan.exec.0.into(),
        requests: requests.into(),
        reserved: U32::ZERO,
    });
    for request in &plan.requests {
        to.put(&PlannedLayout::of(request));
    }
    to
}

fn read_plan(mut body: Body<'_>) -> Result<SentPlan, DecodeError> {
    let layout: PlanLayout = body.take("batch")?;
    let planned: &[PlannedLayout] = body.list(layout.requests.get(), "requests")?;
    let mut requests = Vec::with_capacity(planned.len());
    for request in planned {
        requests.push(body.checked(request.read())?);
    }
    let plan = BatchPlan {
        batch: BatchId(layout.batch.get()),
        model: body.checked(layout.model.read())?,
        requests,
        rows: layout.rows.get(),
        exec: Span(layout.exec.get()),
    };
    let accelerator = body.checked(accelerator(layout.accelerator))?;
    body.end(SentPlan { epoch: layout.epoch.get(), accelerator, plan })
}

impl Frame for BackendToScheduler {
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            BackendToScheduler::Register(registration) => to.kind(REGISTER).value(registration),
            BackendToScheduler::Completed { epoch, completion } => {
                to.kind(COMPLETED).put(&CompletedLayout::of(*epoch, completion))
            }
            BackendToScheduler::HandedBack(back) => {
                let HandedBack { epoch, accelerator, batch, is_refused, why } = back;
                let layout = HandedBackLayout {
                    epoch: (*epoch).into(),
                    batch: batch.0.into(),
                    accelerator: accelerator.0.into(),
                    is_refused: u8::from(*is_refused),
                    reserved: [0; 3],
                };
                to.kind(HANDED_BACK).put(&layout).bytes(why.as_bytes())
            }
            BackendToScheduler::Lost { accelerator } => to.kind(LOST).put(&U32::new(accelerator.0)),
            BackendToScheduler::FileWanted(wanted) => to.kind(FILE_WANTED).put(&FileWantedLayout {
                number: wanted.number.into(),
                offset: wanted.offset.into(),
                file: wanted.file.into(),
                bytes: wanted.bytes.into(),
            }),
            BackendToScheduler::Done { number, result } => {
                to.kind(DONE).put(&U64::new(*number)).value(result)
            }
            BackendToScheduler::Refined { model, costs } => {
                to.kind(REFINED).put(&ModelLayout::of(*model)).value(costs)
            }
            BackendToScheduler::Gaps(gaps) => to.kind(GAPS).value(gaps),
            BackendToScheduler::Leaving => to.kind(LEAVING),
        };
    }

    fn decode(mut body: Body<'_>) -> Result<BackendToScheduler, DecodeError> {
        match body.kind() {
            REGISTER => Ok(BackendToScheduler::Register(body.value()?)),
            COMPLETED => {
                let layout: CompletedLayout = body.take("batch")?;
                let completion = body.checked(layout.read())?;
                let epoch = layout.epoch.get();
                body.end(BackendToScheduler::Completed { epoch, completion })
            }
            HANDED_BACK => {
                let layout: HandedBackLayout = body.take("batch")?;
                Ok(BackendToScheduler::HandedBack(HandedBack {
                    epoch: layout.epoch.get(),
                    accelerator: body.checked(accelerator(layout.accelerator))?,
                    batch: BatchId(layout.batch.get()),
                    is_refused: layout.is_refused != 0,
                    why: body.text()?,
                }))
            }
            LOST => {
                let number: U32 = body.take("accelerator")?;
                let accelerator = body.checked(accelerator(number))?;
                body.end(BackendToScheduler::Lost { accelerator })
            }
            FILE_WANTED => {
                let layout: FileWantedLayout = body.take("place")?;
                body.end(BackendToScheduler::FileWanted(FileWanted {
                    number: layout.number.get(),
                    file: layout.file.get(),
                    offset: layout.offset.get(),
                    bytes: layout.bytes.get(),
                }))
            }
            DONE => {
                let number = body.number("number")?;
                Ok(BackendToScheduler::Done { number, result: body.value()? })
            }
            REFINED => {
                let layout: ModelLayout = body.take("model")?;
                let model = body.checked(layout.read())?;
                Ok(BackendToScheduler::Refined { model, costs: body.value()? })
            }
            GAPS => Ok(BackendToScheduler::Gaps(body.value()?)),
            LEAVING => body.end(BackendToScheduler::Leaving),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}
