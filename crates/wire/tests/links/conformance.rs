//! What two well-behaved ends see.

use super::carriers::{Asking, Backend, Carrier, Frontend, Scheduling, hello, pair};
use bytes::Bytes;
use std::time::Duration;
use symphony_core::{BatchId, Class, ModelId, RequestId, Span};
use symphony_wire::carrier::link::{LinkError, LinkSettings, SendError};
use symphony_wire::message::Submit;
use symphony_wire::message::link::{
    BackendToFrontend, Fetch, FrontendToBackend, FrontendToScheduler,
};
use symphony_wire::tensor::Inputs;

fn submit(number: u64) -> FrontendToScheduler {
    FrontendToScheduler::Submit(Submit {
        model: ModelId::first(3),
        id: RequestId::only(number),
        age: Span(number),
        budget: Span(1000),
        rows: 1,
        class: Class::High,
    })
}

/// A tensor, in memory that both ends have where they have some.
fn tensor(settings: &LinkSettings, length: usize, seed: usize) -> Bytes {
    let byte = |at: usize| u8::try_from((at * 7 + seed) % 251).unwrap();
    match settings.arena.as_ref().and_then(|arena| arena.buffer(length)) {
        Some(mut buffer) => {
            buffer.iter_mut().enumerate().for_each(|(at, place)| *place = byte(at));
            buffer.freeze()
        }
        None => (0..length).map(byte).collect(),
    }
}

async fn both_ends_know_each_other(carrier: Carrier) {
    let (frontend, backend, listener): (Frontend, Backend, _) =
        pair(carrier, &carrier.settings()).await;
    assert_eq!((frontend.peer, backend.peer), (hello("backend"), hello("frontend")));
    assert!(!listener.address().to_string().ends_with(":0"));
}

async fn messages_arrive_in_order(carrier: Carrier) {
    let settings = carrier.settings();
    let (frontend, mut scheduler, _listener): (Asking, Scheduling, _) =
        pair(carrier, &settings).await;
    let count = 50_000;
    let sending = std::thread::spawn(move || {
        for number in (0..count).step_by(10) {
            frontend.sender.send(&submit(number)).unwrap();
            let more: Vec<_> = (number + 1..number + 10).map(submit).collect();
            frontend.sender.send_all(&more).unwrap();
        }
        frontend
    });
    let mut came = 0;
    while came < count {
        let each = |timed: symphony_wire::carrier::Timed<_>| {
            assert_eq!(timed.message, submit(came));
            assert!(timed.at <= settings.clock.now());
            came += 1;
        };
        scheduler.receiver.drain(each).await.unwrap();
    }
    sending.join().unwrap();
}

async fn tensors_of_every_length_arrive_whole(carrier: Carrier) {
    let settings = carrier.settings();
    let (frontend, mut backend, _listener): (Frontend, Backend, _) = pair(carrier, &settings).await;
    let lengths = [0, 1, 100, 2047, 2048, 16_000, 16_384, 65_528, 65_536, 70_000, 3_000_000];
    let inputs = |number: usize| Inputs {
        rows: 3,
        sizes: vec![number, 9],
        tensors: lengths[number..]
            .iter()
            .map(|length| tensor(&settings, *length, number))
            .collect(),
    };
    for number in 0..lengths.len() {
        let message = FrontendToBackend::Inputs { number: number as u64, inputs: inputs(number) };
        frontend.sender.send(&message).unwrap();
        frontend.sender.send(&FrontendToBackend::NoInputs { number: 1 }).unwrap();
    }
    for number in 0..lengths.len() {
        let expected = FrontendToBackend::Inputs { number: number as u64, inputs: inputs(number) };
        assert!(backend.receiver.next().await.unwrap().message == expected, "inputs {number}");
        let next = backend.receiver.next().await.unwrap().message;
        assert_eq!(next, FrontendToBackend::NoInputs { number: 1 });
    }
}

async fn messages_go_both_ways(carrier: Carrier) {
    let (mut frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(carrier, &carrier.settings()).await;
    for number in 0..100 {
        let fetch = Fetch { epoch: 1, batch: BatchId(number), numbers: vec![number, number + 1] };
        backend.sender.send(&BackendToFrontend::Fetch(fetch.clone())).unwrap();
        let asked = frontend.receiver.next().await.unwrap().message;
        assert_eq!(asked, BackendToFrontend::Fetch(fetch));
        frontend.sender.send(&FrontendToBackend::NoInputs { number }).unwrap();
        let answer = backend.receiver.next().await.unwrap().message;
        assert_eq!(answer, FrontendToBackend::NoInputs { number });
    }
}

async fn heartbeats_measure_the_round_trip(carrier: Carrier) {
    let (mut frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(carrier, &carrier.settings()).await;
    let sender = frontend.sender.clone();
    let measured = async {
        while sender.round_trip().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = measured => {}
        end = frontend.receiver.next() => panic!("{end:?}"),
        end = backend.receiver.next() => panic!("{end:?}"),
    }
    let (round_trip, one_way) = (sender.round_trip().unwrap(), sender.one_way().unwrap());
    assert!(Span::ZERO < one_way && one_way < round_trip && round_trip < Span::from_secs(10));
}

async fn the_peer_is_told_why_a_link_is_closed(carrier: Carrier) {
    let (frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(carrier, &carrier.settings()).await;
    frontend.sender.send(&FrontendToBackend::NoInputs { number: 1 }).unwrap();
    frontend.sender.close("it is late");
    let refused = frontend.sender.send(&FrontendToBackend::NoInputs { number: 2 });
    assert_eq!(refused, Err(SendError::Closed("it is late".to_owned())));
    let first = backend.receiver.next().await.unwrap().message;
    assert_eq!(
        first,
        FrontendToBackend::NoInputs { number: 1 },
        "what was sent before still arrives"
    );
    let end = backend.receiver.next().await.unwrap_err();
    assert!(matches!(&end, LinkError::Closed(why) if why == "it is late"), "{end}");
    assert!(backend.sender.is_closed());
}

async fn a_link_lasts_as_long_as_its_receiver(carrier: Carrier) {
    let (frontend, mut backend, _listener): (Frontend, Backend, _) =
        pair(carrier, &carrier.settings()).await;
    let sender = frontend.sender.clone();
    drop(frontend);
    assert!(sender.is_closed());
    assert!(matches!(backend.receiver.next().await, Err(LinkError::Closed(_))));
}

over_every_carrier!(
    both_ends_know_each_other,
    messages_arrive_in_order,
    tensors_of_every_length_arrive_whole,
    messages_go_both_ways,
    heartbeats_measure_the_round_trip,
    the_peer_is_told_why_a_link_is_closed,
    a_link_lasts_as_long_as_its_receiver,
);
