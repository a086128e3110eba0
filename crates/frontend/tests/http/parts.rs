//! Requests of more rows than a batch takes: queued in parts, answered as one.

use crate::support::Rig;
use crate::{expect_error, one};
use serde_json::{Value, json};
use std::sync::Arc;
use symphony_wire::message::ServedModel;

/// A request of so many rows, whose numbers count up.
fn rows(count: i64) -> String {
    one(&[count, 2], &json!((0..2 * count).collect::<Vec<_>>()))
}

fn floats(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn outcome(model: &str, outcome: &str) -> String {
    format!(r#"symphony_requests_total{{model="{model}",version="3",outcome="{outcome}"}}"#)
}

#[tokio::test]
async fn a_large_request_is_answered_as_one() {
    let rig = Rig::start().await;
    for count in [5, 8, 11, 12] {
        let answer = rig.post("/v2/models/echo/infer", rows(count)).await.json();
        let output = &answer["outputs"][0];
        assert_eq!(output["shape"], json!([count, 2]), "{answer}");
        let expected: Vec<_> = (0..2 * u32::try_from(count).unwrap()).map(f64::from).collect();
        assert_eq!(floats(&output["data"]), expected);
    }
    assert_eq!(rig.metric(&outcome("echo", "good")).await, 4.0);
    let sample = r#"nv_inference_count{model="echo",version="3"}"#;
    assert_eq!(rig.metric(sample).await, f64::from(5 + 8 + 11 + 12));
    let sample = r#"symphony_request_seconds_count{model="echo",version="3"}"#;
    assert_eq!(rig.metric(sample).await, 4.0);
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
    assert!(rig.inflight.is_empty());
}

#[tokio::test]
async fn rows_along_another_dimension_are_divided_and_joined_too() {
    let rig = Rig::start().await;
    let tensor = |name: &str, datatype: &str, shape: &[i64]| {
        let data: Vec<i64> = (0..shape.iter().product()).collect();
        json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
    };
    let inputs = [
        tensor("ids", "INT32", &[7, 3]),
        tensor("mask", "INT32", &[7, 3]),
        tensor("state", "FP32", &[2, 7, 2]),
        tensor("rate", "INT64", &[]),
        tensor("user", "FP32", &[1, 2]),
    ];
    let body = json!({"inputs": inputs, "outputs": [{"name": "state"}, {"name": "rate"}, {"name": "ids"}]});
    let answer = rig.post("/v2/models/open/infer", body.to_string()).await.json();
    for (output, sent) in answer["outputs"].as_array().unwrap().iter().zip([2, 3, 0]) {
        let sent = &inputs[sent];
        assert_eq!((&output["name"], &output["shape"]), (&sent["name"], &sent["shape"]));
        assert_eq!(floats(&output["data"]), floats(&sent["data"]));
    }
}

#[tokio::test]
async fn what_becomes_of_one_part_becomes_of_the_request() {
    let rig = Rig::start().await;
    // Parts of 4, 3 and 3 rows, or 3, 3, and 3 where all are odd.
    let reply = rig.post("/v2/models/odd/infer", rows(10)).await;
    expect_error(&reply, 500, "operator Foo divided by zero", "failed");
    assert_eq!(rig.metric(&outcome("odd", "failed")).await, 1.0);
    rig.until("the part that waits is taken out", |rig| rig.inflight.is_empty()).await;
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 1).await;
    for (model, status, part) in [
        ("failing", 500, "divided by zero"),
        ("choosy", 400, "too odd"),
        ("drop_overload", 504, "more requests arrive than can be served"),
        ("drop_queue_full", 429, "is full"),
    ] {
        let path = format!("/v2/models/{model}/infer");
        expect_error(&rig.post(&path, rows(9)).await, status, part, model);
        assert!(rig.inflight.is_empty(), "{model}");
    }
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn all_parts_are_taken_out_at_the_deadline_and_when_the_client_leaves() {
    let rig = Rig::start().await;
    let reply = rig.post("/v2/models/ignored/infer", rows(9)).await;
    expect_error(&reply, 504, "still queued after", "ignored");
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 3).await;
    assert!(rig.inflight.is_empty());
    let address = rig.addresses.http;
    let leaves = tokio::spawn(async move {
        let body = rows(9).into();
        crate::support::send(address, "POST", "/v2/models/held/infer", &[], body).await
    });
    rig.until("all parts are queued", |rig| rig.held() == 3).await;
    leaves.abort();
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 6).await;
    assert!(rig.inflight.is_empty());
    rig.until_metric(&outcome("held", "cancelled"), 1.0).await;
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn parts_for_which_there_is_no_room_leave_nothing_behind() {
    let rig = Rig::start().await;
    // Room for 64 requests: 21 of three parts each, and for one part of the next.
    let calls: Vec<_> = (0..21)
        .map(|_| {
            let address = rig.addresses.http;
            tokio::spawn(async move {
                let body = rows(9).into();
                crate::support::send(address, "POST", "/v2/models/held/infer", &[], body).await
            })
        })
        .collect();
    rig.until("all parts are queued", |rig| rig.held() == 63).await;
    let reply = rig.post("/v2/models/held/infer", rows(9)).await;
    expect_error(&reply, 429, "64 requests are already in flight", "no room");
    rig.until("its part is taken out", |rig| rig.inflight.len() == 63).await;
    rig.until("the one part was queued", |rig| rig.held() == 64).await;
    assert_eq!(rig.release(), 63);
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_request_of_which_a_part_comes_back_goes_on_to_the_next_version_as_a_whole() {
    let rig = Rig::start().await;
    let address = rig.addresses.http;
    let call = tokio::spawn(async move {
        let body = rows(9).into();
        crate::support::send(address, "POST", "/v2/models/held/infer", &[], body).await
    });
    rig.until("all parts are queued", |rig| rig.held() == 3).await;
    // The next version is the one that answers.
    rig.catalog.update(|catalog| {
        let named = |name| catalog.served().find(|model| model.name == name).unwrap();
        let (echo, held) = (named("echo"), named("held"));
        let lanes = Arc::clone(&echo.lanes);
        let next = ServedModel { id: echo.id, lanes, ..ServedModel::clone(held) };
        catalog.models.insert("held".to_owned(), Arc::new(next).into());
    });
    rig.give_back(1);
    let answer = call.await.unwrap().json();
    let expected: Vec<_> = (0..18).map(f64::from).collect();
    assert_eq!(floats(&answer["outputs"][0]["data"]), expected, "{answer}");
    assert_eq!(rig.metric(&outcome("held", "good")).await, 1.0);
    assert_eq!(rig.cancelled.lock().unwrap().len(), 2);
    assert!(rig.inflight.is_empty());
}
