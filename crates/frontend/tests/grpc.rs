//! The protocol over gRPC, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::time::Duration;
use support::{BODY_MAX, Rig};
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use symphony_frontend::proto::infer_parameter::ParameterChoice;
use symphony_frontend::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use symphony_frontend::proto::*;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::Intake;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;
use tower::util::BoxCloneService;

/// One connection without anything of a client's own, such as its timers.
type Bare = BoxCloneService<http::Request<Body>, http::Response<Incoming>, hyper::Error>;

async fn bare_client(rig: &Rig) -> GrpcInferenceServiceClient<Bare> {
    let stream = TcpStream::connect(rig.addresses.grpc).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let service = service_fn(move |request| sender.clone().send_request(request));
    let origin = format!("http://{}", rig.addresses.grpc).parse().unwrap();
    GrpcInferenceServiceClient::with_origin(BoxCloneService::new(service), origin)
}

async fn channel(rig: &Rig) -> Channel {
    Channel::from_shared(format!("http://{}", rig.addresses.grpc)).unwrap().connect().await.unwrap()
}

async fn client(rig: &Rig) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(channel(rig).await).max_encoding_message_size(usize::MAX)
}

fn request(model: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        id: "7".to_owned(),
        inputs: vec![tensor("x", "FP32", &[1, 2])],
        raw_input_contents: vec![Bytes::from_static(&[1; 8])],
        ..ModelInferRequest::default()
    }
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

fn parameters(name: &str, choice: ParameterChoice) -> HashMap<String, InferParameter> {
    HashMap::from([(name.to_owned(), parameter(choice))])
}

fn changed(change: impl FnOnce(&mut ModelInferRequest)) -> ModelInferRequest {
    let mut request = request("echo");
    change(&mut request);
    request
}

#[tokio::test]
async fn raw_and_typed_contents_are_answered_raw() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let answer = client.model_infer(request("echo")).await.unwrap().into_inner();
    assert_eq!((answer.model_name.as_str(), answer.id.as_str()), ("echo", "7"));
    assert_eq!(answer.outputs[0].shape, [1, 2]);
    assert_eq!(answer.raw_output_contents, [Bytes::from_static(&[1; 8])]);

    let typed = changed(|request| {
        request.raw_input_contents.clear();
        let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() };
        request.inputs[0].contents = Some(contents);
    });
    let answer = client.model_infer(typed).await.unwrap().into_inner();
    assert_eq!(answer.raw_output_contents[0], [0, 0, 128, 63, 0, 0, 0, 64][..]);

    let mut compressed = client.send_compressed(CompressionEncoding::Gzip);
    assert!(compressed.model_infer(request("echo")).await.is_ok());
}

#[tokio::test]
async fn parameters_that_ask_for_nothing_and_the_users_own_are_accepted() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let given = changed(|request| {
        for (name, choice) in [
            ("my_own", DoubleParam(0.5)),
            ("timeout", Int64Param(0)),
            ("priority", Uint64Param(0)),
            ("sequence_id", StringParam(String::new())),
            ("sequence_start", BoolParam(false)),
            ("triton_enable_empty_final_response", BoolParam(true)),
            ("binary_data_output", BoolParam(false)),
        ] {
            request.parameters.insert(name.to_owned(), parameter(choice));
        }
        request.inputs[0].parameters = parameters("binary_data_size", Int64Param(8));
        let parameters = parameters("binary_data", BoolParam(true));
        request.outputs.push(InferRequestedOutputTensor { name: "x".to_owned(), parameters });
    });
    let answer = client.model_infer(given).await.unwrap().into_inner();
    assert_eq!(answer.raw_output_contents, [Bytes::from_static(&[1; 8])]);
}

type BadCase = (&'static str, Code, ModelInferRequest);

fn bad_tensors() -> Vec<BadCase> {
    let other = |change: fn(&mut ModelInferRequest)| changed(change);
    vec![
        ("\"nope\"", Code::NotFound, request("nope")),
        ("only in version", Code::NotFound, other(|r| r.model_version = "9".to_owned())),
        ("still being loaded", Code::Unavailable, request("loading")),
        ("no input \"y\"", Code::InvalidArgument, other(|r| r.inputs[0].name = "y".to_owned())),
        ("takes FP32", Code::InvalidArgument, other(|r| r.inputs[0].datatype = "INT32".to_owned())),
        (
            "unknown datatype",
            Code::InvalidArgument,
            other(|r| r.inputs[0].datatype = "f".to_owned()),
        ),
        ("takes [-1, 2]", Code::InvalidArgument, other(|r| r.inputs[0].shape = vec![2])),
        ("negative", Code::InvalidArgument, other(|r| r.inputs[0].shape = vec![-1, 2])),
        ("at least one row", Code::InvalidArgument, other(|r| r.inputs[0].shape = vec![0, 2])),
        ("more than the 12", Code::InvalidArgument, other(|r| r.inputs[0].shape = vec![13, 2])),
        (
            "more than the 12",
            Code::InvalidArgument,
            other(|r| r.inputs[0].shape = vec![i64::MAX, 2]),
        ),
        ("needs 8", Code::InvalidArgument, other(|r| r.raw_input_contents[0].truncate(7))),
        (
            "raw contents for every input",
            Code::InvalidArgument,
            other(|r| {
                r.raw_input_contents.push(Bytes::new());
            }),
        ),
    ]
}

fn bad_requests() -> Vec<BadCase> {
    let other = |change: fn(&mut ModelInferRequest)| changed(change);
    vec![
        (
            "twice",
            Code::InvalidArgument,
            other(|r| {
                r.inputs.push(r.inputs[0].clone());
                r.raw_input_contents.push(r.raw_input_contents[0].clone());
            }),
        ),
        (
            "is missing",
            Code::InvalidArgument,
            other(|r| {
                r.inputs.clear();
                r.raw_input_contents.clear();
            }),
        ),
        (
            "both contents",
            Code::InvalidArgument,
            other(|r| {
                let contents =
                    InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
                r.inputs[0].contents = Some(contents);
            }),
        ),
        (
            "no output \"z\"",
            Code::InvalidArgument,
            other(|r| {
                let output =
                    InferRequestedOutputTensor { name: "z".to_owned(), ..Default::default() };
                r.outputs.push(output);
            }),
        ),
        (
            "no input \"aaaa",
            Code::InvalidArgument,
            other(|r| {
                r.inputs[0].name = "a".repeat(BODY_MAX / 2);
            }),
        ),
        (
            "takes [-1, 2]",
            Code::InvalidArgument,
            other(|r| {
                r.inputs[0].shape = vec![1; 1000];
            }),
        ),
    ]
}

fn bad_parameters() -> Vec<BadCase> {
    let other = |change: fn(&mut ModelInferRequest)| changed(change);
    vec![
        (
            "shared memory",
            Code::Unimplemented,
            other(|r| {
                let region = parameter(ParameterChoice::StringParam("r".to_owned()));
                r.inputs[0].parameters.insert("shared_memory_region".to_owned(), region);
            }),
        ),
        (
            "\"timeout\" is -1: give a whole number of microseconds",
            Code::InvalidArgument,
            other(|r| r.parameters = parameters("timeout", ParameterChoice::Int64Param(-1))),
        ),
        (
            "\"timeout\" is 0.5",
            Code::InvalidArgument,
            other(|r| r.parameters = parameters("timeout", ParameterChoice::DoubleParam(0.5))),
        ),
        (
            "\"priority\" is without a value",
            Code::InvalidArgument,
            other(|r| {
                let empty = InferParameter { parameter_choice: None };
                r.parameters = HashMap::from([("priority".to_owned(), empty)]);
            }),
        ),
        (
            "\"sequence_id\" is 7: sequences are not supported",
            Code::Unimplemented,
            other(|r| {
                r.parameters = parameters("sequence_id", ParameterChoice::Int64Param(7));
                r.parameters.extend(parameters("sequence_end", ParameterChoice::BoolParam(true)));
            }),
        ),
        (
            "\"triton_trace\" is not supported",
            Code::Unimplemented,
            other(|r| r.parameters = parameters("triton_trace", ParameterChoice::BoolParam(true))),
        ),
        (
            "classification is not supported",
            Code::Unimplemented,
            other(|r| {
                let parameters = parameters("classification", ParameterChoice::Int64Param(3));
                r.outputs.push(InferRequestedOutputTensor { name: "x".to_owned(), parameters });
            }),
        ),
    ]
}

fn lost_requests() -> Vec<BadCase> {
    vec![
        ("divided by zero", Code::Internal, request("failing")),
        ("element 1 of input \"x\"", Code::InvalidArgument, request("choosy")),
        ("dropped after 3.000ms", Code::DeadlineExceeded, request("drop_hopeless")),
        ("queue of model", Code::ResourceExhausted, request("drop_queue_full")),
        ("was unloaded", Code::Unavailable, request("drop_unloaded")),
    ]
}

#[tokio::test]
async fn a_request_of_more_rows_than_a_batch_takes_is_answered_as_one() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let contents: Vec<u8> = (0..80).collect();
    let large = ModelInferRequest {
        inputs: vec![tensor("x", "FP32", &[10, 2])],
        raw_input_contents: vec![contents.clone().into()],
        ..request("echo")
    };
    let answer = client.model_infer(large).await.unwrap().into_inner();
    assert_eq!(answer.outputs[0].shape, [10, 2]);
    assert_eq!(answer.raw_output_contents[0], contents);
}

#[tokio::test]
async fn bad_requests_are_refused_by_name_and_leave_nothing_behind() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let cases: Vec<BadCase> =
        [bad_tensors(), bad_requests(), bad_parameters(), lost_requests()].concat();
    for (part, code, request) in cases {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{part}: {status}");
        assert!(status.message().contains(part), "{part}: {status}");
        let retry = status.metadata().contains_key("retry-after");
        assert_eq!(retry, code == Code::ResourceExhausted, "{part}");
    }
    let too_long = changed(|r| r.raw_input_contents[0] = vec![0; BODY_MAX * 2].into());
    let status = client.model_infer(too_long).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains(&format!("{BODY_MAX} bytes")), "{status}");
    assert!(status.message().contains("body_max_mib"), "{status}");
    let mut bombing = client.clone().send_compressed(CompressionEncoding::Gzip);
    let bomb = changed(|r| r.raw_input_contents[0] = vec![0; 50 << 20].into());
    assert_eq!(bombing.model_infer(bomb).await.unwrap_err().code(), Code::ResourceExhausted);

    assert!(client.model_infer(request("echo")).await.is_ok());
    assert_eq!(rig.inflight.len(), 0);
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn the_earliest_limit_decides() {
    let rig = Rig::start().await;
    let mut client = bare_client(&rig).await;
    let micros = |micros| {
        let timeout = parameter(ParameterChoice::Int64Param(micros));
        HashMap::from([("timeout".to_owned(), timeout)])
    };
    for (model, header, parameters, objective) in [
        ("ignored", None, HashMap::new(), "the model's objective of 40.000ms"),
        ("ignored", Some("20m"), HashMap::new(), "the request's own limit of 20.000ms"),
        ("running", Some("10S"), micros(25_000), "the request's own limit of 25.000ms"),
    ] {
        let mut call = Request::new(ModelInferRequest { parameters, ..request(model) });
        if let Some(header) = header {
            call.metadata_mut().insert("grpc-timeout", header.parse().unwrap());
        }
        let status = client.model_infer(call).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains(objective), "{status}");
        assert!(status.message().contains(model), "{status}");
    }
    let mut call = Request::new(request("echo"));
    call.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.model_infer(call).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn a_stream_answers_in_order_and_survives_errors() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    for (id, model) in [("a", "held"), ("b", "echo"), ("c", "failing"), ("d", "nope")] {
        let request = ModelInferRequest { id: id.to_owned(), ..request(model) };
        sender.send(request).await.unwrap();
    }
    let stream = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
    let mut answers = stream.into_inner();
    rig.until("the first is queued", |rig| rig.held() == 1).await;
    rig.release();
    for (id, error) in [("a", ""), ("b", ""), ("c", "divided by zero"), ("d", "unknown model")] {
        let answer = answers.next().await.unwrap().unwrap();
        let response = answer.infer_response.unwrap();
        assert_eq!(response.id, id);
        assert!(answer.error_message.contains(error), "{}", answer.error_message);
        assert_eq!(answer.error_message.is_empty(), error.is_empty());
        let last = parameter(ParameterChoice::BoolParam(true));
        assert_eq!(response.parameters.get("triton_final_response"), Some(&last));
    }
    drop(sender);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_holds_no_room() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let large = ModelInferRequest {
        inputs: vec![tensor("x", "FP32", &[1, 100_000])],
        raw_input_contents: vec![vec![0; 400_000].into()],
        ..request("large")
    };
    // The first answer is kept back until all are asked for; the large ones then fill whatever
    // flows while nobody reads, and the last ones stand behind them.
    let mut wanted = vec![request("held")];
    wanted.extend(vec![large; 20]);
    wanted.extend(vec![request("held"); 8]);
    let count = wanted.len();
    let stream = client.model_stream_infer(tokio_stream::iter(wanted)).await.unwrap();
    rig.until("the kept ones are queued", |rig| rig.held() == 9).await;
    rig.release();
    rig.until_metric("symphony_requests_in_flight", 0.0).await;
    assert_eq!(rig.metric("symphony_request_bytes").await, 0.0);
    let answers: Vec<_> = stream.into_inner().collect().await;
    assert_eq!(answers.len(), count);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().error_message.is_empty()));
}

#[tokio::test]
async fn a_client_that_never_speaks_does_not_hold_the_shutdown_up() {
    let rig = Rig::start_with(|config| config.drain = Duration::from_secs(3600)).await;
    let mut silent = TcpStream::connect(rig.addresses.grpc).await.unwrap();
    rig.until_metric(r#"symphony_connections{protocol="grpc"}"#, 1.0).await;
    rig.stop().await;
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn clients_that_leave_take_their_requests_along() {
    let rig = Rig::start().await;
    let mut unary = client(&rig).await;
    let call = tokio::spawn(async move { unary.model_infer(request("held")).await });
    let mut streaming = client(&rig).await;
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    for _ in 0..3 {
        sender.send(request("held")).await.unwrap();
    }
    let stream = streaming.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
    rig.until("all are queued", |rig| rig.held() == 4).await;
    call.abort();
    drop((stream, sender, streaming));
    rig.until("all are taken out", |rig| rig.inflight.is_empty()).await;
    rig.until("the scheduler is told", |rig| rig.cancelled.lock().unwrap().len() == 4).await;
    let sample = r#"symphony_requests_total{model="held",version="3",outcome="cancelled"}"#;
    assert_eq!(rig.metric(sample).await, 4.0);
    assert_eq!(rig.metric("symphony_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn the_server_describes_itself_and_its_models() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let name = "echo".to_owned();
    let of = |version: &str| (name.clone(), version.to_owned());
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let (name, version) = of("3");
    let ready = client.model_ready(ModelReadyRequest { name, version }).await.unwrap();
    assert!(ready.into_inner().ready);
    let (name, version) = of("");
    let metadata = client.model_metadata(ModelMetadataRequest { name, version }).await.unwrap();
    assert_eq!(metadata.into_inner().inputs[0].shape, [-1, 2]);
    let (name, version) = of("");
    let config = client.model_config(ModelConfigRequest { name, version }).await.unwrap();
    assert_eq!(config.into_inner().config.unwrap().max_batch_size, Some(4));
    client.model_infer(request("echo")).await.unwrap();
    let (name, version) = of("");
    let statistics =
        client.model_statistics(ModelStatisticsRequest { name, version }).await.unwrap();
    let statistics = &statistics.into_inner().model_stats[0];
    assert_eq!((statistics.inference_count, statistics.execution_count), (1, 1));
    let unknown = ModelStatisticsRequest { name: "nope".to_owned(), version: String::new() };
    assert_eq!(client.model_statistics(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_repository_is_not_changed_while_the_server_shuts_down() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    rig.catalog.update(|catalog| catalog.intake = Intake::Closed);
    let model_name = "echo".to_owned();
    let load = RepositoryModelLoadRequest { model_name, ..Default::default() };
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::Unavailable);
    let unload =
        RepositoryModelUnloadRequest { model_name: "echo".to_owned(), ..Default::default() };
    let refused = client.repository_model_unload(unload).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    for way in ["load", "unload"] {
        let reply = rig.post(&format!("/v2/repository/models/echo/{way}"), "").await;
        assert_eq!(reply.status, 503, "{way}: {reply:?}");
    }
}

#[tokio::test]
async fn no_model_is_unknown_before_it_is_known_which_there_are() {
    let rig = Rig::start().await;
    rig.catalog.update(|catalog| *catalog = Catalog::default());
    let mut client = client(&rig).await;
    assert!(!client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let model = ModelReadyRequest { name: "echo".to_owned(), version: String::new() };
    assert!(!client.model_ready(model).await.unwrap().into_inner().ready);
    let mut health = HealthClient::new(channel(&rig).await);
    for name in ["", "echo"] {
        let service = HealthCheckRequest { service: name.to_owned() };
        assert_eq!(health.check(service).await.unwrap().into_inner().status, 2, "{name}");
    }
    let index = client.repository_index(RepositoryIndexRequest::default()).await;
    let infer = client.model_infer(request("echo")).await;
    for refused in [index.unwrap_err(), infer.unwrap_err()] {
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("has not yet learned its models"), "{refused}");
    }
}

#[tokio::test]
async fn the_repository_is_listed_and_changed() {
    let rig = Rig::start().await;
    let mut client = client(&rig).await;
    let all = RepositoryIndexRequest { ready: false, ..Default::default() };
    let index = client.repository_index(all).await.unwrap().into_inner();
    assert!(index.models.iter().any(|model| model.state == "LOADING"));
    for (model, expected) in [
        ("echo", Code::Ok),
        ("broken", Code::InvalidArgument),
        ("nope", Code::NotFound),
        ("stuck", Code::Unavailable),
    ] {
        let request =
            RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
        let code =
            client.repository_model_load(request).await.map_or_else(|s| s.code(), |_| Code::Ok);
        assert_eq!(code, expected, "{model}");
    }
    let request =
        RepositoryModelUnloadRequest { model_name: "echo".to_owned(), ..Default::default() };
    assert!(client.repository_model_unload(request).await.is_ok());
    let repository_name = "other".to_owned();
    let index = RepositoryIndexRequest { repository_name, ready: false };
    let model_name = "echo".to_owned();
    let value = ModelRepositoryParameter::default();
    let parameters = HashMap::from([("force".to_owned(), value)]);
    let unload = RepositoryModelUnloadRequest { model_name, parameters, ..Default::default() };
    for (refused, named) in [
        (client.repository_index(index).await.unwrap_err(), "\"other\""),
        (client.repository_model_unload(unload).await.unwrap_err(), "\"force\""),
    ] {
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains(named), "{refused}");
    }
    let status = client.log_settings(LogSettingsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_follows_catalog_and_pool_and_streams_end_at_shutdown() {
    let mut rig = Rig::start_with(|config| config.drain = Duration::from_secs(60)).await;
    let mut health = HealthClient::new(channel(&rig).await);
    let service = |name: &str| HealthCheckRequest { service: name.to_owned() };
    let mut watched = health.watch(service("")).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status, 1);
    for (name, status) in [("", 1), ("live", 1), ("echo", 1), ("loading", 2)] {
        let answer = health.check(service(name)).await.unwrap().into_inner();
        assert_eq!(answer.status, status, "{name}");
    }
    assert_eq!(health.check(service("nope")).await.unwrap_err().code(), Code::NotFound);
    let mut client = client(&rig).await;
    for (what, status) in [("drain", 2), ("resume", 1)] {
        rig.post(&format!("/v2/scheduler/accelerators/0/{what}"), "").await;
        assert_eq!(watched.next().await.unwrap().unwrap().status, status, "{what}");
        for name in ["", "echo"] {
            let answer = health.check(service(name)).await.unwrap().into_inner();
            assert_eq!(answer.status, status, "{what}: {name}");
        }
        let ready = client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready;
        let model = ModelReadyRequest { name: "echo".to_owned(), version: String::new() };
        let model = client.model_ready(model).await.unwrap().into_inner();
        assert_eq!((ready, model.ready), (status == 1, status == 1), "{what}");
    }
    rig.catalog.update(|catalog| catalog.intake = Intake::Leaving);
    for name in ["", "echo"] {
        assert_eq!(health.check(service(name)).await.unwrap().into_inner().status, 2, "{name}");
    }
    client.model_infer(request("echo")).await.unwrap();
    rig.catalog.update(|catalog| catalog.intake = Intake::Closed);
    assert_eq!(health.check(service("")).await.unwrap().into_inner().status, 2);
    assert_eq!(health.check(service("live")).await.unwrap().into_inner().status, 1);
    assert_eq!(watched.next().await.unwrap().unwrap().status, 2);
    let status = client.model_infer(request("echo")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let (_open, requests) = tokio::sync::mpsc::channel(1);
    let stream = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
    rig.begin_stop();
    assert!(watched.next().await.is_none());
    assert!(stream.into_inner().next().await.is_none());
    drop((client, health));
    rig.stop().await;
}
