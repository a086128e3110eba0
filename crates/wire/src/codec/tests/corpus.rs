//! Frames that are kept: what this version of the frames looks like, and what is none of them.
//!
//! `tests/corpus/NAME-KIND.bin` is one frame of a message from one role to another. It has to be read,
//! and written again to the same bytes: a change of the frames needs a new version of the protocol.
//! `tests/corpus/bad-NAME.bin` is refused whoever it is for. After such a change write them anew:
//!
//! ```text
//! cargo test -p symphony-wire -- --ignored write_the_corpus
//! ```

use super::{check_kept, frame_of, read_as_everything, values};
use crate::codec::Frame;
use crate::codec::kinds::{
    BACKEND_WELCOME, COMPLETED, FETCH, INPUTS, ORDER, OUTCOME, PLAN, REFINED, REGISTER, SUBMIT,
};
use crate::codec::layout::{HEADER, Header};
use crate::message::link::{
    BackendToFrontend, BackendToScheduler, FrontendToBackend, FrontendToScheduler,
    SchedulerToBackend, SchedulerToFrontend,
};
use bytes::Bytes;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use zerocopy::IntoBytes;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Every kept frame, by name.
fn kept() -> BTreeMap<String, Bytes> {
    let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let frames = files.filter(|path| path.extension().is_some_and(|name| name == "bin"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, Bytes::from(fs::read(path).unwrap()))
    };
    frames.map(read).collect()
}

#[test]
fn kept_frames_are_read_and_written_as_they_are() {
    let mut seen = 0;
    for (name, frame) in kept() {
        let Some((way, _)) = name.rsplit_once('-') else { panic!("{name}: no kind") };
        match way {
            "frontend_to_scheduler" => check_kept::<FrontendToScheduler>(&name, &frame),
            "scheduler_to_frontend" => check_kept::<SchedulerToFrontend>(&name, &frame),
            "scheduler_to_backend" => check_kept::<SchedulerToBackend>(&name, &frame),
            "backend_to_scheduler" => check_kept::<BackendToScheduler>(&name, &frame),
            "backend_to_frontend" => check_kept::<BackendToFrontend>(&name, &frame),
            "frontend_to_backend" => check_kept::<FrontendToBackend>(&name, &frame),
            _ => continue,
        }
        seen += 1;
    }
    assert_eq!(seen, 37, "one of each kind");
}

#[test]
fn bad_frames_are_refused() {
    let kept = kept();
    for (name, frame) in bad_frames() {
        assert_eq!(kept.get(&format!("bad-{name}")), Some(&frame), "{name} is another frame");
        let read = read_as_everything(frame[4], &frame[HEADER..]);
        assert!(read.iter().all(Result::is_err), "{name}: {read:?}");
    }
}

#[test]
#[ignore = "writes files of the repository"]
fn write_the_corpus() {
    write("frontend_to_scheduler", values::frontend_to_scheduler());
    write("scheduler_to_frontend", values::scheduler_to_frontend());
    write("scheduler_to_backend", values::scheduler_to_backend());
    write("backend_to_scheduler", values::backend_to_scheduler());
    write("backend_to_frontend", values::backend_to_frontend());
    write("frontend_to_backend", values::frontend_to_backend());
    for (name, frame) in bad_frames() {
        fs::write(directory().join(format!("bad-{name}.bin")), frame).unwrap();
    }
}

/// The longest message of each kind among a few.
fn write<M: Frame + std::fmt::Debug>(way: &str, messages: impl Strategy<Value = M>) {
    let mut runner = TestRunner::deterministic();
    let mut longest: BTreeMap<u8, Bytes> = BTreeMap::new();
    for _ in 0..400 {
        let frame = frame_of(&messages.new_tree(&mut runner).unwrap().current());
        let before = longest.entry(frame[4]).or_default();
        if before.len() < frame.len() && frame.len() < 1500 {
            *before = frame;
        }
    }
    for (kind, frame) in longest {
        fs::write(directory().join(format!("{way}-{kind}.bin")), frame).unwrap();
    }
}

/// Frames that are nearly some of ours.
fn bad_frames() -> Vec<(&'static str, Bytes)> {
    let frame = |kind: u8, parts: &[&[u8]]| {
        let body = parts.concat();
        let header = Header::new(kind, u32::try_from(body.len()).unwrap());
        Bytes::from([header.as_bytes(), &body].concat())
    };
    let word = |number: u64| number.to_le_bytes();
    let half = |number: u32| number.to_le_bytes();
    let request = [word(1).as_slice(), &[0; 4]].concat();
    let submit = |rows: u32, model: u32, class: u8| {
        let numbers = [half(rows), half(model), half(0)].concat();
        frame(SUBMIT, &[&request, &numbers, &word(1), &word(2), &[class], &[0; 7]])
    };
    let inputs = |sizes: u32, tensors: u32, rest: &[u8]| {
        let counts = [half(1), half(sizes), half(tensors), half(0)].concat();
        frame(INPUTS, &[&word(1), &counts, rest])
    };
    // A sized profile of one size, 7, in postcard: its execution times, no spread, its slowdown.
    let costs = |exec: &[u8], slowdown: &[u8]| {
        let head = [1, 7, u8::try_from(exec.len()).unwrap()];
        frame(REFINED, &[&word(0), &head, exec, &[0], slowdown])
    };
    let one = [0x80, 0x80, 0x04];
    vec![
        ("nobody", frame(250, &[])),
        ("empty-submit", frame(SUBMIT, &[])),
        ("no-rows", submit(0, 0, 0)),
        ("no-such-model", submit(1, u32::MAX, 0)),
        ("no-such-class", submit(1, 0, 9)),
        ("frontend-beyond", {
            let id = [word(1).as_slice(), &[0xff; 4]].concat();
            frame(SUBMIT, &[&id, &[1, 0, 0, 0], &[0; 32]])
        }),
        ("ragged-numbers", frame(FETCH, &[&word(1), &word(2), &[1, 2, 3]])),
        ("endless-sizes", inputs(u32::MAX, 0, &[])),
        ("endless-tensors", inputs(0, u32::MAX, &[])),
        ("endless-tensor", inputs(0, 1, &[word(u64::MAX), word(u64::MAX)].concat())),
        ("tensor-elsewhere", inputs(0, 1, &[word(1), word(0)].concat())),
        ("tensor-cut-short", inputs(0, 1, &[&[9, 0, 0, 0, 0, 0, 0, 0], &[0xff; 12][..]].concat())),
        ("endless-plan", frame(PLAN, &[&word(1), &word(1), &[0; 24], &half(u32::MAX), &half(0)])),
        ("accelerator-beyond", {
            frame(COMPLETED, &[&word(1), &word(1), &word(0), &half(u32::MAX), &[0; 36]])
        }),
        ("no-such-outcome", frame(OUTCOME, &[&word(1), &[77], &[0; 7]])),
        ("outcome-no-text", frame(OUTCOME, &[&word(1), &[4], &[0; 7], &[0xff, 0xfe]])),
        ("endless-list", frame(BACKEND_WELCOME, &[&word(1), &[0xff, 0xff, 0xff, 0xff, 0x0f]])),
        ("no-such-order", frame(ORDER, &[&word(1), &[99]])),
        ("endless-name", frame(REGISTER, &[&[0xff, 0xff, 0xff, 0xff, 0x7f], b"name"])),
        ("profile-of-nothing", costs(&[], &one)),
        ("profile-of-no-time", costs(&[0, 3], &one)),
        ("profile-that-falls", costs(&[5, 3], &one)),
        ("profile-of-no-slowdown", costs(&[3, 5], &[0])),
    ]
}
