//! The fixed layouts, as they lie in a frame. They have no padding and need no alignment.

use super::error::DecodeError;
use crate::message::{Cancel, Completion, PlannedRequest, Submit};
use symphony_core::sched::ACCELERATORS_MAX;
use symphony_core::{AcceleratorId, BatchId, Class, DropReason, ModelId, Origin, RequestId, Span};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const HEADER: usize = size_of::<Header>();

/// What every frame begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Bytes of the body, which follows.
    pub length: U32,
    /// What the body is.
    pub kind: u8,
    /// Nothing yet: zero.
    pub flags: u8,
    /// Nothing yet: zero.
    pub reserved: U16,
}

impl Header {
    /// The header of a body of this kind and length.
    #[must_use]
    pub fn new(kind: u8, length: u32) -> Header {
        Header { length: U32::new(length), kind, flags: 0, reserved: U16::ZERO }
    }
}

macro_rules! layout {
    ($(#[$about:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $kind),* }
    };
}

layout!(
    /// A model.
    ModelLayout { index: U32, generation: U32 }
);
layout!(
    /// A request.
    RequestLayout { number: U64, frontend: U16, life: U16 }
);
layout!(SubmitLayout {
    request: RequestLayout,
    rows: U32,
    model: ModelLayout,
    age: U64,
    budget: U64,
    class: u8,
    reserved: [u8; 7],
});
layout!(CancelLayout { request: RequestLayout, reserved: U32, model: ModelLayout, budget: U64 });
layout!(LaneSizeLayout { lane: ModelLayout, size: U64 });
layout!(CountsLayout { model: ModelLayout });
layout!(DroppedLayout { request: RequestLayout, reason: u8, reserved: [u8; 3], queued: U64 });
layout!(PlanLayout {
    epoch: U64,
    batch: U64,
    model: ModelLayout,
    accelerator: U32,
    rows: U32,
    exec: U64,
    requests: U32,
    reserved: U32,
});
layout!(PlannedLayout {
    request: RequestLayout,
    rows: U32,
    age: U64,
    budget: U64,
    class: u8,
    reserved: [u8; 7],
});
layout!(CompletedLayout {
    epoch: U64,
    batch: U64,
    model: ModelLayout,
    accelerator: U32,
    reserved: U32,
    data: U64,
    exec: U64,
    response: U64,
    stay: U64,
});
layout!(HandedBackLayout {
    epoch: U64,
    batch: U64,
    accelerator: U32,
    is_refused: u8,
    reserved: [u8; 3]
});
layout!(FileLayout { number: U64, offset: U64, file: U32, reserved: U32 });
layout!(FileWantedLayout { number: U64, offset: U64, file: U32, bytes: U32 });
layout!(FetchLayout { epoch: U64, batch: U64 });
layout!(InputsLayout { rows: U32, sizes: U32, tensors: U32, reserved: U32 });
layout!(
    /// Where the contents of a tensor are: so many bytes in the frame, or at an offset of the sender's
    /// arena.
    TensorLayout { length: U64, offset: U64 }
);
layout!(OutcomeLayout { number: U64, kind: u8, reserved: [u8; 7] });
layout!(OutcomeDroppedLayout { reason: u8, reserved: [u8; 7], queued: U64 });
layout!(ExecutionLayout {
    accelerator: U32,
    batch_rows: U32,
    queued: U64,
    assembly: U64,
    compute: U64,
    split: U64,
    slack: U64,
    outputs: U32,
    reserved: U32,
});
layout!(OutputLayout { dimensions: U32, reserved: U32, tensor: TensorLayout });

impl TensorLayout {
    /// The offset of contents that stand in the frame.
    pub(crate) const INLINE: u64 = u64::MAX;
}

/// A number that is none of what it is to be.
pub(crate) struct NoSuch(pub(crate) &'static str);

impl NoSuch {
    pub(crate) fn in_kind(self, kind: u8) -> DecodeError {
        DecodeError::Value { kind, what: self.0 }
    }
}

impl ModelLayout {
    pub(crate) fn of(model: ModelId) -> ModelLayout {
        ModelLayout { index: model.slot().into(), generation: model.generation().into() }
    }

    pub(crate) fn read(self) -> Result<ModelId, NoSuch> {
        let model = ModelId::new(self.index.get(), self.generation.get());
        let is_one = model.index() < crate::carrier::in_process::port::MODELS_MAX;
        if is_one { Ok(model) } else { Err(NoSuch("model")) }
    }
}

impl RequestLayout {
    pub(crate) fn of(id: RequestId) -> RequestLayout {
        let origin = id.origin();
        RequestLayout {
            number: id.number().into(),
            frontend: origin.frontend().into(),
            life: origin.life().into(),
        }
    }

    pub(crate) fn read(self) -> Result<RequestId, NoSuch> {
        let origin = Origin::try_from((self.frontend.get(), self.life.get()));
        Ok(RequestId::new(origin.map_err(|_| NoSuch("frontend"))?, self.number.get()))
    }
}

pub(crate) fn accelerator(number: U32) -> Result<AcceleratorId, NoSuch> {
    let id = AcceleratorId(number.get());
    if id.0 < ACCELERATORS_MAX { Ok(id) } else { Err(NoSuch("accelerator")) }
}

fn rows(rows: U32) -> Result<u32, NoSuch> {
    if rows.get() > 0 { Ok(rows.get()) } else { Err(NoSuch("number of rows")) }
}

fn class_byte(class: Class) -> u8 {
    match class {
        Class::High => 0,
        Class::Low => 1,
    }
}

fn class(byte: u8) -> Result<Class, NoSuch> {
    match byte {
        0 => Ok(Class::High),
        1 => Ok(Class::Low),
        _ => Err(NoSuch("class")),
    }
}

pub(crate) fn reason_byte(reason: DropReason) -> u8 {
    let place = (0u8..).zip(DropReason::ALL).find(|(_, one)| *one == reason);
    place.map_or(u8::MAX, |(place, _)| place)
}

pub(crate) fn reason(byte: u8) -> Result<DropReason, NoSuch> {
    DropReason::ALL.get(usize::from(byte)).copied().ok_or(NoSuch("reason"))
}

impl SubmitLayout {
    pub(crate) fn of(submit: &Submit) -> SubmitLayout {
        SubmitLayout {
            request: RequestLayout::of(submit.id),
            rows: submit.rows.into(),
            model: ModelLayout::of(submit.model),
            age: submit.age.0.into(),
            budget: submit.budget.0.into(),
            class: class_byte(submit.class),
            reserved: [0; 7],
        }
    }

    pub(crate) fn read(self) -> Result<Submit, NoSuch> {
        Ok(Submit {
            model: self.model.read()?,
            id: self.request.read()?,
            age: Span(self.age.get()),
            budget: Span(self.budget.get()),
            rows: rows(self.rows)?,
            class: class(self.class)?,
        })
    }
}

impl CancelLayout {
    pub(crate) fn of(cancel: &Cancel) -> CancelLayout {
        CancelLayout {
            request: RequestLayout::of(cancel.id),
            reserved: U32::ZERO,
            model: ModelLayout::of(cancel.model),
            budget: cancel.budget.0.into(),
        }
    }

    pub(crate) fn read(self) -> Result<Cancel, NoSuch> {
        let (model, id) = (self.model.read()?, self.request.read()?);
        Ok(Cancel { model, id, budget: Span(self.budget.get()) })
    }
}

impl PlannedLayout {
    pub(crate) fn of(planned: &PlannedRequest) -> PlannedLayout {
        PlannedLayout {
            request: RequestLayout::of(planned.id),
            rows: planned.rows.into(),
            age: planned.age.0.into(),
            budget: planned.budget.0.into(),
            class: class_byte(planned.class),
            reserved: [0; 7],
        }
    }

    pub(crate) fn read(self) -> Result<PlannedRequest, NoSuch> {
        Ok(PlannedRequest {
            id: self.request.read()?,
            age: Span(self.age.get()),
            budget: Span(self.budget.get()),
            rows: rows(self.rows)?,
            class: class(self.class)?,
        })
    }
}

impl CompletedLayout {
    pub(crate) fn of(epoch: u64, completion: &Completion) -> CompletedLayout {
        CompletedLayout {
            epoch: epoch.into(),
            batch: completion.batch.0.into(),
            model: ModelLayout::of(completion.model),
            accelerator: completion.accelerator.0.into(),
            reserved: U32::ZERO,
            data: completion.data.0.into(),
            exec: completion.exec.0.into(),
            response: completion.response.0.into(),
            stay: completion.stay.0.into(),
        }
    }

    pub(crate) fn read(self) -> Result<Completion, NoSuch> {
        Ok(Completion {
            accelerator: accelerator(self.accelerator)?,
            batch: BatchId(self.batch.get()),
            model: self.model.read()?,
            data: Span(self.data.get()),
            exec: Span(self.exec.get()),
            response: Span(self.response.get()),
            stay: Span(self.stay.get()),
        })
    }
}
