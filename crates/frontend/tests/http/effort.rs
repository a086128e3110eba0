//! Models without an objective: what ends their requests, and what is said of them.

use crate::support::{Rig, SOFT};
use crate::{ECHO, expect_error, row};
use serde_json::json;
use std::time::Duration;
use symphony_core::Span;

#[tokio::test]
async fn only_its_own_limit_and_the_bound_on_every_request_end_one() {
    let bound = Span::from_millis(200);
    let rig = Rig::start_with(|config| config.request_max = bound).await;
    let any = "the bound on every request of 200.000ms (request_max_s under [server]";
    let own = "the request's own limit of 20.000ms";
    for (model, header, limit, why) in [
        ("effort_ignored", None, any, "still queued"),
        ("effort_ignored", Some("99999"), any, "still queued"),
        ("effort_ignored", Some("20"), own, "still queued"),
        ("effort_running", None, any, "no result yet"),
        // An objective is no longer than it says, whatever the bound.
        ("ignored", None, "the model's objective of 40.000ms", "still queued"),
    ] {
        let headers: Vec<_> = header.map(|ms| ("request-timeout-ms", ms)).into_iter().collect();
        let path = format!("/v2/models/{model}/infer");
        let reply = rig.send("POST", &path, &headers, row()).await;
        expect_error(&reply, 504, limit, model);
        expect_error(&reply, 504, why, model);
    }
    assert_eq!(rig.inflight.len(), 0);
    let sample = r#"symphony_requests_total{model="effort_running",version="3",outcome="late"}"#;
    assert_eq!(rig.metric(sample).await, 1.0);
    let sample = r#"symphony_dropped_total{model="effort_ignored",version="3",reason="expired"}"#;
    assert_eq!(rig.metric(sample).await, 3.0);
    rig.stop().await;
}

#[tokio::test]
async fn a_late_answer_is_good_and_counts_as_outside_the_objective() {
    let rig = Rig::start().await;
    let asking = rig.post("/v2/models/effort_held/infer", row());
    let answering = async {
        rig.until("queued", |rig| rig.held() == 1).await;
        tokio::time::sleep(Duration::from_nanos(SOFT.0)).await;
        rig.release();
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert_eq!((reply.status, rig.post(ECHO, row()).await.status), (200, 200));
    for (model, within) in [("effort_held", 0.0), ("echo", 1.0)] {
        let labels = format!(r#"model="{model}",version="3""#);
        let good = format!(r#"symphony_requests_total{{{labels},outcome="good"}}"#);
        assert_eq!(rig.metric(&good).await, 1.0, "{model}");
        let sample = format!("symphony_within_objective_total{{{labels}}}");
        assert_eq!(rig.metric(&sample).await, within, "{model}");
    }
    for (model, kind, seconds) in [("effort_held", "best_effort", 0.001), ("echo", "slo", 20.0)] {
        let sample =
            format!(r#"symphony_objective_seconds{{model="{model}",version="3",kind="{kind}"}}"#);
        assert_eq!(rig.metric(&sample).await, seconds, "{model}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_called_an_objective_that_is_none() {
    let rig = Rig::start().await;
    let effort = rig.get("/v2/models/effort_held/config").await.json();
    assert_eq!(effort["parameters"], json!({"best_effort_ms": {"string_value": "1"}}));
    let echo = rig.get("/v2/models/echo/config").await.json();
    assert_eq!(echo["parameters"], json!({"slo_ms": {"string_value": "20000"}}));
    let listed = rig.get("/v2/models").await.json();
    let listed = listed["models"].as_array().unwrap();
    let model = |name| listed.iter().find(|model| model["name"] == name).unwrap();
    let objective = |name| (model(name)["slo_ms"].clone(), model(name)["best_effort_ms"].clone());
    assert_eq!(objective("effort_held"), (json!(null), json!(1.0)));
    assert_eq!(objective("echo"), (json!(20_000.0), json!(null)));
    rig.stop().await;
}
