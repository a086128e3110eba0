//! Tensors that lie in memory which both ends have.

use super::carriers::{Backend, Carrier, Frontend, hello, pair, settings};
use super::raw::{RawPeer, frame, hello_bytes};
use bytes::Bytes;
use std::time::Duration;
use symphony_wire::carrier::link::{LinkError, LinkSettings, Listener, SendError};
use symphony_wire::carrier::shared_memory::Arena;
use symphony_wire::message::link::FrontendToBackend;
use symphony_wire::tensor::Inputs;
use tokio::time::timeout;

/// Nothing takes longer on any machine.
const LONG: Duration = Duration::from_secs(20);
const SIZE: usize = 1 << 20;

fn with_arena() -> (LinkSettings, Arena) {
    let arena = Arena::new(SIZE).unwrap();
    (LinkSettings { arena: Some(arena.clone()), ..settings() }, arena)
}

fn tensor(arena: &Arena, length: usize, byte: u8) -> Bytes {
    let mut buffer = arena.buffer(length).unwrap();
    buffer.fill(byte);
    buffer.freeze()
}

fn message(number: u64, tensors: Vec<Bytes>) -> FrontendToBackend {
    FrontendToBackend::Inputs { number, inputs: Inputs::fixed(1, tensors) }
}

async fn inputs(backend: &mut Backend) -> Inputs {
    match timeout(LONG, backend.receiver.next()).await.unwrap().unwrap().message {
        FrontendToBackend::Inputs { inputs, .. } => inputs,
        other => panic!("{other:?}"),
    }
}

/// Waits until the whole arena is free, while both ends do what links do.
async fn is_free(arena: &Arena, mut frontend: Frontend) {
    let free = async {
        while arena.buffer(SIZE).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        freed = timeout(LONG, free) => freed.expect("the peer lets go"),
        end = frontend.receiver.next() => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn a_tensor_is_read_where_it_lies_and_freed_once_nobody_reads_it() {
    let (settings, arena) = with_arena();
    let (frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(Carrier::Unix, &settings).await;
    // Of these the socket carries only the small one, and the one that lies elsewhere.
    let tensors = |number: u8| {
        let elsewhere = Bytes::from(vec![number + 3; 70_000]);
        let large = tensor(&arena, 300_000, number);
        let part = tensor(&arena, 8192, number + 2).slice(100..8000);
        vec![large, tensor(&arena, 10, number + 1), part, elsewhere]
    };
    for number in 0..3 {
        frontend.sender.send(&message(number.into(), tensors(number))).unwrap();
    }
    let mut kept = Vec::new();
    for number in 0..3 {
        let came = inputs(&mut backend).await.tensors;
        let lengths: Vec<_> = came.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [300_000, 10, 7900, 70_000]);
        for (tensor, byte) in came.iter().zip(number..) {
            assert!(tensor.iter().all(|each| *each == byte), "{number}");
        }
        kept.push(came);
    }
    assert!(arena.buffer(300_000).is_none(), "the peer still reads");
    drop(kept);
    is_free(&arena, frontend).await;
}

#[tokio::test]
async fn tensors_on_loan_are_free_when_the_link_has_ended() {
    let (settings, arena) = with_arena();
    let (frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(Carrier::Unix, &settings).await;
    frontend.sender.send(&message(1, vec![tensor(&arena, SIZE, 4)])).unwrap();
    let held = inputs(&mut backend).await;
    assert!(arena.buffer(1).is_none());
    drop((frontend, backend));
    let free = async {
        while arena.buffer(SIZE).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, free).await.expect("the link lets go");
    assert_eq!(held.tensors[0].len(), SIZE, "whoever still reads reads something");
    assert_ne!(held.tensors[0].iter().map(|byte| u64::from(*byte)).sum::<u64>(), u64::MAX);
}

#[tokio::test]
async fn what_is_not_sent_is_not_lent() {
    let (settings, arena) = with_arena();
    let settings = LinkSettings { frame_max: 1000, ..settings };
    let (frontend, _backend, _listener): (Frontend, Backend, _) =
        pair(Carrier::Unix, &settings).await;
    let tensors = vec![tensor(&arena, 300_000, 4), Bytes::from(vec![0; 5000])];
    let refused = frontend.sender.send(&message(1, tensors));
    assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    assert!(arena.buffer(SIZE).is_some());
}

#[tokio::test]
async fn by_tcp_a_tensor_of_the_arena_travels_as_any_other() {
    let (settings, arena) = with_arena();
    let (frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(Carrier::Tcp, &settings).await;
    frontend.sender.send(&message(1, vec![tensor(&arena, 300_000, 4)])).unwrap();
    let came = inputs(&mut backend).await;
    assert!(came.tensors[0].iter().all(|byte| *byte == 4));
    is_free(&arena, frontend).await;
}

#[tokio::test]
async fn a_place_that_there_is_not_ends_the_link() {
    let settings = settings();
    let place = Carrier::Unix.place();
    let listener = Listener::bind(&place.endpoint, &settings).await.unwrap();
    let mut peer = RawPeer::greeted(Carrier::Unix, &listener).await;
    let mut link: Backend = listener.accept().await.welcome(&hello("backend"));
    let words: [u64; 5] = [1, 1, 1, 5000, 64];
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    peer.write(&frame(96, &body)).await;
    let end = timeout(LONG, link.receiver.next()).await.unwrap().unwrap_err();
    let LinkError::Malformed(problem) = end else { panic!("{end}") };
    assert!(problem.to_string().contains("place in shared memory"), "{problem}");
}

#[tokio::test]
async fn a_peer_that_passes_no_memory_and_says_it_does_is_refused() {
    let settings = settings();
    let place = Carrier::Unix.place();
    let listener = Listener::bind(&place.endpoint, &settings).await.unwrap();
    let mut bytes = hello_bytes(&settings).await;
    // After the header, the magic bytes and the version: how often heartbeats come, the longest frame,
    // and then the length of the memory.
    let at = 8 + 8 + 4 + 4 + 4;
    bytes[at..at + 8].copy_from_slice(&4096_u64.to_le_bytes());
    let mut peer = RawPeer::connect(Carrier::Unix, &listener).await;
    peer.write(&bytes).await;
    assert!(peer.last_words().await.contains("passed no memory, and said so"));
}
