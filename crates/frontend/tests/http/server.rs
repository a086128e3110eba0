//! The server itself: its models, the repository, the pool, readiness, shutdown and metrics.

use crate::support::{self, Reply, Rig};
use crate::{ECHO, expect_error, one, row};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{Intake, ServedModel};
use symphony_wire::tensor::DataType;
use tokio::net::TcpStream;

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
async fn what_is_served_is_listed_with_its_terms() {
    let rig = Rig::start().await;
    let listed = rig.get("/v2/models").await.json();
    let listed = listed["models"].as_array().unwrap();
    let of = |name: &str| listed.iter().find(|model| model["name"] == name).unwrap();
    let broken = json!({"name": "broken", "version": "1", "state": "UNAVAILABLE",
        "reason": "operator Foo is unknown"});
    assert_eq!(*of("broken"), broken);
    let echo = of("echo");
    assert_eq!((&echo["version"], &echo["state"]), (&json!("3"), &json!("READY")));
    assert_eq!((&echo["max_batch"], &echo["queued"]), (&json!(4), &json!(0)));
    let sizes: Vec<_> = echo["profile_ms"].as_object().unwrap().keys().collect();
    assert_eq!(sizes, ["1", "2", "4"]);
    assert_eq!((&echo["measured"], &echo["planned_mean"]), (&json!(null), &json!(1.0)));
    assert_eq!(echo["inputs"], json!({"x": ["batch", 2]}));
    let open = of("open");
    assert_eq!(open["inputs"]["state"], json!([2, "batch", "width"]));
    assert_eq!((&open["optional"], &open["dimensions"]["width"]), (&json!(["rate"]), &json!(3)));
    let served = listed.iter().filter(|model| model["state"] == "READY").count();
    assert_eq!(served, rig.catalog.load().models.len());
    assert_eq!(rig.post("/v2/models", "").await.status, 405);
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
async fn no_model_is_unknown_before_it_is_known_which_there_are() {
    let rig = Rig::start().await;
    rig.catalog.update(|catalog| *catalog = Catalog::default());
    let infer = "/v2/models/echo/infer";
    for (method, path) in [
        (Method::POST, infer),
        (Method::POST, "/v1/models/echo:predict"),
        (Method::POST, "/v2/repository/index"),
        (Method::GET, "/v2/models/echo"),
        (Method::GET, "/v2/models/echo/config"),
        (Method::GET, "/v2/models/echo/ready"),
        (Method::GET, "/v2/models/echo/stats"),
        (Method::GET, "/v1/models/echo"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/v2/models"),
        (Method::GET, "/v2/health/ready"),
    ] {
        let reply =
            if method == Method::GET { rig.get(path).await } else { rig.post(path, "").await };
        expect_error(&reply, 503, "has not yet learned its models from a scheduler", path);
    }
    rig.catalog.update(|catalog| catalog.known = true);
    expect_error(&rig.post(infer, "").await, 404, "unknown model \"echo\"", "now it is known");
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
        scheduler: symphony_wire::carrier::in_process::scheduler(
            symphony_wire::carrier::in_process::Layout::TOGETHER,
        )
        .0,
        repository: symphony_wire::carrier::in_process::commands().0,
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
    assert_eq!(rig.metric(r#"symphony_model_spread_ratio{model="echo",version="3"}"#).await, 0.25);
    assert_eq!(rig.metric(r#"symphony_model_margin_ratio{model="echo",version="3"}"#).await, 1.5);
    for (figure, expected) in [("mean", 1.25), ("p95", 1.75), ("spread", 0.125)] {
        let name = format!(r#"symphony_measured_{figure}_ratio{{model="echo",version="3"}}"#);
        assert_eq!(rig.metric(&name).await, expected);
    }
    assert_eq!(rig.metric(r#"symphony_delay_seconds{kind="response"}"#).await, 0.002);
    let listed = rig.get("/v2/models").await.json();
    let delays = json!({"control": 0.0, "data": 0.0, "response": 2.0, "jitter": 0.0});
    assert_eq!(listed["delays_ms"], delays);
    let echo = listed["models"].as_array().unwrap().iter().find(|model| model["name"] == "echo");
    let echo = echo.unwrap();
    assert_eq!((&echo["spread"], &echo["margin"]), (&json!(0.25), &json!(1.5)));
    let measured = json!({"batches": 64, "mean": 1.25, "p95": 1.75, "spread": 0.125});
    assert_eq!(echo["measured"], measured);
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
    let echo = rig.catalog.load().models["echo"].highest().clone();
    let serve = |name: &str| {
        let model = ServedModel { name: name.to_owned(), ..ServedModel::clone(&echo) };
        let model = std::sync::Arc::new(model);
        rig.catalog
            .update(|catalog| drop(catalog.models.insert(name.to_owned(), model.clone().into())));
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
