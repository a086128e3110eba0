//! Deadlines, clients that leave, and bounds on what is in flight.

use crate::support::{IN_FLIGHT_MAX, Rig};
use crate::{ECHO, expect_error, one, row};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_earliest_limit_decides_and_is_named() {
    let rig = Rig::start().await;
    let ask = |timeout: Option<Value>| {
        let mut body: Value = serde_json::from_str(&row()).unwrap();
        if let Some(timeout) = timeout {
            body["parameters"] = json!({"timeout": timeout});
        }
        body.to_string()
    };
    let own = |ms: &str| format!("the request's own limit of {ms}");
    let cases = [
        ("ignored", None, None, "the model's objective of 40.000ms".to_owned(), "still queued"),
        ("ignored", None, Some("9999"), "the model's objective of 40.000ms".to_owned(), "queued"),
        ("ignored", Some(json!(0)), None, "the model's objective of 40.000ms".to_owned(), "queued"),
        ("ignored", Some(json!(20_000)), None, own("20.000ms"), "still queued"),
        ("ignored", Some(json!("20000")), Some("30"), own("20.000ms"), "still queued"),
        // Long enough that the request is surely taken before.
        ("running", Some(json!(9_000_000)), Some("1500.5"), own("1500.500ms"), "no result yet"),
    ];
    for (model, timeout, header, objective, why) in cases {
        let headers: Vec<_> = header.map(|ms| ("request-timeout-ms", ms)).into_iter().collect();
        let path = format!("/v2/models/{model}/infer");
        let reply = rig.send("POST", &path, &headers, ask(timeout)).await;
        expect_error(&reply, 504, &objective, model);
        expect_error(&reply, 504, why, model);
        expect_error(&reply, 504, &format!("model {model:?}"), model);
    }
    assert_eq!(rig.inflight.len(), 0);
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 5).await;
    let sample = r#"symphony_dropped_total{model="ignored",version="3",reason="expired"}"#;
    assert_eq!(rig.metric(sample).await, 5.0);
    let sample = r#"symphony_requests_total{model="running",version="3",outcome="late"}"#;
    assert_eq!(rig.metric(sample).await, 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let rig = Rig::start().await;
    let body = row();
    let head = format!(
        "POST /v2/models/held/infer HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(rig.addresses.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    rig.until("queued", |rig| rig.held() == 1).await;
    drop(stream);
    rig.until("taken out", |rig| rig.inflight.is_empty()).await;
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 1).await;
    assert_eq!(rig.release(), 0, "nobody is left to answer");
    let sample = r#"symphony_requests_total{model="held",version="3",outcome="cancelled"}"#;
    assert_eq!(rig.metric(sample).await, 1.0);
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn too_many_in_flight_are_told_to_come_back() {
    let rig = std::sync::Arc::new(Rig::start().await);
    let clients: Vec<_> = (0..IN_FLIGHT_MAX)
        .map(|_| {
            let rig = std::sync::Arc::clone(&rig);
            tokio::spawn(async move { rig.post("/v2/models/held/infer", row()).await.status })
        })
        .collect();
    rig.until("all are queued", |rig| rig.held() == IN_FLIGHT_MAX).await;
    let reply = rig.post(ECHO, row()).await;
    expect_error(&reply, 429, "64 requests are already in flight", "one more");
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(rig.release(), IN_FLIGHT_MAX);
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    assert_eq!(rig.post(ECHO, row()).await.status, 200);
}

#[tokio::test]
async fn the_bytes_of_requests_in_flight_are_bounded() {
    let bytes = row().len();
    let rig = Rig::start_with(|config| config.request_bytes_max = bytes + 10).await;
    let rig = std::sync::Arc::new(rig);
    let held = std::sync::Arc::clone(&rig);
    let two_rows = one(&[2, 2], &json!([1, 2, 3, 4]));
    let first =
        tokio::spawn(async move { held.post("/v2/models/held/infer", two_rows).await.status });
    rig.until("queued", |rig| rig.held() == 1).await;
    let reply = rig.post(ECHO, row()).await;
    // The body of the one that is queued is gone, and its tensor is there.
    expect_error(&reply, 429, "requests hold 16 bytes", "a body more");
    assert_eq!(rig.metric("symphony_request_bytes_refused_total").await, 1.0);
    rig.release();
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(rig.post(ECHO, row()).await.status, 200);
    assert_eq!(rig.metric("symphony_request_bytes").await, 0.0);
}
