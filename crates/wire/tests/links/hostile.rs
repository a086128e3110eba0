//! What becomes of a peer that does not keep to the rules: it is refused, its link ends, and nobody
//! else notices.

use super::carriers::{Backend, Carrier, Frontend, Place, hello, pair};
use super::raw::{RawPeer, claiming, frame, hello_bytes};
use bytes::Bytes;
use std::time::Duration;
use symphony_core::Span;
use symphony_wire::carrier::link::{LinkError, LinkSettings, Listener, SendError, connect};
use symphony_wire::message::link::{BackendToFrontend, Fetch, FrontendToBackend};
use symphony_wire::tensor::Inputs;
use tokio::time::timeout;

const HELLO: u8 = 0;
const SUBMIT: u8 = 16;
const INPUTS: u8 = 96;
/// Nothing takes longer on any machine.
const LONG: Duration = Duration::from_secs(20);

async fn listen(carrier: Carrier, settings: &LinkSettings) -> (Listener, Place) {
    let place = carrier.place();
    (Listener::bind(&place.endpoint, settings).await.unwrap(), place)
}

/// A link still comes about, whatever happened before.
async fn still_works(listener: &Listener, settings: &LinkSettings) {
    let connecting = connect(listener.address(), hello("frontend"), settings);
    let welcoming = async {
        let incoming = listener.accept().await;
        assert_eq!(incoming.hello().name, "frontend", "nobody else has got this far");
        incoming.welcome(&hello("backend"))
    };
    let (connected, mut welcomed): (_, Backend) = tokio::join!(connecting, welcoming);
    let frontend: Frontend = connected.unwrap();
    frontend.sender.send(&FrontendToBackend::NoInputs { number: 3 }).unwrap();
    let message = welcomed.receiver.next().await.unwrap().message;
    assert_eq!(message, FrontendToBackend::NoInputs { number: 3 });
}

/// What the receiving end makes of a peer that says this after its hello.
async fn after_hello(carrier: Carrier, bytes: &[u8]) -> (LinkError, String) {
    let settings = carrier.settings();
    let (listener, _place) = listen(carrier, &settings).await;
    let mut peer = RawPeer::greeted(carrier, &listener).await;
    let mut link: Backend = listener.accept().await.welcome(&hello("backend"));
    peer.write(bytes).await;
    let end = loop {
        match timeout(LONG, link.receiver.next()).await.expect("an end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(link.sender.is_closed());
    let words = peer.last_words().await;
    still_works(&listener, &settings).await;
    (end, words)
}

async fn a_stranger_is_refused(carrier: Carrier) {
    let settings = LinkSettings { hello_timeout: Duration::from_millis(300), ..carrier.settings() };
    let (listener, _place) = listen(carrier, &settings).await;
    let good = hello_bytes(&settings).await;
    let other_version = {
        let mut bytes = good.clone();
        bytes[16] = 9;
        bytes
    };
    let other_magic = {
        let mut bytes = good.clone();
        bytes[8] = b'X';
        bytes
    };
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "a web browser",
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            "bytes, and the link takes",
        ),
        ("another version", other_version, "speaks version 9, this process version 1"),
        ("another protocol", other_magic, "first word"),
        ("four gigabytes", claiming(HELLO, u32::MAX, b"SYMPHONY"), "4294967295 bytes"),
        ("no hello", frame(SUBMIT, &[0; 56]), "kind 16"),
        ("half a hello", good[..20].to_vec(), "has not said who it is within"),
        ("nothing", Vec::new(), "has not said who it is within"),
        ("a hello too short", frame(HELLO, b"SYMPHONY\x01\0\0\0"), "ends before its facts"),
    ];
    for (what, bytes, expected) in cases {
        let mut peer = RawPeer::connect(carrier, &listener).await;
        peer.write(&bytes).await;
        let words = peer.last_words().await;
        assert!(words.contains(expected), "{what}: {words:?}");
    }
    still_works(&listener, &settings).await;
}

async fn random_bytes_are_refused(carrier: Carrier) {
    let settings = LinkSettings { hello_timeout: Duration::from_millis(100), ..carrier.settings() };
    let (listener, _place) = listen(carrier, &settings).await;
    let mut state = 0x5eed_u32;
    for length in 1..60 {
        let bytes: Vec<u8> = (0..length * 7)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_le_bytes()[3]
            })
            .collect();
        let mut peer = RawPeer::connect(carrier, &listener).await;
        peer.write(&bytes).await;
        drop(peer);
    }
    still_works(&listener, &settings).await;
}

async fn many_who_say_nothing_hold_nobody_up(carrier: Carrier) {
    let settings = carrier.settings();
    let (listener, _place) = listen(carrier, &settings).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(RawPeer::connect(carrier, &listener).await);
    }
    timeout(LONG, still_works(&listener, &settings)).await.expect("within the bound");
    drop(silent);
}

async fn a_peer_is_refused_with_a_reason(carrier: Carrier) {
    let settings = carrier.settings();
    let (listener, _place) = listen(carrier, &settings).await;
    let connecting = connect::<BackendToFrontend, FrontendToBackend>(
        listener.address(),
        hello("twin"),
        &settings,
    );
    let refusing = async { listener.accept().await.refuse("there is another \"twin\"") };
    let (refused, ()) = tokio::join!(connecting, refusing);
    let why = refused.unwrap_err();
    assert!(matches!(&why, LinkError::Refused(why) if why == "there is another \"twin\""), "{why}");
    still_works(&listener, &settings).await;
}

async fn what_is_no_message_ends_the_link(carrier: Carrier) {
    let hello = hello_bytes(&carrier.settings()).await;
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("two hellos", hello, "kind 0"),
        ("four gigabytes", claiming(INPUTS, u32::MAX, &[1; 100]), "4294967295 bytes"),
        ("another link's message", frame(SUBMIT, &[0; 48]), "kind 16"),
        ("an unknown kind", frame(255, &[]), "kind 255"),
        ("nonsense", frame(INPUTS, &[7; 30]), "ends before its sizes"),
        ("a heartbeat cut short", frame(3, &[1]), "ends before its time"),
    ];
    for (what, bytes, expected) in cases {
        let (end, words) = after_hello(carrier, &bytes).await;
        let LinkError::Malformed(problem) = end else { panic!("{what}: {end}") };
        assert!(problem.to_string().contains(expected), "{what}: {problem}");
        assert!(words.contains(expected), "the peer is told as well: {what}: {words:?}");
    }
}

async fn a_link_cut_within_a_frame_gives_no_half_message(carrier: Carrier) {
    let settings = carrier.settings();
    let (listener, _place) = listen(carrier, &settings).await;
    // Cut in a header, in a small frame and in a large one.
    for cut in [3, 10, 20_000] {
        let mut peer = RawPeer::greeted(carrier, &listener).await;
        let mut link: Backend = listener.accept().await.welcome(&hello("backend"));
        let whole = claiming(INPUTS, 1 << 20, &[0; 30_000]);
        peer.write(&frame(97, &[5, 0, 0, 0, 0, 0, 0, 0])).await;
        peer.write(&whole[..cut]).await;
        let first = link.receiver.next().await.unwrap().message;
        assert_eq!(first, FrontendToBackend::NoInputs { number: 5 });
        drop(peer);
        let end = timeout(LONG, link.receiver.next()).await.expect("an end");
        assert!(matches!(end, Err(LinkError::Closed(_) | LinkError::Io(_))), "{end:?}");
    }
    still_works(&listener, &settings).await;
}

async fn a_peer_that_has_gone_silent_is_noticed(carrier: Carrier) {
    let settings =
        LinkSettings { heartbeat: Duration::from_millis(50), missed_max: 3, ..carrier.settings() };
    let (listener, _place) = listen(carrier, &settings).await;
    // Half open: the stream stands, and nobody is at its other end any more.
    let peer = RawPeer::greeted(carrier, &listener).await;
    let mut link: Backend = listener.accept().await.welcome(&hello("backend"));
    let begun = std::time::Instant::now();
    let end = timeout(LONG, link.receiver.next()).await.expect("an end").unwrap_err();
    let LinkError::Silent(silent) = end else { panic!("{end}") };
    assert!(silent >= Span::from_millis(150) && begun.elapsed() >= Duration::from_millis(150));
    let refused = link.sender.send(&BackendToFrontend::Fetch(Fetch {
        epoch: 1,
        batch: symphony_core::BatchId(1),
        numbers: Vec::new(),
    }));
    assert!(matches!(refused, Err(SendError::Closed(_))), "{refused:?}");
    drop(peer);
}

async fn a_live_peer_with_nothing_to_say_is_no_silent_one(carrier: Carrier) {
    let settings =
        LinkSettings { heartbeat: Duration::from_millis(20), missed_max: 50, ..carrier.settings() };
    let (mut frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(carrier, &settings).await;
    let quiet = async {
        tokio::select! {
            end = frontend.receiver.next() => panic!("{end:?}"),
            end = backend.receiver.next() => panic!("{end:?}"),
        }
    };
    // Twice the time after which a dead one would have been noticed.
    assert!(timeout(Duration::from_secs(2), quiet).await.is_err());
}

async fn what_waits_for_a_slow_peer_is_bounded(carrier: Carrier) {
    let settings = LinkSettings { out_max: 1 << 20, ..carrier.settings() };
    let (listener, _place) = listen(carrier, &settings).await;
    let slow = RawPeer::greeted(carrier, &listener).await;
    let link: Frontend = listener.accept().await.welcome(&hello("frontend"));
    let inputs = Inputs::fixed(1, vec![Bytes::from(vec![1; 100_000])]);
    let message = FrontendToBackend::Inputs { number: 1, inputs };
    let mut taken = 0;
    let end = loop {
        match link.sender.send(&message) {
            Ok(()) => taken += 100_000,
            Err(error) => break error,
        }
        assert!(taken < 100 << 20, "never full");
    };
    assert_eq!(end, SendError::Full);
    // What a socket buffers is not ours.
    assert!(taken >= 1 << 20, "{taken}");
    drop(slow);
}

async fn a_slow_peer_gets_everything_in_the_end(carrier: Carrier) {
    let settings = LinkSettings { out_max: 1 << 20, ..carrier.settings() };
    let (frontend, mut backend, _listener): (Frontend, Backend, _) = pair(carrier, &settings).await;
    let count = 200_u8;
    let sending = async {
        for number in 0..count {
            let inputs = Inputs::fixed(1, vec![Bytes::from(vec![number; 50_000])]);
            let message = FrontendToBackend::Inputs { number: number.into(), inputs };
            while frontend.sender.send(&message) == Err(SendError::Full) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let receiving = async {
        for number in 0..count {
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let message = backend.receiver.next().await.unwrap().message;
            let FrontendToBackend::Inputs { number: came, inputs } = message else { panic!() };
            assert_eq!((came, inputs.tensors[0][49_999]), (number.into(), number));
        }
    };
    tokio::join!(sending, receiving);
}

async fn a_message_beyond_what_the_peer_takes_is_not_sent(carrier: Carrier) {
    let settings = LinkSettings { frame_max: 10_000, ..carrier.settings() };
    let (frontend, mut backend, _listener): (Frontend, Backend, _) = pair(carrier, &settings).await;
    let inputs = Inputs::fixed(1, vec![Bytes::from(vec![1; 20_000])]);
    let refused = frontend.sender.send(&FrontendToBackend::Inputs { number: 1, inputs });
    assert!(matches!(refused, Err(SendError::TooLarge { max: 10_000, .. })), "{refused:?}");
    frontend.sender.send(&FrontendToBackend::NoInputs { number: 2 }).unwrap();
    let message = backend.receiver.next().await.unwrap().message;
    assert_eq!(message, FrontendToBackend::NoInputs { number: 2 }, "the link goes on");
}

over_every_carrier!(
    a_stranger_is_refused,
    random_bytes_are_refused,
    many_who_say_nothing_hold_nobody_up,
    a_peer_is_refused_with_a_reason,
    what_is_no_message_ends_the_link,
    a_link_cut_within_a_frame_gives_no_half_message,
    a_peer_that_has_gone_silent_is_noticed,
    a_live_peer_with_nothing_to_say_is_no_silent_one,
    what_waits_for_a_slow_peer_is_bounded,
    a_slow_peer_gets_everything_in_the_end,
    a_message_beyond_what_the_peer_takes_is_not_sent,
);
