//! Requests that are refused, each with an error that names what is wrong.

use crate::contents::squeeze;
use crate::support::{BODY_MAX, Rig};
use crate::{ECHO, LENGTH, expect_error, one, row, with_binary};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
        ("too many rows", "has 13 rows, more than the 12 that one request may have", {
            input("x", "FP32", json!([13, 2]), json!(vec![0; 26]))
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
