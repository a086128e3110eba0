//! What both ends of a link say first: who they are, and which version of the frames they speak.
//!
//! The magic bytes, the version, and the frame that refuses stay as they are in every version, so that
//! processes of different versions can tell each other so.

use super::error::LinkError;
use crate::codec::{DecodeError, FrameWriter, kinds};
use bytes::Bytes;
use std::time::Duration;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of the frames. Another one is refused.
pub const PROTOCOL: u32 = 1;
/// The longest hello in bytes: nothing is known of the peer before it.
pub(crate) const HELLO_MAX: usize = 16 << 10;
/// The longest name of a process.
const NAME_MAX: usize = 256;
const MAGIC: [u8; 8] = *b"SYMPHONY";

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the process is.
    pub role: Role,
    /// What the link is for.
    pub purpose: LinkPurpose,
    /// The name of the process, unique among those of its role; at most 256 bytes.
    pub name: String,
    /// Its life: another number each time it starts.
    pub life: u64,
    /// What it can do beyond what its version has to, as bits. Unknown bits mean nothing.
    pub capabilities: u64,
    /// What the role says beside this.
    pub details: Bytes,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It takes requests.
    Frontend,
    /// It plans batches.
    Scheduler,
    /// It runs batches.
    Backend,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkPurpose {
    /// Requests without their tensors, and plans.
    Scheduling,
    /// Tensors and outcomes.
    Data,
}

impl Role {
    /// Its name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Frontend => "frontend",
            Role::Scheduler => "scheduler",
            Role::Backend => "backend",
        }
    }
}

/// What a process says of its end of a link, beside who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How often it sends a heartbeat.
    pub(crate) heartbeat: Duration,
    /// The longest frame body that it takes.
    pub(crate) frame_max: usize,
    /// Bytes of the memory that it passes along; zero for none.
    pub(crate) arena: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FirstLayout {
    magic: [u8; 8],
    version: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HelloLayout {
    heartbeat_us: U32,
    frame_max: U32,
    arena: U64,
    capabilities: U64,
    life: U64,
    role: u8,
    purpose: u8,
    name: U16,
}

impl Hello {
    pub(crate) fn encode(&self, terms: Terms, to: &mut FrameWriter<'_>) {
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_MAX)];
        let heartbeat = u32::try_from(terms.heartbeat.as_micros()).unwrap_or(u32::MAX);
        to.kind(kinds::HELLO).put(&FirstLayout { magic: MAGIC, version: PROTOCOL.into() });
        to.put(&HelloLayout {
            heartbeat_us: heartbeat.into(),
            frame_max: u32::try_from(terms.frame_max).unwrap_or(u32::MAX).into(),
            arena: terms.arena.into(),
            capabilities: self.capabilities.into(),
            life: self.life.into(),
            role: match self.role {
                Role::Frontend => 0,
                Role::Scheduler => 1,
                Role::Backend => 2,
            },
            purpose: match self.purpose {
                LinkPurpose::Scheduling => 0,
                LinkPurpose::Data => 1,
            },
            name: u16::try_from(name.len()).unwrap_or(u16::MAX).into(),
        });
        to.bytes(name).bytes(&self.details);
    }

    /// Reads the body of a hello.
    pub(crate) fn decode(body: &[u8]) -> Result<(Hello, Terms), LinkError> {
        let short = |what| DecodeError::Short { kind: kinds::HELLO, what };
        let none = |what| DecodeError::Value { kind: kinds::HELLO, what };
        let (first, rest) = FirstLayout::ref_from_prefix(body).map_err(|_| short("version"))?;
        if first.magic != MAGIC {
            return Err(none("first word").into());
        }
        let theirs = first.version.get();
        if theirs != PROTOCOL {
            return Err(LinkError::Version { theirs, ours: PROTOCOL });
        }
        let (layout, rest) = HelloLayout::ref_from_prefix(rest).map_err(|_| short("facts"))?;
        let name = rest.split_at_checked(usize::from(layout.name.get()));
        let (name, details) = name.ok_or(short("name"))?;
        if name.len() > NAME_MAX {
            return Err(none("name of that length").into());
        }
        let role = match layout.role {
            0 => Role::Frontend,
            1 => Role::Scheduler,
            2 => Role::Backend,
            _ => return Err(none("role").into()),
        };
        let purpose = match layout.purpose {
            0 => LinkPurpose::Scheduling,
            1 => LinkPurpose::Data,
            _ => return Err(none("purpose").into()),
        };
        let hello = Hello {
            role,
            purpose,
            name: std::str::from_utf8(name).map_err(|_| none("name"))?.to_owned(),
            life: layout.life.get(),
            capabilities: layout.capabilities.get(),
            details: Bytes::copy_from_slice(details),
        };
        let heartbeat = Duration::from_micros(layout.heartbeat_us.get().into());
        let frame_max = usize::try_from(layout.frame_max.get()).unwrap_or(usize::MAX);
        Ok((hello, Terms { heartbeat, frame_max, arena: layout.arena.get() }))
    }
}
