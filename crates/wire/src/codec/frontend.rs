//! The frames between a frontend and the scheduler.

use super::error::DecodeError;
use super::frame::Frame;
use super::kinds::{
    ANSWER, BACKEND_GONE, CANCEL, CATALOG, COMMAND, DROPPED, FAILED, FRONTEND_WELCOME, LANE_SIZE,
    LANES, QUESTION, SERVING, SIZE_COUNTS, SUBMIT, UNLOADED,
};
use super::layout::{
    CancelLayout, CountsLayout, DroppedLayout, LaneSizeLayout, ModelLayout, RequestLayout,
    SubmitLayout, reason, reason_byte,
};
use super::reading::Body;
use super::writing::FrameWriter;
use crate::message::link::{FrontendToScheduler, SchedulerToFrontend};
use symphony_core::Span;
use zerocopy::little_endian::{U32, U64};

impl Frame for FrontendToScheduler {
    #[inline]
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            FrontendToScheduler::Submit(submit) => to.kind(SUBMIT).put(&SubmitLayout::of(submit)),
            FrontendToScheduler::Cancel(cancel) => to.kind(CANCEL).put(&CancelLayout::of(cancel)),
            FrontendToScheduler::LaneSize { lane, size } => {
                let layout = LaneSizeLayout { lane: ModelLayout::of(*lane), size: (*size).into() };
                to.kind(LANE_SIZE).put(&layout)
            }
            FrontendToScheduler::SizeCounts { model, counts } => {
                to.kind(SIZE_COUNTS).put(&CountsLayout { model: ModelLayout::of(*model) });
                to.numbers(counts)
            }
            FrontendToScheduler::Question { number, question } => {
                to.kind(QUESTION).put(&U64::new(*number)).value(question)
            }
            FrontendToScheduler::Command { number, command } => {
                to.kind(COMMAND).put(&U64::new(*number)).value(command)
            }
        };
    }

    #[inline]
    fn decode(mut body: Body<'_>) -> Result<FrontendToScheduler, DecodeError> {
        match body.kind() {
            SUBMIT => {
                let layout: SubmitLayout = body.take("request")?;
                body.end(FrontendToScheduler::Submit(body.checked(layout.read())?))
            }
            CANCEL => {
                let layout: CancelLayout = body.take("request")?;
                body.end(FrontendToScheduler::Cancel(body.checked(layout.read())?))
            }
            LANE_SIZE => {
                let layout: LaneSizeLayout = body.take("lane")?;
                let lane = body.checked(layout.lane.read())?;
                body.end(FrontendToScheduler::LaneSize { lane, size: layout.size.get() })
            }
            SIZE_COUNTS => {
                let layout: CountsLayout = body.take("model")?;
                let model = body.checked(layout.model.read())?;
                let counts = body.numbers("counts")?;
                Ok(FrontendToScheduler::SizeCounts { model, counts })
            }
            QUESTION => {
                let number = body.number("number")?;
                Ok(FrontendToScheduler::Question { number, question: body.value()? })
            }
            COMMAND => {
                let number = body.number("number")?;
                Ok(FrontendToScheduler::Command { number, command: body.value()? })
            }
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

impl Frame for SchedulerToFrontend {
    #[inline]
    fn encode(&self, to: &mut FrameWriter<'_>) {
        match self {
            SchedulerToFrontend::Welcome { epoch } => {
                to.kind(FRONTEND_WELCOME).put(&U64::new(*epoch))
            }
            SchedulerToFrontend::Dropped { id, reason, queued } => {
                let layout = DroppedLayout {
                    request: RequestLayout::of(*id),
                    reason: reason_byte(*reason),
                    reserved: [0; 3],
                    queued: queued.0.into(),
                };
                to.kind(DROPPED).put(&layout)
            }
            SchedulerToFrontend::Unloaded { id } => to.kind(UNLOADED).put(&RequestLayout::of(*id)),
            SchedulerToFrontend::Failed { id, text } => {
                to.kind(FAILED).put(&RequestLayout::of(*id)).bytes(text.as_bytes())
            }
            SchedulerToFrontend::Catalog(image) => to.kind(CATALOG).value(image),
            SchedulerToFrontend::Lanes { model, image } => {
                to.kind(LANES).put(&ModelLayout::of(*model)).value(image)
            }
            SchedulerToFrontend::Serving(count) => to.kind(SERVING).put(&U32::new(*count)),
            SchedulerToFrontend::Answer { number, answer } => {
                to.kind(ANSWER).put(&U64::new(*number)).value(answer)
            }
            SchedulerToFrontend::BackendGone { name, life } => {
                to.kind(BACKEND_GONE).put(&U64::new(*life)).bytes(name.as_bytes())
            }
        };
    }

    #[inline]
    fn decode(mut body: Body<'_>) -> Result<SchedulerToFrontend, DecodeError> {
        match body.kind() {
            FRONTEND_WELCOME => {
                let epoch = body.number("epoch")?;
                body.end(SchedulerToFrontend::Welcome { epoch })
            }
            DROPPED => {
                let layout: DroppedLayout = body.take("request")?;
                let id = body.checked(layout.request.read())?;
                let reason = body.checked(reason(layout.reason))?;
                let queued = Span(layout.queued.get());
                body.end(SchedulerToFrontend::Dropped { id, reason, queued })
            }
            UNLOADED => {
                let layout: RequestLayout = body.take("request")?;
                body.end(SchedulerToFrontend::Unloaded { id: body.checked(layout.read())? })
            }
            FAILED => {
                let layout: RequestLayout = body.take("request")?;
                let id = body.checked(layout.read())?;
                Ok(SchedulerToFrontend::Failed { id, text: body.text()? })
            }
            CATALOG => Ok(SchedulerToFrontend::Catalog(body.value()?)),
            LANES => {
                let layout: ModelLayout = body.take("model")?;
                let model = body.checked(layout.read())?;
                Ok(SchedulerToFrontend::Lanes { model, image: body.value()? })
            }
            SERVING => {
                let count: U32 = body.take("number")?;
                body.end(SchedulerToFrontend::Serving(count.get()))
            }
            ANSWER => {
                let number = body.number("number")?;
                Ok(SchedulerToFrontend::Answer { number, answer: body.value()? })
            }
            BACKEND_GONE => {
                let life = body.number("life")?;
                Ok(SchedulerToFrontend::BackendGone { name: body.text()?, life })
            }
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}
