//! Requests that choose their sizes: open dimensions, rows along any axis, inputs that are shared,
//! repeated or left out.

use crate::expect_error;
use crate::support::Rig;
use serde_json::{Value, json};

const OPEN: &str = "/v2/models/open/infer";

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> Value {
    let count = shape.iter().map(|size| size.max(&0)).product::<i64>();
    let data: Vec<i64> = (0..count).collect();
    json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
}

/// The inputs of so many rows, with these sizes of the open dimensions.
fn inputs(rows: i64, sequence: i64, width: i64) -> Vec<Value> {
    vec![
        tensor("ids", "INT32", &[rows, sequence]),
        tensor("mask", "INT32", &[rows, sequence]),
        tensor("state", "FP32", &[2, rows, width]),
        tensor("rate", "INT64", &[]),
        tensor("user", "FP32", &[rows, 2]),
    ]
}

/// The inputs of two rows, one of them changed.
fn changed(input: Value) -> Vec<Value> {
    let same = |other: &Value| other["name"] == input["name"];
    let inputs = inputs(2, 5, 3);
    inputs.into_iter().map(|other| if same(&other) { input.clone() } else { other }).collect()
}

fn without(name: &str) -> Vec<Value> {
    inputs(2, 5, 3).into_iter().filter(|input| input["name"] != name).collect()
}

#[tokio::test]
async fn requests_choose_the_sizes_of_open_dimensions() {
    let rig = Rig::start().await;
    for (rows, sequence, width) in [(1, 1, 1), (4, 8, 3), (3, 5, 2)] {
        let sent = inputs(rows, sequence, width);
        let answer = rig.post(OPEN, json!({"inputs": sent}).to_string()).await.json();
        for (index, sent) in sent.iter().take(4).enumerate() {
            let got = &answer["outputs"][index];
            assert_eq!((&got["name"], &got["shape"]), (&sent["name"], &sent["shape"]), "{answer}");
            let numbers = |value: &Value| value["data"].as_array().unwrap().clone();
            let numbers =
                |value: &Value| numbers(value).iter().map(Value::as_f64).collect::<Vec<_>>();
            assert_eq!(numbers(got), numbers(sent));
        }
    }
}

#[tokio::test]
async fn inputs_are_left_out_or_given_once_for_all_rows() {
    let rig = Rig::start().await;
    for inputs in [without("rate"), changed(tensor("user", "FP32", &[1, 2]))] {
        let reply = rig.post(OPEN, json!({"inputs": inputs}).to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let rate = if inputs.len() == 4 { 16_000 } else { 0 };
        assert_eq!(reply.json()["outputs"][3]["data"], json!([rate]));
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_by_name() {
    let rig = Rig::start().await;
    let cases = [
        (
            changed(tensor("ids", "INT32", &[2, 9])),
            "dimension \"sequence\" is 9, more than the bound of 8: send less, or raise max_size in the model.toml of model \"open\"",
        ),
        (changed(tensor("ids", "INT32", &[2, 0])), "dimension \"sequence\" is 0, give at least 1"),
        (changed(tensor("ids", "INT32", &[2, -1])), "negative"),
        (
            changed(tensor("mask", "INT32", &[2, 4])),
            "dimension \"sequence\" is 5 in input \"ids\" and 4 in input \"mask\"",
        ),
        (
            changed(tensor("state", "FP32", &[2, 3, 3])),
            "input \"state\" has 3 rows, input \"ids\" has 2: the number of rows must be the same for all",
        ),
        (
            changed(tensor("state", "FP32", &[3, 2, 3])),
            "takes [2, -1, -1] (dimension 1, from 0, is the number of rows)",
        ),
        (
            changed(tensor("user", "FP32", &[3, 2])),
            "input \"user\" has 3 rows, input \"ids\" has 2",
        ),
        (changed(tensor("rate", "INT64", &[1])), "the model takes []"),
        (
            without("mask"),
            "input \"mask\" of model \"open\" is missing: requests are padded along dimension \"sequence\", and without it the model would take padding for contents; send it with size 5 there, as input \"ids\" has",
        ),
        (without("state"), "input \"state\" of model \"open\" is missing"),
    ];
    for (inputs, part) in cases {
        let reply = rig.post(OPEN, json!({"inputs": inputs}).to_string()).await;
        expect_error(&reply, 400, part, part);
    }
}

#[tokio::test]
async fn open_dimensions_are_shown_as_such() {
    let rig = Rig::start().await;
    let metadata = rig.get("/v2/models/open").await.json();
    let shapes: Vec<_> =
        metadata["inputs"].as_array().unwrap().iter().map(|i| &i["shape"]).collect();
    assert_eq!(json!(shapes), json!([[-1, -1], [-1, -1], [2, -1, -1], [], [-1, 2]]));
    let config = rig.get("/v2/models/open/config").await.json();
    // The protocol's configuration has one place for the batch dimension, and it is not here.
    assert_eq!(config["max_batch_size"], 0);
    assert_eq!(config["input"][2]["dims"], json!([2, -1, -1]));
    assert_eq!(
        (&config["input"][3]["optional"], &config["input"][0]["optional"]),
        (&json!(true), &json!(false))
    );
}
