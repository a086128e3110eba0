//! What requests and answers contain: JSON, binary tensors, raw bodies, compression.

use crate::support::Rig;
use crate::{ECHO, LENGTH, expect_error, one, row, with_binary};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::Read;
use symphony_wire::tensor::DataType;

#[tokio::test]
async fn json_requests_are_answered() {
    let rig = Rig::start().await;
    let nested = one(&[2, 2], &json!([[1, 2], [3, 4]]));
    let flat = one(&[2, 2], &json!([1, 2, 3, 4]));
    for (path, body) in [
        (ECHO, &nested),
        (ECHO, &flat),
        ("/v2/models/echo/versions/3/infer", &flat),
        ("/v2/models/flat/infer", &nested),
    ] {
        let reply = rig.post(path, body.clone()).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header(LENGTH), "");
        let answer = reply.json();
        assert_eq!(answer["model_version"], "3");
        assert_eq!(answer.get("id"), None);
        let output =
            json!({"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]});
        assert_eq!(answer["outputs"], json!([output]), "{path}");
    }
}

#[tokio::test]
async fn ids_come_back_and_outputs_are_chosen() {
    let rig = Rig::start().await;
    let inputs = json!([
        {"name": "b", "datatype": "INT32", "shape": [1, 1], "data": [-7]},
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2]},
    ]);
    let body = json!({"id": "r \"1\"", "inputs": inputs, "outputs": [{"name": "b"}]});
    let answer = rig.post("/v2/models/pair/infer", body.to_string()).await.json();
    assert_eq!(answer["id"], "r \"1\"");
    assert_eq!(
        answer["outputs"],
        json!([{"name": "b", "datatype": "INT32", "shape": [1, 1], "data": [-7]}])
    );
}

#[tokio::test]
async fn what_a_client_writes_as_null_it_has_not_given() {
    let rig = Rig::start().await;
    let null = Value::Null;
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2],
        "parameters": null});
    let timeout = json!({"timeout": null, "binary_data_output": null});
    for (parameters, outputs) in
        [(&null, &null), (&timeout, &json!([{"name": "x", "parameters": null}]))]
    {
        let body = json!({"id": null, "parameters": parameters, "inputs": [input],
            "outputs": outputs});
        let answer = rig.post("/v2/models/echo/infer", body.to_string()).await.json();
        assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.0]), "{answer}");
    }
}

/// Raw contents of three elements of each type, and their JSON form where there is one.
fn samples(datatype: DataType) -> (Vec<u8>, Option<Value>) {
    let raw = |size: usize| (0..3 * size).map(|i| u8::from(i % size == 0)).collect::<Vec<u8>>();
    match datatype {
        DataType::Bool => (vec![1, 0, 1], Some(json!([true, false, true]))),
        DataType::Fp16 | DataType::Bf16 => (raw(2), None),
        DataType::Fp32 => {
            let values = [0.1f32, -1e30, 16_777_217.0];
            (
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Some(json!([0.1, -1e30, 1.6777216e7])),
            )
        }
        DataType::Fp64 => {
            let values = [0.1f64, -1e300, 9_007_199_254_740_993.0];
            (values.iter().flat_map(|v| v.to_le_bytes()).collect(), Some(json!(values)))
        }
        DataType::Bytes => {
            (b"\x02\0\0\0\xc3\xa9\0\0\0\0\x01\0\0\0\"".to_vec(), Some(json!(["é", "", "\""])))
        }
        integer => (raw(integer.size().unwrap()), Some(json!([1, 1, 1]))),
    }
}

#[tokio::test]
async fn every_datatype_goes_there_and_back_as_binary_and_as_json() {
    let rig = Rig::start().await;
    for datatype in DataType::ALL {
        let path = format!("/v2/models/type_{datatype}/infer");
        let (raw, as_json) = samples(datatype);
        let input = |more: Value| {
            let mut input = json!({"name": "x", "datatype": datatype.name(), "shape": [1, 3]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            input
        };
        let binary = input(json!({"parameters": {"binary_data_size": raw.len()}}));
        let request = json!({"parameters": {"binary_data_output": true}, "inputs": [binary]});
        let (length, body) = with_binary(&request, &raw);
        let reply = rig.send("POST", &path, &[(LENGTH, &length)], body).await;
        assert_eq!(reply.status, 200, "{datatype}: {reply:?}");
        let split = reply.header(LENGTH).parse().unwrap();
        let (head, tail) = reply.body.split_at(split);
        assert_eq!(tail, raw, "{datatype}");
        let head: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], raw.len());

        if let Some(values) = as_json {
            let request = json!({"inputs": [input(json!({"data": values}))]}).to_string();
            let answer = rig.post(&path, request).await.json();
            assert_eq!(answer["outputs"][0]["data"], values, "{datatype}");
        } else {
            let request = json!({"inputs": [binary]});
            let (length, body) = with_binary(&request, &raw);
            let reply = rig.send("POST", &path, &[(LENGTH, &length)], body).await;
            expect_error(&reply, 400, "no JSON form", datatype.name());
        }
    }
}

#[tokio::test]
async fn floats_that_are_not_finite_go_there_and_back() {
    let rig = Rig::start().await;
    // As Python writes and reads them; no parser of strict JSON takes part.
    let values = "[NaN,-Infinity,Infinity]";
    for datatype in ["FP32", "FP64"] {
        for data in [values, "[[ NaN , -Infinity ,Infinity]]"] {
            let body = format!(
                r#"{{"id":"NaN","inputs":[{{"name":"x","shape":[1,3],"data":{data},
                "datatype":"{datatype}"}}]}}"#
            );
            let reply = rig.post(&format!("/v2/models/type_{datatype}/infer"), body).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let answer = reply.text();
            assert!(answer.contains(r#""id":"NaN""#), "{answer}");
            assert!(answer.contains(&format!("\"data\":{values}")), "{answer}");
        }
    }
    for (datatype, part) in [("INT32", "element 1 is NaN"), ("BOOL", "NaN, not BOOL")] {
        let body = format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"{datatype}","data":[1,NaN,0]}}]}}"#
        );
        let reply = rig.post(&format!("/v2/models/type_{datatype}/infer"), body).await;
        expect_error(&reply, 400, part, datatype);
        expect_error(&reply, 400, "input \"x\"", datatype);
    }
}

#[tokio::test]
async fn parameters_that_ask_for_nothing_and_the_users_own_are_accepted() {
    let rig = Rig::start().await;
    let request = json!({"id": null, "parameters": {
            "my_own": {"deep": [1, {"deeper": null}]}, "timeout": 0, "priority": "0",
            "sequence_id": 0, "sequence_start": false, "sequence_end": false, "headers": null,
            "triton_enable_empty_final_response": true, "binary_data_output": true},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2],
            "parameters": {"content_type": "np", "shared_memory_region": null}}],
        "outputs": [{"name": "x", "parameters": {
            "classification": 0, "binary_data": false, "content_type": "np"}}]});
    let answer = rig.post(ECHO, request.to_string()).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.0]), "{answer}");
}

#[tokio::test]
async fn a_body_can_be_one_raw_tensor() {
    let rig = Rig::start().await;
    let cases: [(&str, &[u8], u16); 5] = [
        ("echo", &[7; 16], 200),
        ("flat", &[7; 16], 200),
        ("type_BYTES", b"\x01\0\0\0a\0\0\0\0\x01\0\0\0b", 200),
        ("echo", &[7; 13], 400),
        ("pair", &[7; 8], 400),
    ];
    for (model, tensor, status) in cases {
        let path = format!("/v2/models/{model}/infer");
        let reply = rig.send("POST", &path, &[(LENGTH, "0")], tensor).await;
        assert_eq!(reply.status, status, "{model}: {reply:?}");
        if status == 200 {
            assert!(reply.body.ends_with(tensor), "{model}");
        }
    }
}

pub(crate) fn squeeze(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => GzEncoder::new(data, Compression::best()).read_to_end(&mut out).unwrap(),
        _ => ZlibEncoder::new(data, Compression::best()).read_to_end(&mut out).unwrap(),
    };
    out
}

fn expand(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => GzDecoder::new(data).read_to_end(&mut out).unwrap(),
        "deflate" => ZlibDecoder::new(data).read_to_end(&mut out).unwrap(),
        _ => return data.to_vec(),
    };
    out
}

#[tokio::test]
async fn bodies_may_be_compressed_both_ways() {
    let rig = Rig::start().await;
    let tensor: Vec<u8> = (0..100_000u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 100_000],
        "parameters": {"binary_data_size": tensor.len()}});
    let request = json!({"parameters": {"binary_data_output": true}, "inputs": [input]});
    let (length, body) = with_binary(&request, &tensor);
    for coding in ["gzip", "deflate"] {
        for answer in ["gzip", "deflate", "identity"] {
            let headers = [
                (LENGTH, length.as_str()),
                ("content-encoding", coding),
                ("accept-encoding", answer),
            ];
            let path = "/v2/models/large/infer";
            let reply = rig.send("POST", path, &headers, squeeze(coding, &body)).await;
            assert_eq!(reply.status, 200, "{coding} {answer}");
            let wanted = if answer == "identity" { "" } else { answer };
            assert_eq!(reply.header("content-encoding"), wanted);
            assert!(expand(answer, &reply.body).ends_with(&tensor));
        }
    }
    let small = rig.send("POST", ECHO, &[("accept-encoding", "gzip")], row()).await;
    assert_eq!(small.header("content-encoding"), "", "a small answer is not worth it");
}
