//! Clients that send slowly, hugely or not to the end, that half close, stay long or do not take
//! their answers: over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::time::Duration;
use support::{Reply, Rig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What requests may hold in these tests.
const ROOM: usize = 4 << 20;

/// What each of the clients sends that then stop.
const PART: usize = 400_000;

/// Enough of them to find no room.
const CROWD: usize = 12;

const ROW: &str =
    r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}"#;

async fn rig(body_timeout: Duration) -> Rig {
    Rig::start_with(|config| {
        config.request_bytes_max = ROOM;
        config.body_timeout = body_timeout;
    })
    .await
}

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")
}

/// Begins a request and sends a part of its body.
async fn begun(rig: &Rig, part: usize) -> TcpStream {
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let head = head("/v2/models/large/infer", 2 * PART);
    client.write_all(head.as_bytes()).await.unwrap();
    // One that is refused meanwhile takes no more.
    let _ = client.write_all(&vec![b' '; part]).await;
    client
}

/// What comes on a connection until its server ends it.
async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // It may be cut as well.
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn large(rig: &Rig) -> Reply {
    let length = "inference-header-content-length";
    rig.send("POST", "/v2/models/large/infer", &[(length, "0")], vec![0; PART]).await
}

#[tokio::test]
async fn clients_that_stop_in_the_middle_hold_no_more_than_the_budget() {
    let rig = rig(Duration::from_secs(3600)).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(begun(&rig, PART).await);
    }
    rig.until_metric_is("symphony_request_bytes_refused_total", |refused| refused >= 1.0).await;
    assert!(rig.metric("symphony_request_bytes").await <= ROOM as f64);
    assert_eq!(rig.post("/v2/models/echo/infer", ROW).await.status, 200, "there is room for it");
    // Those that bring nothing while there is little room make room.
    rig.until_metric_is("symphony_request_bytes", |held| held <= 0.75 * ROOM as f64).await;
    assert_eq!(large(&rig).await.status, 200);
    let mut answers = Vec::new();
    for mut client in crowd {
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        answers.push(answer.split(' ').nth(1).unwrap_or("").to_owned());
    }
    for status in ["429", "408", "400"] {
        assert!(answers.iter().any(|answer| answer == status), "no {status}: {answers:?}");
    }
    rig.until_metric("symphony_request_bytes", 0.0).await;
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_and_its_connection_goes_on() {
    let rig = Rig::start_with(|config| config.request_bytes_max = PART).await;
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let both = [
        head("/v2/models/large/infer", 2 * PART).into_bytes(),
        vec![b' '; 2 * PART],
        head("/v2/models/echo/infer", ROW.len()).into_bytes(),
        ROW.as_bytes().to_vec(),
    ];
    client.write_all(&both.concat()).await.unwrap();
    client.shutdown().await.unwrap();
    let answers = rest(&mut client).await;
    assert!(answers.starts_with("HTTP/1.1 429 "), "{answers}");
    assert!(answers.contains("\r\nretry-after: 1\r\n"), "{answers}");
    assert!(answers.contains("HTTP/1.1 200 "), "{answers}");
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let rig = rig(Duration::from_millis(50)).await;
    let mut client = begun(&rig, 7).await;
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("body_timeout_s"), "{answer}");
    assert_eq!(rig.metric(r#"symphony_refused_total{reason="stalled"}"#).await, 1.0);
}

#[tokio::test]
async fn the_body_for_an_unknown_model_is_not_read() {
    let rig = rig(Duration::from_secs(3600)).await;
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let head = "POST /v2/models/nope/infer HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                expect: 100-continue\r\ncontent-length: 1000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn tiny_chunks_are_one_body() {
    let rig = rig(Duration::from_secs(3600)).await;
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let mut sent = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                    transfer-encoding: chunked\r\n\r\n"
        .to_owned();
    for byte in ROW.chars().chain(" ".repeat(200_000).chars()) {
        sent.push_str("1\r\n");
        sent.push(byte);
        sent.push_str("\r\n");
    }
    sent.push_str("0\r\n\r\n");
    client.write_all(sent.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A call whose message comes piece by piece.
struct Call {
    pieces: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    answer: tokio::task::JoinHandle<Result<http::Response<Incoming>, hyper::Error>>,
}

/// Begins a call with a message of this length and sends a part of it.
async fn called(rig: &Rig, length: u32, part: usize) -> Call {
    let stream = TcpStream::connect(rig.addresses.grpc).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (pieces, body) = mpsc::channel(4);
    let request = http::Request::post(format!(
        "http://{}/inference.GRPCInferenceService/ModelInfer",
        rig.addresses.grpc
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(StreamBody::new(ReceiverStream::new(body)))
    .unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await });
    let mut begin = vec![0];
    begin.extend(length.to_be_bytes());
    begin.resize(5 + part, 0);
    pieces.send(Ok(Frame::data(begin.into()))).await.unwrap();
    Call { pieces, answer }
}

/// The code and the text of an answer.
async fn ended(call: Call) -> (String, String) {
    let Call { pieces, answer } = call;
    let response = answer.await.unwrap().unwrap();
    let text = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let found = (text("grpc-status").to_owned(), text("grpc-message").to_owned());
    drop(pieces);
    let _ = response.into_body().collect().await;
    found
}

#[tokio::test]
async fn calls_that_stop_in_the_middle_hold_no_more_than_the_budget() {
    let rig = rig(Duration::from_secs(3600)).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(called(&rig, 900_000, PART).await);
    }
    rig.until_metric_is("symphony_request_bytes_refused_total", |refused| refused >= 1.0).await;
    assert!(rig.metric("symphony_request_bytes").await <= ROOM as f64);
    assert_eq!(rig.post("/v2/models/echo/infer", ROW).await.status, 200, "there is room for it");
    rig.until_metric_is("symphony_request_bytes", |held| held <= 0.75 * ROOM as f64).await;
    assert_eq!(large(&rig).await.status, 200);
    rig.until("some were ended", |_| crowd.iter().any(|call| call.answer.is_finished())).await;
    let mut codes = Vec::new();
    for call in crowd {
        if call.answer.is_finished() {
            codes.push(ended(call).await.0);
        }
    }
    // RESOURCE_EXHAUSTED for those that found no room, DEADLINE_EXCEEDED for those that made it.
    for code in ["8", "4"] {
        assert!(codes.iter().any(|found| found == code), "no {code}: {codes:?}");
    }
    rig.until_metric("symphony_request_bytes", 0.0).await;
}

#[tokio::test]
async fn a_message_that_stalls_is_given_up() {
    let rig = rig(Duration::from_millis(50)).await;
    let (code, text) = ended(called(&rig, 900_000, 7).await).await;
    assert_eq!(code, "4");
    assert!(text.contains("body_timeout_s"), "{text}");
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer() {
    let rig = Rig::start().await;
    for (version, interim) in [("1.1", true), ("1.0", false)] {
        let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
        let head = head("/v2/models/held/infer", ROW.len()).replace("1.1", version);
        client.write_all(format!("{head}{ROW}").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        rig.until("it is queued", |rig| rig.held() == 1).await;
        if interim {
            let mut asked = [0; 25];
            client.read_exact(&mut asked).await.unwrap();
            assert!(asked.starts_with(b"HTTP/1.1 100 "));
        }
        assert_eq!(rig.release(), 1, "{version}: it was not taken for one that has left");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 ")), "{version}: {answer}");
    }
    assert!(rig.cancelled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let rig = Rig::start().await;
    // Closed in order, after half closing, and with something unread.
    for (half, garbage) in [(false, false), (true, false), (false, true)] {
        let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
        if garbage {
            client.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
            client.readable().await.unwrap();
        }
        let request = format!("{}{ROW}", head("/v2/models/held/infer", ROW.len()));
        client.write_all(request.as_bytes()).await.unwrap();
        rig.until("it is queued", |rig| !rig.inflight.is_empty()).await;
        if half {
            client.shutdown().await.unwrap();
        }
        drop(client);
        rig.until("it is taken out", |rig| rig.inflight.is_empty()).await;
    }
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 3).await;
}

#[tokio::test]
async fn a_connection_that_is_old_ends_after_its_answer() {
    let old = |config: &mut symphony_frontend::FrontendConfig| {
        config.connection_age_max = Some(Duration::from_millis(20));
    };
    let rig = Rig::start_with(old).await;
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let request = format!("{}{ROW}", head("/v2/models/held/infer", ROW.len()));
    client.write_all(request.as_bytes()).await.unwrap();
    rig.until("it is queued", |rig| rig.held() == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    rig.release();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let call = called(&rig, 900_000, 7).await;
    rig.until_metric(r#"symphony_connections{protocol="grpc"}"#, 1.0).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(call.pieces);
    let _ = call.answer.await.unwrap().unwrap();
    rig.until_metric(r#"symphony_connections{protocol="grpc"}"#, 0.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_given_up() {
    let rig = rig(Duration::from_millis(100)).await;
    let mut client = TcpStream::connect(rig.addresses.http).await.unwrap();
    let mut request = head("/v2/models/large/infer", PART)
        .replace("\r\n\r\n", "\r\ninference-header-content-length: 0\r\n\r\n")
        .into_bytes();
    request.resize(request.len() + PART, 0);
    let sent = async {
        // The server stops reading once it cannot write.
        while client.write_all(&request).await.is_ok() {}
    };
    let gone = rig.until_metric(r#"symphony_connections{protocol="http"}"#, 0.0);
    let first = rig.until_metric(r#"symphony_connections{protocol="http"}"#, 1.0);
    tokio::join!(sent, async {
        first.await;
        gone.await;
    });
}
