//! The kinds of frames. A number is never used again for something else, in any version.

// Of every link.
pub(crate) const HELLO: u8 = 0;
pub(crate) const REFUSED: u8 = 1;
pub(crate) const CLOSED: u8 = 2;
pub(crate) const PING: u8 = 3;
pub(crate) const PONG: u8 = 4;
pub(crate) const RETURNED: u8 = 5;

// From a frontend to the scheduler.
pub(crate) const SUBMIT: u8 = 16;
pub(crate) const CANCEL: u8 = 17;
pub(crate) const LANE_SIZE: u8 = 18;
pub(crate) const SIZE_COUNTS: u8 = 19;
pub(crate) const QUESTION: u8 = 20;
pub(crate) const COMMAND: u8 = 21;

// From the scheduler to a frontend.
pub(crate) const FRONTEND_WELCOME: u8 = 32;
pub(crate) const DROPPED: u8 = 33;
pub(crate) const UNLOADED: u8 = 34;
pub(crate) const FAILED: u8 = 35;
pub(crate) const CATALOG: u8 = 36;
pub(crate) const LANES: u8 = 37;
pub(crate) const SERVING: u8 = 38;
pub(crate) const ANSWER: u8 = 39;
pub(crate) const BACKEND_GONE: u8 = 40;

// From the scheduler to a backend.
pub(crate) const BACKEND_WELCOME: u8 = 48;
pub(crate) const PLAN: u8 = 49;
pub(crate) const ORDER: u8 = 50;
pub(crate) const FILE: u8 = 51;
pub(crate) const FRONTENDS: u8 = 52;
pub(crate) const BACKEND_REFUSED: u8 = 53;
pub(crate) const NO_FILE: u8 = 54;
pub(crate) const DRAIN: u8 = 55;

// From a backend to the scheduler.
pub(crate) const REGISTER: u8 = 64;
pub(crate) const COMPLETED: u8 = 65;
pub(crate) const HANDED_BACK: u8 = 66;
pub(crate) const LOST: u8 = 67;
pub(crate) const DONE: u8 = 68;
pub(crate) const REFINED: u8 = 69;
pub(crate) const GAPS: u8 = 70;
pub(crate) const LEAVING: u8 = 71;
pub(crate) const FILE_WANTED: u8 = 72;

// From a backend to a frontend.
pub(crate) const FETCH: u8 = 80;
pub(crate) const OUTCOME: u8 = 81;
pub(crate) const NOT_RUN: u8 = 82;

// From a frontend to a backend.
pub(crate) const INPUTS: u8 = 96;
pub(crate) const NO_INPUTS: u8 = 97;
pub(crate) const AWAITED: u8 = 99;
