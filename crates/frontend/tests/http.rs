//! The protocol over HTTP, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::Read;
use support::{BODY_MAX, IN_FLIGHT_MAX, Reply, Rig};
use symphony_wire::catalog::Intake;
use symphony_wire::catalog::ServedModel;
use symphony_wire::tensor::DataType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ECHO: &str = "/v2/models/echo/infer";
const LENGTH: &str = "inference-header-content-length";

/// A request of one input.
fn one(shape: &[i64], data: &Value) -> String {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}).to_string()
}

fn row() -> String {
    one(&[1, 2], &json!([1, 2]))
}

/// A body of JSON and what follows it, and the header that says where that begins.
fn with_binary(json: &Value, binary: &[u8]) -> (String, Vec<u8>) {
    let json = json.to_string();
    (json.len().to_string(), [json.as_bytes(), binary].concat())
}

#[track_caller]
fn expect_error(reply: &Reply, status: u16, part: &str, what: &str) {
    let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status, status, "{what}: {error}");
    assert!(error.contains(part), "{what}: {error:?} does not say {part:?}");
}

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

fn squeeze(coding: &str, data: &[u8]) -> Vec<u8> {
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

/// Everything a client can get wrong about a request's contents: status, a part of the error,
/// headers and body.
type BadCase = (&'static str, u16, &'static str, Vec<(&'static str, String)>, Vec<u8>);

fn bad_json() -> Vec<BadCase> {
    let input = |name: &str, datatype: &str, shape: Value, data: Value| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let good = input("x", "FP32", json!([1, 2]), json!([1, 2]));
    let bodies = [
        ("not JSON", 400, "not JSON", "{\"inputs\":".to_owned()),
        ("no inputs", 400, "inputs", "{}".to_owned()),
        ("empty", 400, "not JSON", String::new()),
        ("deep nesting", 400, "", format!("{{\"inputs\":{}", "[".repeat(100_000))),
        ("deep data", 400, "nested", {
            let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
            row().replace("\"data\":[1,2]", &format!("\"data\":{deep}"))
        }),
        ("missing input", 400, "\"x\"", json!({"inputs": []}).to_string()),
        ("doubled input", 400, "twice", json!({"inputs": [good, good]}).to_string()),
        ("extra input", 400, "no input \"z\"", {
            let extra = input("z", "FP32", json!([1, 2]), json!([1, 2]));
            json!({"inputs": [good, extra]}).to_string()
        }),
        ("unknown output", 400, "no output \"z\"", {
            json!({"inputs": [good], "outputs": [{"name": "z"}]}).to_string()
        }),
        ("doubled output", 400, "twice", {
            json!({"inputs": [good], "outputs": [{"name": "x"}, {"name": "x"}]}).to_string()
        }),
        ("shared memory", 501, "shared memory", {
            let region = json!({"name": "x", "datatype": "FP32", "shape": [1, 2],
                "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}});
            json!({"inputs": [region]}).to_string()
        }),
        ("classification", 501, "classification", {
            let output = json!({"name": "x", "parameters": {"classification": 3}});
            json!({"inputs": [good], "outputs": [output]}).to_string()
        }),
    ];
    let mut cases: Vec<BadCase> = bodies
        .into_iter()
        .map(|(what, status, part, body)| (what, status, part, vec![], body.into_bytes()))
        .collect();
    let tensors = [
        ("wrong name", "no input \"y\"", input("y", "FP32", json!([1, 2]), json!([1, 2]))),
        ("wrong datatype", "takes FP32", input("x", "INT32", json!([1, 2]), json!([1, 2]))),
        ("no datatype", "unknown datatype", input("x", "FLOAT", json!([1, 2]), json!([1, 2]))),
        ("wrong shape", "takes [-1, 2]", input("x", "FP32", json!([1, 3]), json!([1, 2, 3]))),
        ("wrong rank", "takes [-1, 2]", input("x", "FP32", json!([2]), json!([1, 2]))),
        ("no rank", "takes [-1, 2]", input("x", "FP32", json!([]), json!([1]))),
        ("too few", "needs 2", input("x", "FP32", json!([1, 2]), json!([1]))),
        ("too many", "more than the 2", input("x", "FP32", json!([1, 2]), json!([1, 2, 3]))),
        ("negative", "negative", input("x", "FP32", json!([-1, 2]), json!([1, 2]))),
        ("no rows", "at least one row", input("x", "FP32", json!([0, 2]), json!([]))),
        ("zero", "takes [-1, 2]", input("x", "FP32", json!([1, 0]), json!([]))),
        ("overflow", "countable", { input("x", "FP32", json!([i64::MAX, i64::MAX]), json!([1])) }),
        ("huge", "needs 9223372036854775807", input("x", "FP32", json!([i64::MAX]), json!([1]))),
        ("beyond i64", "not JSON", input("x", "FP32", json!([1e30]), json!([1]))),
        ("too many rows", "more than the 4", {
            input("x", "FP32", json!([5, 2]), json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
        }),
        ("text", "element 1", input("x", "FP32", json!([1, 2]), json!([1, "2"]))),
        ("out of range", "element 0", input("x", "FP32", json!([1, 2]), json!([1e60, 2]))),
        ("object", "element 0", input("x", "FP32", json!([1, 2]), json!([{"a": 1}, 2]))),
        ("no data", "no data", json!({"name": "x", "datatype": "FP32", "shape": [1, 2]})),
    ];
    cases.extend(tensors.map(|(what, part, input)| {
        (what, 400, part, vec![], json!({"inputs": [input]}).to_string().into_bytes())
    }));
    cases
}

fn bad_parameters() -> Vec<BadCase> {
    let request = |parameters: Value| {
        let mut request: Value = serde_json::from_str(&row()).unwrap();
        request["parameters"] = parameters;
        request
    };
    let on_input = |parameters: Value| {
        let mut request = request(Value::Null);
        request["inputs"][0]["parameters"] = parameters;
        request
    };
    let on_output = |parameters: Value| {
        let mut request = request(Value::Null);
        request["outputs"] = json!([{"name": "x", "parameters": parameters}]);
        request
    };
    let mut cases: Vec<BadCase> = [
        ("negative", 400, "\"timeout\" is -1: give a whole", request(json!({"timeout": -1}))),
        ("words", 400, "\"timeout\" is \"soon\"", request(json!({"timeout": "soon"}))),
        ("a list", 400, "\"priority\" is [1]", request(json!({"priority": [1]}))),
        ("a number", 400, "true or false", request(json!({"binary_data_output": 1}))),
        ("a sequence", 501, "\"sequence_id\" is 7", request(json!({"sequence_id": 7}))),
        ("a named sequence", 501, "is \"a\": sequences", request(json!({"sequence_id": "a"}))),
        ("a start", 501, "\"sequence_start\" is true", request(json!({"sequence_start": true}))),
        ("unknown", 501, "\"triton_trace\" is not supp", request(json!({"triton_trace": 0}))),
        ("headers", 501, "\"headers\"", request(json!({"headers": {"a": "b"}}))),
        ("misplaced", 400, "belongs to an output", request(json!({"binary_data": true}))),
        ("on an input", 400, "belongs to the request", on_input(json!({"timeout": 5}))),
        ("an offset", 501, "of input \"x\" is 8", on_input(json!({"shared_memory_offset": 8}))),
        ("a region", 501, "of output \"x\"", on_output(json!({"shared_memory_region": "r"}))),
        ("no object", 400, "an object of parameters", request(json!([1]))),
    ]
    .map(|(what, status, part, body)| (what, status, part, vec![], body.to_string().into_bytes()))
    .into();
    let texts = [
        ("doubled", 400, "\"timeout\" is given twice", r#""timeout":5,"timeout":5"#.to_owned()),
        (
            "after many that are null",
            501,
            "\"sequence_id\" is 7",
            r#""timeout":null,"#.repeat(50) + r#""sequence_id":7"#,
        ),
        ("very many", 501, "\"triton_a\"", r#""triton_a":[],"#.repeat(20_000) + r#""a":0"#),
    ];
    cases.extend(texts.map(|(what, status, part, members)| {
        let body = request(json!({"here": 0})).to_string().replace(r#""here":0"#, &members);
        (what, status, part, vec![], body.into_bytes())
    }));
    for (what, from, to, part) in [
        ("NaN as a dimension", "shape\":[1,2]", "shape\":[1,NaN]", "NaN at byte"),
        ("infinity as a name", "\"x\"", "-Infinity", "-Infinity at byte"),
        ("NaN in other data", "\"inputs\"", "\"puts\":[{\"data\":NaN}],\"inputs\"", "NaN at byte"),
        ("NaN and no JSON", "\"data\":[1", "\"data\":[NaN 1", "not JSON"),
        ("NaN where text is", "\"data\":[1", "\"data\":[NaN,\"NaN\"", "element 1 is"),
    ] {
        let body = row().replacen(from, to, 1);
        assert_ne!(body, row());
        cases.push((what, 400, part, vec![], body.into_bytes()));
    }
    cases
}

fn bad_binary() -> Vec<BadCase> {
    let request = |size: Value| {
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2],
            "parameters": {"binary_data_size": size}}]})
    };
    let framed = |what, part, size: Value, binary: &[u8]| -> BadCase {
        let (length, body) = with_binary(&request(size), binary);
        (what, 400, part, vec![(LENGTH, length)], body)
    };
    let mut cases = vec![
        framed("bytes missing", "only 7 bytes are left", json!(8), &[0; 7]),
        framed("bytes over", "1 bytes after the last", json!(8), &[0; 9]),
        framed("shorter than the shape", "needs 8", json!(4), &[0; 4]),
        framed("longer than the shape", "needs 8", json!(12), &[0; 12]),
        framed("negative size", "of input \"x\" is -8", json!(-8), &[0; 8]),
        framed("size as text", "binary_data_size", json!("8"), &[0; 8]),
        framed("huge size", "are left", json!(u64::MAX), &[0; 8]),
    ];
    for (what, length, part) in [
        ("longer than the body", "100000", "more than the"),
        ("negative length", "-1", "Content-Length is \"-1\""),
        ("no number", "ten", "Content-Length is \"ten\""),
        ("signed", "+10", "Content-Length is \"+10\""),
        ("overflowing", "99999999999999999999999", "Content-Length"),
        ("inside the JSON", "10", "not JSON"),
    ] {
        cases.push((what, 400, part, vec![(LENGTH, length.to_owned())], row().into_bytes()));
    }
    for (what, header, value, status, part) in [
        ("zero limit", "request-timeout-ms", "0", 400, "Request-Timeout-Ms"),
        ("garbage limit", "request-timeout-ms", "soon", 400, "Request-Timeout-Ms"),
        ("negative limit", "request-timeout-ms", "-4", 400, "Request-Timeout-Ms"),
        ("unknown coding", "content-encoding", "br", 501, "\"br\""),
        ("corrupted gzip", "content-encoding", "gzip", 400, "gzip"),
        ("corrupted deflate", "content-encoding", "deflate", 400, "deflate"),
    ] {
        cases.push((what, status, part, vec![(header, value.to_owned())], row().into_bytes()));
    }
    cases
}

#[tokio::test]
async fn bad_requests_are_refused_by_name_and_leave_nothing_behind() {
    let rig = Rig::start().await;
    let cases: Vec<BadCase> = [bad_json(), bad_parameters(), bad_binary()].concat();
    for (what, status, part, headers, body) in &cases {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = rig.send("POST", ECHO, &headers, body.clone()).await;
        expect_error(&reply, *status, part, what);
    }
    assert_eq!(rig.post(ECHO, row()).await.status, 200);
    assert_eq!(rig.inflight.len(), 0);
    let sample = |outcome| {
        format!("symphony_requests_total{{model=\"echo\",version=\"3\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(rig.metric(&sample("refused")).await, cases.len() as f64);
    assert_eq!(rig.metric(&sample("good")).await, 1.0);
    assert_eq!(rig.metric("symphony_request_bytes").await, 0.0);
    rig.until_metric(r#"symphony_connections{protocol="http"}"#, 0.0).await;
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn byte_strings_and_bools_are_checked_inside() {
    let rig = Rig::start().await;
    let cases: [(&str, &[u8], &str); 4] = [
        ("BYTES", b"\x01\0\0\0a", "has 1 byte strings"),
        ("BYTES", b"\xff\0\0\0a", "truncated at byte 0"),
        ("BYTES", b"\x01\0\0\0a\x01\0", "truncated at byte 5"),
        ("BOOL", &[0, 2, 1], "the byte 2 at 1"),
    ];
    for (datatype, tensor, part) in cases {
        let request = json!({"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 3],
            "parameters": {"binary_data_size": tensor.len()}}]});
        let (length, body) = with_binary(&request, tensor);
        let path = format!("/v2/models/type_{datatype}/infer");
        let reply = rig.send("POST", &path, &[(LENGTH, &length)], body).await;
        expect_error(&reply, 400, part, datatype);
    }
}

#[tokio::test]
async fn bodies_over_the_limit_and_bombs_are_stopped() {
    let rig = Rig::start().await;
    let large = vec![b' '; BODY_MAX + 1];
    let bomb = squeeze("gzip", &vec![b' '; 100 << 20]);
    assert!(bomb.len() < BODY_MAX);
    let limit = BODY_MAX.to_string();
    for (what, headers, body) in
        [("plain", vec![], large), ("gzip bomb", vec![("content-encoding", "gzip")], bomb)]
    {
        let reply = rig.send("POST", ECHO, &headers, body).await;
        expect_error(&reply, 413, &limit, what);
        expect_error(&reply, 413, "body_max_mib", what);
    }
    let whole = one(&[1, 2], &json!([1, 2]));
    let padded = format!("{whole}{}", " ".repeat(BODY_MAX - whole.len()));
    assert_eq!(rig.post(ECHO, padded).await.status, 200, "exactly the limit fits");
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_stopped_as_it_comes() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.addresses.http).await.unwrap();
    let head = format!("POST {ECHO} HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b' '; 1 << 16];
    // The server reads a few limits more before it answers, so all of this can be written.
    for _ in 0..BODY_MAX / chunk.len() + 2 {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
        stream.write_all(&chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn models_that_are_not_served_are_refused_with_the_reason() {
    let rig = Rig::start().await;
    for (path, status, part) in [
        ("/v2/models/nope/infer", 404, "unknown model \"nope\""),
        ("/v2/models/echo/versions/9/infer", 404, "only in version \"3\""),
        ("/v2/models/loading/infer", 503, "still being loaded"),
        ("/v2/models/broken/infer", 503, "operator Foo is unknown"),
        ("/v2/models/unloaded/infer", 404, "repository API"),
        ("/v2/models/failing/infer", 500, "divided by zero"),
        ("/v2/models/choosy/infer", 400, "element 1 of input \"x\""),
        ("/v2/models/drop_hopeless/infer", 504, "dropped after 3.000ms"),
        ("/v2/models/drop_overload/infer", 504, "more requests arrive"),
        ("/v2/models/drop_queue_full/infer", 429, "queue of model"),
        ("/v2/models/drop_too_large/infer", 400, "split the request"),
        ("/v2/models/drop_unloaded/infer", 503, "was unloaded"),
        ("/v2/models/echo/generate", 501, "not supported"),
        ("/v2/logging", 501, "not supported"),
        ("/v2/nothing", 404, "/v2/nothing"),
        ("/v2/models/echo/config", 405, "GET"),
        ("/v2/scheduler/mode", 400, "{\"mode\": \"adaptive\"}"),
    ] {
        let reply = rig.post(path, row()).await;
        expect_error(&reply, status, part, path);
        assert_eq!(reply.header("retry-after").is_empty(), status != 429, "{path}");
        assert_eq!(reply.header("allow").is_empty(), status != 405, "{path}");
    }
    let refused = r#"symphony_requests_total{model="choosy",version="3",outcome="refused"}"#;
    assert_eq!(rig.metric(refused).await, 1.0);
    assert_eq!(rig.inflight.len(), 0);
}

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

#[tokio::test]
async fn the_server_describes_itself_and_its_models() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/v2").await.json()["name"], "symphony");
    assert_eq!(rig.get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(rig.get("/v2/health/ready").await.json(), json!({"ready": true}));
    let ready = rig.get("/v2/models/echo/versions/3/ready").await.json();
    assert_eq!(ready, json!({"name": "echo", "ready": true}));
    let loading = rig.get("/v2/models/loading/ready").await;
    expect_error(&loading, 503, "still being loaded", "a model that is loading");
    assert_eq!(loading.json()["ready"], false);
    assert_eq!(rig.get("/v2/models/nope/ready").await.status, 404);
    let metadata = rig.get("/v2/models/echo").await.json();
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [-1, 2]});
    assert_eq!(metadata["inputs"], json!([tensor]));
    let config = rig.get("/v2/models/type_BYTES/config").await.json();
    assert_eq!(config["max_batch_size"], 4);
    assert_eq!(config["input"][0]["data_type"], "TYPE_STRING");
    assert_eq!(rig.get("/v2/models/flat/config").await.json()["max_batch_size"], 0);

    assert_eq!(rig.post(ECHO, one(&[2, 2], &json!([1, 2, 3, 4]))).await.status, 200);
    let statistics = rig.get("/v2/models/echo/stats").await.json();
    let statistics = &statistics["model_stats"][0];
    assert_eq!(statistics["inference_count"], 2);
    assert_eq!(statistics["execution_count"], 1);
    assert_eq!(
        statistics["inference_stats"]["compute_infer"],
        json!({"count": 1, "ns": 5_000_000})
    );
    assert_eq!(statistics["batch_stats"][0]["batch_size"], 2);
    let all = rig.get("/v2/models/stats").await.json();
    assert_eq!(all["model_stats"].as_array().unwrap().len(), rig.catalog.load().models.len());
}

#[tokio::test]
async fn the_repository_is_listed_and_changed() {
    let rig = Rig::start().await;
    let index = rig.post("/v2/repository/index", "").await.json();
    let broken = json!({"name": "broken", "version": "1", "state": "UNAVAILABLE",
        "reason": "operator Foo is unknown"});
    assert!(index.as_array().unwrap().contains(&broken));
    let ready = rig.post("/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert_eq!(ready.as_array().unwrap().len(), rig.catalog.load().models.len());
    let config = r#"{"parameters":{"config":"{}"}}"#;
    for (path, body, status) in [
        ("/v2/repository/models/echo/load", "", 200),
        ("/v2/repository/models/echo/load", "{}", 200),
        ("/v2/repository/models/echo/load", config, 501),
        ("/v2/repository/models/echo/load", r#"{"parameters":{"priority":1}}"#, 501),
        ("/v2/repository/models/echo/load", r#"{"parameters":{"config":null}}"#, 200),
        ("/v2/repository/models/echo/load", r#"{"parameters":null}"#, 200),
        ("/v2/repository/models/echo/load", "{", 400),
        ("/v2/repository/models/echo/load", "[]", 400),
        ("/v2/repository/index", "[]", 400),
        ("/v2/repository/models/broken/load", "", 400),
        ("/v2/repository/models/nope/load", "", 404),
        ("/v2/repository/models/echo/unload", r#"{"parameters":{}}"#, 200),
        ("/v2/repository/models/echo/unload", r#"{"parameters":{"unload_dependents":true}}"#, 200),
        ("/v2/repository/models/echo/unload", r#"{"parameters":{"force":true}}"#, 501),
        ("/v2/repository/models/echo/unload", "{", 400),
        ("/v2/repository/models/nope/unload", "", 404),
        ("/v2/repository/models/stuck/load", "", 503),
        ("/v2/repository/models/stuck/unload", "", 503),
    ] {
        assert_eq!(rig.post(path, body).await.status, status, "{path} {body}");
    }
}

#[tokio::test]
async fn the_mode_is_shown_and_changed() {
    const MODE: &str = "/v2/scheduler/mode";
    let rig = Rig::start().await;
    assert_eq!(rig.get(MODE).await.json(), json!({"mode": "adaptive"}));
    let target = r#"symphony_plan_target_rows{model="echo",version="3"}"#;
    assert_eq!(rig.post(ECHO, one(&[1, 2], &json!([1, 2]))).await.status, 200);
    assert_eq!(rig.metric(target).await, 1.0);
    assert_eq!(rig.metric("symphony_scheduler_batches_max").await, 50_000.0);
    for mode in ["eager", "consolidate"] {
        let expected = json!({"mode": mode});
        assert_eq!(rig.post(MODE, expected.to_string()).await.json(), expected);
        assert_eq!(rig.get(MODE).await.json(), expected);
        assert_eq!(rig.metric(&format!(r#"symphony_pool_mode{{mode="{mode}"}}"#)).await, 1.0);
        assert_eq!(rig.metric(r#"symphony_pool_mode{mode="adaptive"}"#).await, 0.0);
    }
    let reply = rig.post(MODE, r#"{"mode": "deferred"}"#).await;
    expect_error(&reply, 400, r#"write "adaptive", "consolidate" or "eager""#, "a name of none");
    assert_eq!(rig.get(MODE).await.json(), json!({"mode": "consolidate"}));
}

#[tokio::test]
async fn accelerators_are_shown_drained_and_resumed() {
    const ALL: &str = "/v2/scheduler/accelerators";
    let rig = Rig::start().await;
    let gauge =
        |state: &str| format!(r#"symphony_accelerator_state{{accelerator="0",state="{state}"}}"#);
    assert_eq!(rig.get(ALL).await.json(), json!({"accelerators": [line("serving")]}));
    for (what, state, other) in [
        ("drain", "draining", "serving"),
        ("drain", "draining", "away"),
        ("resume", "serving", "dead"),
    ] {
        let reply = rig.post(&format!("{ALL}/0/{what}"), "").await;
        assert_eq!((reply.status, reply.json()), (200, line(state)), "{what}");
        assert_eq!(rig.get(ALL).await.json(), json!({"accelerators": [line(state)]}));
        assert_eq!(rig.metric(&gauge(state)).await, 1.0);
        assert_eq!(rig.metric(&gauge(other)).await, 0.0);
    }
    for unknown in ["1", "4294967296", "-1", "none"] {
        let reply = rig.post(&format!("{ALL}/{unknown}/drain"), "").await;
        expect_error(&reply, 404, &format!("there is no accelerator {unknown:?}"), unknown);
    }
    assert_eq!(rig.get(&format!("{ALL}/0/drain")).await.status, 405);
    assert_eq!(rig.get(&format!("{ALL}/0")).await.status, 404);
}

#[tokio::test]
async fn it_is_ready_when_models_are_loaded_and_an_accelerator_serves() {
    const PROBES: [&str; 2] = ["/v2/health/ready", "/v2/models/echo/ready"];
    let rig = Rig::start().await;
    rig.catalog.update(|catalog| catalog.ready = false);
    expect_error(&rig.get(PROBES[0]).await, 503, "still loading its models", "while loading");
    assert_eq!(rig.get(PROBES[1]).await.status, 200, "this one is loaded");
    rig.catalog.update(|catalog| catalog.ready = true);
    for (what, status) in [("drain", 503), ("resume", 200)] {
        let reply = rig.post(&format!("/v2/scheduler/accelerators/0/{what}"), "").await;
        assert_eq!(reply.status, 200, "{what}");
        for probe in PROBES {
            let reply = rig.get(probe).await;
            assert_eq!((reply.status, &reply.json()["ready"]), (status, &json!(status == 200)));
            if status == 503 {
                expect_error(&reply, 503, "/v2/scheduler/accelerators tells which", probe);
            }
        }
        assert_eq!(rig.metric("symphony_ready").await, f64::from(u8::from(status == 200)));
        assert_eq!(rig.get("/v2/health/live").await.status, 200, "nothing to restart");
        assert_eq!(rig.get("/v2/models/nope/ready").await.status, 404);
    }
}

fn line(state: &str) -> serde_json::Value {
    json!({"accelerator": 0, "state": state})
}

#[tokio::test]
async fn a_server_that_is_about_to_leave_is_not_ready_and_still_serves() {
    let rig = Rig::start().await;
    rig.catalog.update(|catalog| catalog.intake = Intake::Leaving);
    for probe in ["/v2/health/ready", "/v2/models/echo/ready"] {
        expect_unready(&rig.get(probe).await, probe);
    }
    assert_eq!(rig.metric("symphony_ready").await, 0.0);
    assert_eq!(rig.get("/v2/health/live").await.status, 200);
    assert_eq!(rig.post(ECHO, row()).await.status, 200);
    assert_eq!(rig.post("/v2/repository/models/echo/load", "").await.status, 200);
    rig.catalog.update(|catalog| catalog.intake = Intake::Closed);
    expect_error(&rig.post(ECHO, row()).await, 503, "shutting down", "closed");
}

#[track_caller]
fn expect_unready(reply: &Reply, what: &str) {
    assert_eq!((reply.status, &reply.json()["ready"]), (503, &json!(false)), "{what}");
    assert_eq!(reply.json()["error"], "the server is shutting down", "{what}");
}

#[tokio::test]
async fn a_draining_server_says_so_and_lets_open_requests_end() {
    let mut rig = Rig::start().await;
    let address = rig.addresses.http;
    let open = tokio::spawn(async move {
        support::send(address, "POST", "/v2/models/held/infer", &[], Bytes::from(row())).await
    });
    let idle = TcpStream::connect(address).await.unwrap();
    rig.until("queued", |rig| rig.held() == 1).await;
    rig.catalog.update(|catalog| catalog.intake = Intake::Closed);
    let refused = rig.post(ECHO, row()).await;
    expect_error(&refused, 503, "shutting down", "draining");
    assert_eq!(rig.get("/v2/health/live").await.status, 200);
    let ready = json!({"ready": false, "error": "the server is shutting down"});
    let reply = rig.get("/v2/health/ready").await;
    assert_eq!((reply.status, reply.json()), (503, ready));
    rig.begin_stop();
    rig.release();
    assert_eq!(open.await.unwrap().status, 200);
    drop(idle);
    rig.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let rig = Rig::start().await;
    let services = symphony_frontend::Services {
        catalog: rig.catalog.clone(),
        inflight: rig.inflight.clone(),
        scheduler: symphony_wire::schedule::scheduler(symphony_wire::schedule::Layout::TOGETHER).0,
        repository: symphony_wire::repository::commands().0,
        clock: symphony_wire::clock::Clock::start(),
    };
    let config = symphony_frontend::FrontendConfig {
        http_port: 0,
        grpc_port: rig.addresses.grpc.port(),
        metrics_port: 0,
        ..Default::default()
    };
    let error = symphony_frontend::Frontend::bind(config, services).await.unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "its text is in the error's already");
    let error = error.to_string();
    assert_eq!(error.matches("in use").count(), 1, "{error}");
    assert!(error.contains(&format!("127.0.0.1:{}", rig.addresses.grpc.port())), "{error}");
    assert!(error.contains("--grpc-port"), "{error}");
}

#[tokio::test]
async fn the_in_process_client_is_counted_with_the_others() {
    let rig = Rig::start().await;
    let input = symphony_frontend::InputTensor {
        name: "x".to_owned(),
        datatype: DataType::Fp32,
        shape: vec![1, 2],
        data: Bytes::from_static(&[1; 8]),
    };
    let answer = rig.in_process.infer("echo", vec![input.clone()], None).await.unwrap();
    assert_eq!(answer.named().next().unwrap().1.data, [1; 8][..]);
    let limit = Some(std::time::Duration::from_millis(20));
    let missed = rig.in_process.infer("ignored", vec![input], limit).await.unwrap_err();
    assert_eq!(missed.kind(), symphony_frontend::ErrorKind::Deadline);
    let sample = r#"nv_inference_request_success{model="echo",version="3"}"#;
    assert_eq!(rig.metric(sample).await, 1.0);
    assert_eq!(
        rig.metric(r#"symphony_accelerator_busy_seconds_total{accelerator="0"}"#).await,
        1.5
    );
    assert_eq!(rig.metric(r#"symphony_accelerator_slowdown{accelerator="0"}"#).await, 2.0);
    assert_eq!(rig.metric(r#"symphony_model_slowdown{model="echo",version="3"}"#).await, 1.0);
}

/// The lines of the metrics page that name a model.
async fn series(rig: &Rig, model: &str) -> Vec<String> {
    let page = support::send(rig.addresses.metrics, "GET", "/metrics", &[], Bytes::new()).await;
    let label = format!("model=\"{model}\"");
    page.text().lines().filter(|line| line.contains(&label)).map(str::to_owned).collect()
}

#[tokio::test]
async fn series_of_models_that_are_gone_are_gone() {
    let rig = Rig::start().await;
    let echo = rig.catalog.load().models["echo"].clone();
    let serve = |name: &str| {
        let model = ServedModel { name: name.to_owned(), ..ServedModel::clone(&echo) };
        let model = std::sync::Arc::new(model);
        rig.catalog.update(|catalog| drop(catalog.models.insert(name.to_owned(), model.clone())));
    };
    let unload = |name: &str| rig.catalog.update(|catalog| drop(catalog.models.remove(name)));
    let good = r#"symphony_requests_total{model="echo",version="3",outcome="good"} "#;
    let count = |lines: Vec<String>| {
        lines.iter().find_map(|line| line.strip_prefix(good)).map(str::to_owned)
    };

    assert_eq!(rig.post(ECHO, row()).await.status, 200);
    assert_eq!(count(series(&rig, "echo").await).as_deref(), Some("1"));
    serve("echo");
    assert_eq!(rig.post(ECHO, row()).await.status, 200);
    let both = count(series(&rig, "echo").await);
    assert_eq!(both.as_deref(), Some("2"), "loaded again while it serves, they go on");
    unload("echo");
    assert_eq!(series(&rig, "echo").await, [""; 0]);
    serve("echo");
    let anew = count(series(&rig, "echo").await);
    assert_eq!(anew.as_deref(), Some("0"), "loaded after it was gone, they start anew");
    unload("echo");

    for number in 0..200 {
        let name = format!("new{number}");
        serve(&name);
        let path = format!("/v2/models/{name}/infer");
        assert_eq!(rig.post(&path, row()).await.status, 200);
        unload(&name);
    }
    assert_eq!(series(&rig, "new0").await, [""; 0]);
    assert_eq!(series(&rig, "new199").await, [""; 0]);
}

#[tokio::test]
async fn series_of_a_model_stay_until_its_last_request_has_its_outcome() {
    let rig = std::sync::Arc::new(Rig::start().await);
    let held = std::sync::Arc::clone(&rig);
    let last = tokio::spawn(async move { held.post("/v2/models/held/infer", row()).await.status });
    rig.until("queued", |rig| rig.held() == 1).await;
    rig.catalog.update(|catalog| drop(catalog.models.remove("held")));
    assert!(!series(&rig, "held").await.is_empty());
    rig.release();
    assert_eq!(last.await.unwrap(), 200);
    assert_eq!(series(&rig, "held").await, [""; 0]);
}
