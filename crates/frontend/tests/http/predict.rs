//! KServe's protocol version 1 and TensorFlow Serving's REST form.

use crate::expect_error;
use crate::support::Rig;
use serde_json::{Value, json};
use symphony_wire::tensor::DataType;

const ECHO: &str = "/v1/models/echo:predict";
const PAIR: &str = "/v1/models/pair:predict";

#[tokio::test]
async fn rows_give_predictions_and_columns_give_outputs() {
    let rig = Rig::start().await;
    let pair = json!([{"a": [1, 2], "b": [7]}, {"b": [8], "a": [3, 4]}]);
    let columns = json!({"b": [[7], [8]], "a": [[1, 2], [3, 4]]});
    let pair_rows = json!([{"a": [1.0, 2.0], "b": [7]}, {"a": [3.0, 4.0], "b": [8]}]);
    let pair_columns = json!({"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[7], [8]]});
    let rows = json!([[1, 2], [3, 4.5]]);
    let echoed = json!([[1.0, 2.0], [3.0, 4.5]]);
    for (path, body, answer) in [
        (ECHO, json!({"instances": rows}), json!({"predictions": echoed})),
        (ECHO, json!({"inputs": rows}), json!({"outputs": echoed})),
        (ECHO, json!({"inputs": {"x": rows}}), json!({"outputs": echoed})),
        (
            ECHO,
            json!({"signature_name": "serving_default", "instances": [{"x": [1, 2]}]}),
            json!({"predictions": [[1.0, 2.0]]}),
        ),
        (ECHO, json!({"signature_name": "", "instances": [[1, 2]], "own": {}}), Value::Null),
        (ECHO, json!({"signature_name": null, "instances": [[1, 2]], "inputs": null}), Value::Null),
        ("/v1/models/echo/versions/3:predict", json!({"instances": [[1, 2]]}), Value::Null),
        (PAIR, json!({"instances": pair}), json!({"predictions": pair_rows})),
        (PAIR, json!({"inputs": columns}), json!({"outputs": pair_columns})),
        ("/v1/models/flat:predict", json!({"instances": rows}), json!({"predictions": echoed})),
    ] {
        let reply = rig.post(path, body.to_string()).await;
        assert_eq!(reply.status, 200, "{path} {body}: {reply:?}");
        let expected = if answer.is_null() { json!({"predictions": [[1.0, 2.0]]}) } else { answer };
        assert_eq!(reply.json(), expected, "{path} {body}");
    }
}

#[tokio::test]
async fn every_type_has_a_form() {
    let rig = Rig::start().await;
    for datatype in DataType::ALL {
        let row = match datatype {
            DataType::Bool => "[true,false,true]",
            DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => "[0,1,255]",
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => "[-128,0,127]",
            DataType::Fp16 | DataType::Bf16 => "[0.5,-2.0,NaN]",
            DataType::Fp32 | DataType::Fp64 => "[0.1,Infinity,-Infinity]",
            DataType::Bytes => r#"["a","é\"",""]"#,
        };
        let path = format!("/v1/models/type_{datatype}:predict");
        let reply = rig.post(&path, format!("{{\"instances\": [{row}]}}")).await;
        assert_eq!(reply.text(), format!("{{\"predictions\":[{row}]}}"), "{datatype}");
    }
    let bytes = "/v1/models/type_BYTES:predict";
    let body = json!({"instances": [[{"b64": "aGk="}, {"b64": "aGk"}, {"b64": "/w=="}]]});
    let reply = rig.post(bytes, body.to_string()).await;
    assert_eq!(reply.json(), json!({"predictions": [["hi", "hi", {"b64": "/w=="}]]}));
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_place() {
    let rig = Rig::start().await;
    let deep = format!("{{\"instances\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (path, body, part) in [
        (ECHO, "{", "not JSON as the protocol has it"),
        (ECHO, "[]", "expected an object"),
        (ECHO, "{}", "neither instances"),
        (ECHO, r#"{"instances": [[1,2]], "inputs": [[1,2]]}"#, "both instances and inputs"),
        (ECHO, r#"{"signature_name": "other", "instances": [[1,2]]}"#, "\"serving_default\""),
        (ECHO, r#"{"signature_name": 7, "instances": [[1,2]]}"#, "signature_name"),
        (ECHO, r#"{"instances": []}"#, "instances is empty"),
        (ECHO, r#"{"instances": 7}"#, "has to be a list of rows"),
        (ECHO, r#"{"instances": {"x": [1,2]}}"#, "has to be a list of rows"),
        (ECHO, r#"{"instances": [[1,2],[3]]}"#, "instances[1] has 1 elements, where"),
        (ECHO, r#"{"instances": [[1,2],[3,4,5]]}"#, "instances[1] has 3 elements, where"),
        (ECHO, r#"{"instances": [[1,2],[3,[4]]]}"#, "instances[1][1] is an array"),
        (ECHO, r#"{"instances": [[1,2],3]}"#, "instances[1] is no array"),
        (ECHO, r#"{"instances": [1,[2]]}"#, "instances[1] is an array"),
        (ECHO, r#"{"instances": [[1,"a"]]}"#, "instances[0][1] is \"a\", not FP32"),
        (ECHO, r#"{"instances": [[1,null]]}"#, "instances[0][1] is null, not FP32"),
        (ECHO, r#"{"instances": [[1,{"b64": "aGk="}]]}"#, "instances[0][1] is an object, not"),
        (ECHO, r#"{"instances": [[1,2,3]]}"#, "[1, 3], the model takes [-1, 2]"),
        (ECHO, r#"{"instances": [1, 2]}"#, "[2], the model takes [-1, 2]"),
        (ECHO, r#"{"instances": [{"y": [1,2]}]}"#, "no input \"y\"; its inputs are \"x\""),
        (ECHO, r#"{"inputs": {"y": [[1,2]]}}"#, "no input \"y\""),
        (ECHO, r#"{"inputs": {"x": [[1,2],[3]]}}"#, "inputs.x[1] has 1 elements"),
        (ECHO, r#"{"inputs": {}}"#, "input \"x\" of model \"echo\" is missing"),
        (ECHO, r#"{"instances": [[[1,2]],[[NaN,"x"]]]}"#, "instances[1][0][1] is \"x\""),
        (ECHO, deep.as_str(), "is in 32 arrays"),
        (PAIR, r#"{"instances": [[1,2]]}"#, "2 inputs: give them by name"),
        (PAIR, r#"{"inputs": [[1,2]]}"#, "2 inputs: give them by name"),
        (PAIR, r#"{"instances": [{"a": [1,2]}]}"#, "input \"b\" of model \"pair\" is missing"),
        (PAIR, r#"{"instances": [{"a": [1,2], "a": [1,2]}]}"#, "instances[0].a is given twice"),
        (
            PAIR,
            r#"{"instances": [{"a": [1,2], "b": [1]}, {"a": [1,2]}]}"#,
            "instances[1] has no input \"b\"",
        ),
        (
            PAIR,
            r#"{"instances": [{"a": [1,2]}, {"a": [1,2], "b": [1]}]}"#,
            "instances[1].b is given, and instances[0] has no such input",
        ),
        (
            "/v1/models/type_BYTES:predict",
            r#"{"instances": [["a","b",{"b64": "?"}]]}"#,
            "instances[0][2] has a b64 that is not Base64",
        ),
    ] {
        let what = &body[..body.len().min(80)];
        expect_error(&rig.post(path, body.to_owned()).await, 400, part, what);
    }
}

#[tokio::test]
async fn what_has_no_rows_or_has_them_elsewhere_goes_by_columns() {
    const OPEN: &str = "/v1/models/open:predict";
    let rig = Rig::start().await;
    let columns = json!({"ids": [[1, 2, 3], [4, 5, 6]], "mask": [[1, 1, 1], [1, 1, 0]],
        "state": [[[0.5], [1.0]], [[2.0], [3.0]]], "user": [[1, 2]], "rate": 8000});
    let mut given_back = columns.clone();
    given_back.as_object_mut().unwrap().remove("user");
    let reply = rig.post(OPEN, json!({"inputs": columns}).to_string()).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"outputs": given_back})));

    let row = |rate: i64| json!({"ids": [1], "mask": [1], "user": [1, 2], "rate": rate});
    let mut stateful = row(8000);
    stateful["state"] = json!([[0.5], [1.0]]);
    for (rows, part) in [
        (json!([row(8000), row(8000)]), "output \"state\" cannot be given by rows"),
        (json!([row(8000), row(16_000)]), "instances[1].rate differs from that of instances[0]"),
        (json!([stateful]), "input \"state\" counts its rows along dimension 1"),
    ] {
        let body = json!({"instances": rows}).to_string();
        expect_error(&rig.post(OPEN, body.clone()).await, 400, part, &body);
    }
}

#[tokio::test]
async fn requests_take_the_same_way_as_others() {
    let rig = Rig::start().await;
    let body = r#"{"instances": [[1, 2]]}"#;
    for (path, status, part) in [
        ("/v1/models/nope:predict", 404, "unknown model \"nope\""),
        ("/v1/models/echo/versions/9:predict", 404, "version \"9\""),
        ("/v1/models/loading:predict", 503, "still being loaded"),
        ("/v1/models/failing:predict", 500, "failed"),
        ("/v1/models/drop_overload:predict", 504, "dropped"),
        ("/v1/models/echo:classify", 501, "classify"),
        ("/v1/models/echo:regress", 501, "regress"),
        ("/v1/models/echo:explain", 501, "explain"),
        ("/v1/models/echo/labels/stable:predict", 501, "labels"),
        ("/v1/models/echo:nonsense", 404, "there is no"),
    ] {
        expect_error(&rig.post(path, body).await, status, part, path);
    }
    let late = [("request-timeout-ms", "5")];
    let reply = rig.send("POST", "/v1/models/held:predict", &late, body).await;
    expect_error(&reply, 504, "the request's own limit of 5", "its own limit");
    assert_eq!(rig.get(ECHO).await.status, 405);
    assert_eq!(rig.post(ECHO, body).await.status, 200);
    let good = r#"symphony_requests_total{model="echo",version="3",outcome="good"}"#;
    assert_eq!(rig.metric(good).await, 1.0);
}

#[tokio::test]
async fn models_tell_their_state_and_their_signature() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/").await.json(), json!({"status": "alive"}));
    let names = rig.get("/v1/models").await.json();
    assert!(names["models"].as_array().unwrap().contains(&json!("echo")), "{names}");
    let available = json!([{"version": "3", "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""}}]);
    for path in ["/v1/models/echo", "/v1/models/echo/versions/3"] {
        let status = rig.get(path).await.json();
        assert_eq!((&status["ready"], &status["name"]), (&json!(true), &json!("echo")));
        assert_eq!(status["model_version_status"], available);
    }
    let broken = rig.get("/v1/models/broken").await;
    expect_error(&broken, 503, "operator Foo is unknown", "a model that failed");
    let status = &broken.json()["model_version_status"][0];
    assert_eq!((&status["state"], &broken.json()["ready"]), (&json!("END"), &json!(false)));
    assert_eq!(status["status"]["error_message"], "operator Foo is unknown");
    for unknown in ["/v1/models/nope", "/v1/models/echo/versions/9", "/v1/models/nope/metadata"] {
        assert_eq!(rig.get(unknown).await.status, 404, "{unknown}");
    }
    for path in ["/v1/models/echo/metadata", "/v1/models/echo/versions/3/metadata"] {
        let metadata = rig.get(path).await.json();
        assert_eq!(metadata["model_spec"]["version"], "3");
        let input = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
            ["x"];
        assert_eq!(input["dtype"], "DT_FLOAT");
        assert_eq!(input["tensor_shape"]["dim"][0]["size"], "-1");
        assert_eq!(input["tensor_shape"]["dim"][1]["size"], "2");
    }
}
