//! Who may ask what: keys and their scopes, TLS, and the place for calls that change the server,
//! over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
#[path = "../../tls/tests/support/mod.rs"]
mod tls;

use bytes::Bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{BODY_MAX, Connection, Reply, Rig};
use symphony_frontend::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use symphony_frontend::proto::*;
use symphony_frontend::{AdminPort, FrontendConfig, Security, TlsFiles};
use symphony_tls::rustls::ClientConfig;
use symphony_tls::rustls::pki_types::ServerName;
use symphony_tls::{Identity, trusting};
use tls::{Authority, Folder, Life, log};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const ROW: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;
const ECHO: &str = "/v2/models/echo/infer";
const LOAD: &str = "/v2/repository/models/echo/load";

/// The keys of the tests, each with what it may do.
const INFER: &str = "key-of-somebody-who-asks";
const ADMIN: &str = "key-of-somebody-who-loads";
const BOTH: &str = "key-of-somebody-who-does-both";
const GONE: &str = "key-of-somebody-who-has-left";

fn section(name: &str, key: &str, scopes: &str) -> String {
    format!("[[key]]\nname = \"{name}\"\nkey = \"{key}\"\nscopes = {scopes}\n")
}

fn keys() -> String {
    let asks = section("asks", INFER, "[\"infer\"]");
    let loads = section("loads", ADMIN, "[\"admin\"]");
    asks + &loads + &section("both", BOTH, "[\"infer\", \"admin\"]")
}

async fn guarded(security: Security) -> Rig {
    Rig::start_with(|config: &mut FrontendConfig| config.security = security).await
}

fn with_keys(path: PathBuf) -> Security {
    Security { keys_file: Some(path), ..Security::default() }
}

async fn ask(address: SocketAddr, method: &str, path: &str, key: Option<&str>) -> Reply {
    let connection = Connection::over(TcpStream::connect(address).await.unwrap()).await;
    ask_on(connection, method, path, key).await
}

async fn ask_on(mut connection: Connection, method: &str, path: &str, key: Option<&str>) -> Reply {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let headers: Vec<_> = bearer.iter().map(|value| ("authorization", value.as_str())).collect();
    let body = if path == ECHO { Bytes::from(ROW) } else { Bytes::new() };
    connection.send(method, path, &headers, body).await.unwrap()
}

#[tokio::test]
async fn calls_over_http_need_a_key_with_their_scope() {
    let folder = Folder::new();
    let rig = guarded(with_keys(folder.write("keys.toml", &keys()))).await;
    let resume = "/v2/scheduler/accelerators/0/resume";
    // What is asked, then what answers no key, a wrong one, `infer`, `admin` and both.
    let cases = [
        ("GET", "/", [200, 200, 200, 200, 200]),
        ("GET", "/v2/health/live", [200, 200, 200, 200, 200]),
        ("GET", "/v2/health/ready", [200, 200, 200, 200, 200]),
        ("GET", "/v2/models/echo/ready", [200, 200, 200, 200, 200]),
        ("GET", "/v2", [401, 401, 200, 200, 200]),
        ("GET", "/v2/models", [401, 401, 200, 200, 200]),
        ("GET", "/v2/models/echo", [401, 401, 200, 200, 200]),
        ("GET", "/v2/models/stats", [401, 401, 200, 200, 200]),
        ("GET", "/v1/models/echo", [401, 401, 200, 200, 200]),
        ("GET", "/v2/scheduler/mode", [401, 401, 200, 200, 200]),
        ("GET", "/v2/nothing/here", [401, 401, 404, 404, 404]),
        ("POST", "/v2/repository/index", [401, 401, 200, 200, 200]),
        ("POST", ECHO, [401, 401, 200, 403, 200]),
        ("POST", "/v1/models/echo:predict", [401, 401, 400, 403, 400]),
        ("POST", LOAD, [401, 401, 403, 200, 200]),
        ("POST", "/v2/repository/models/echo/unload", [401, 401, 403, 200, 200]),
        ("POST", "/v2/scheduler/mode", [401, 401, 403, 400, 400]),
        ("POST", resume, [401, 401, 403, 200, 200]),
    ];
    let shown = [None, Some(GONE), Some(INFER), Some(ADMIN), Some(BOTH)];
    for (method, path, expected) in cases {
        for (key, status) in shown.into_iter().zip(expected) {
            let reply = ask(rig.addresses.http, method, path, key).await;
            assert_eq!(reply.status, status, "{method} {path} {key:?}: {}", reply.text());
            let challenge = if status == 401 { "Bearer" } else { "" };
            assert_eq!(reply.header("www-authenticate"), challenge, "{method} {path}");
        }
    }
    let text = ask(rig.addresses.http, "POST", ECHO, Some(ADMIN)).await.text();
    assert!(text.contains(r#"the key \"loads\" does not have the scope \"infer\""#), "{text}");
    assert!(rig.metric(r#"symphony_refused_total{reason="unauthenticated"}"#).await > 20.0);
    assert!(rig.metric(r#"symphony_refused_total{reason="forbidden"}"#).await >= 7.0);
}

#[tokio::test]
async fn a_key_is_shown_once_and_as_a_bearer() {
    let folder = Folder::new();
    let rig = guarded(with_keys(folder.write("keys.toml", &keys()))).await;
    let (bearer, basic) = (format!("Bearer {INFER}"), format!("Basic {INFER}"));
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Headers<'_>, u16, &str); 5] = [
        (&[("authorization", &bearer)], 200, ""),
        (&[("authorization", &bearer.to_lowercase())], 200, ""),
        (&[("authorization", &basic)], 401, "not of the form"),
        (&[("authorization", &bearer), ("authorization", &bearer)], 401, "more than one"),
        (&[("authorization", "Bearer \u{e9}\u{e9}")], 401, "not, or no longer, known"),
    ];
    for (headers, status, part) in cases {
        let reply = rig.send("GET", "/v2", headers, "").await;
        assert_eq!(reply.status, status, "{headers:?}");
        assert!(reply.text().contains(part), "{headers:?}: {}", reply.text());
    }
    // A large body that is refused does not break the connection under a client that sends it all.
    let stream = TcpStream::connect(rig.addresses.http).await.unwrap();
    let mut connection = Connection::over(stream).await;
    let body = Bytes::from(vec![b' '; 2 * BODY_MAX]);
    assert_eq!(connection.send("POST", ECHO, &[], body).await.unwrap().status, 401);
    assert_eq!(ask_on(connection, "GET", "/v2", Some(INFER)).await.status, 200);
}

type Client = GrpcInferenceServiceClient<Channel>;

fn keyed<T>(message: T, key: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn row() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![model_infer_request::InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 2],
            ..Default::default()
        }],
        raw_input_contents: vec![Bytes::from_static(&[0; 8])],
        ..Default::default()
    }
}

async fn load_over_grpc(client: &mut Client, key: Option<&str>) -> Code {
    let message =
        RepositoryModelLoadRequest { model_name: "echo".to_owned(), ..Default::default() };
    code(&client.repository_model_load(keyed(message, key)).await)
}

fn code<T>(answer: &Result<T, Status>) -> Code {
    answer.as_ref().err().map_or(Code::Ok, Status::code)
}

#[tokio::test]
async fn calls_over_grpc_need_a_key_with_their_scope() {
    use Code::{Ok, PermissionDenied, Unauthenticated};
    let folder = Folder::new();
    let rig = guarded(with_keys(folder.write("keys.toml", &keys()))).await;
    let url = format!("http://{}", rig.addresses.grpc);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = Client::new(channel.clone());
    for (key, infers, loads, tells) in [
        (None, Unauthenticated, Unauthenticated, Unauthenticated),
        (Some(GONE), Unauthenticated, Unauthenticated, Unauthenticated),
        (Some(INFER), Ok, PermissionDenied, Ok),
        (Some(ADMIN), PermissionDenied, Ok, Ok),
        (Some(BOTH), Ok, Ok, Ok),
    ] {
        let live = client.server_live(keyed(ServerLiveRequest {}, key)).await;
        let ready = client.server_ready(keyed(ServerReadyRequest {}, key)).await;
        let asked = ModelReadyRequest { name: "echo".to_owned(), version: String::new() };
        let model = client.model_ready(keyed(asked, key)).await;
        assert_eq!((code(&live), code(&ready), code(&model)), (Ok, Ok, Ok), "{key:?}");
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
        assert_eq!(code(&health), Ok, "{key:?}");
        assert_eq!(code(&client.model_infer(keyed(row(), key)).await), infers, "{key:?}");
        let stream = keyed(tokio_stream::iter([row()]), key);
        assert_eq!(code(&client.model_stream_infer(stream).await), infers, "{key:?}");
        assert_eq!(load_over_grpc(&mut client, key).await, loads, "{key:?}");
        let unload =
            RepositoryModelUnloadRequest { model_name: "echo".to_owned(), ..Default::default() };
        assert_eq!(code(&client.repository_model_unload(keyed(unload, key)).await), loads);
        let told = client.server_metadata(keyed(ServerMetadataRequest {}, key)).await;
        assert_eq!(code(&told), tells, "{key:?}");
    }
}

/// Waits until a call over a connection that stays answers with a status.
async fn until_status(connection: &mut Connection, key: &str, status: u16) {
    let bearer = format!("Bearer {key}");
    for _ in 0..3_000 {
        let headers = [("authorization", bearer.as_str())];
        let reply = connection.send("POST", ECHO, &headers, Bytes::from(ROW)).await.unwrap();
        if reply.status == status {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{status} did not come: {:?}", log());
}

#[tokio::test]
async fn keys_are_read_again_under_open_connections_and_bad_files_change_nothing() {
    let log = log();
    let folder = Folder::new();
    let path = folder.write("renewed-keys.toml", &keys());
    let rig = guarded(with_keys(path.clone())).await;
    let stream = TcpStream::connect(rig.addresses.http).await.unwrap();
    let mut connection = Connection::over(stream).await;
    until_status(&mut connection, INFER, 200).await;
    until_status(&mut connection, GONE, 401).await;

    let bad = keys().replace("[\"infer\"]", &format!("[\"{INFER}\"]"));
    std::fs::write(&path, bad).unwrap();
    tls::until("the refusal", || log.contains("number 1 (\"asks\") has to have scopes"));
    until_status(&mut connection, INFER, 200).await;
    std::fs::remove_file(&path).unwrap();
    tls::until("the refusal", || log.contains("cannot read the keys"));
    until_status(&mut connection, INFER, 200).await;

    std::fs::write(&path, section("new", GONE, "[\"infer\"]")).unwrap();
    until_status(&mut connection, GONE, 200).await;
    until_status(&mut connection, INFER, 401).await;
    for key in [INFER, GONE] {
        assert!(!log.contains(key), "the log tells a key: {log:?}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_and_are_named() {
    let folder = Folder::new();
    let files = folder.role("server", &Authority::new("ours"), Life::Current);
    let tls = |certificate: &Path| Security {
        tls: Some(TlsFiles { certificate: certificate.to_owned(), ..files.clone() }),
        ..Security::default()
    };
    let cases = [
        (with_keys(folder.path("missing.toml")), "cannot read the keys", "missing.toml"),
        (with_keys(folder.write("empty.toml", "")), "holds no [[key]]", "empty.toml"),
        (tls(&folder.path("missing.pem")), "cannot read the certificate", "missing.pem"),
    ];
    for (security, what, name) in cases {
        let checked = security.check().unwrap_err().to_string();
        let error = Rig::refused_with(|config| config.security = security).await.to_string();
        assert_eq!(checked, error);
        assert!(error.contains(what) && error.contains(name), "{error}");
    }
}

async fn shake(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

fn offering(config: &Arc<ClientConfig>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A gRPC client under TLS.
async fn grpc_over(address: SocketAddr, config: Arc<ClientConfig>) -> Client {
    let connector = tower::service_fn(move |_: http::Uri| {
        let config = offering(&config, &["h2"]);
        async move { shake(address, config).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Channel::from_static("http://localhost");
    Client::new(endpoint.connect_with_connector(connector).await.unwrap())
}

fn secured(files: TlsFiles) -> Security {
    Security { tls: Some(files), ..Security::default() }
}

#[tokio::test]
async fn both_protocols_are_served_under_tls() {
    let folder = Folder::new();
    let authority = Authority::new("public");
    let files = TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) };
    let rig = guarded(secured(files)).await;
    let trusted = trusting(Some(&folder.ca(&authority))).unwrap();
    let stream = shake(rig.addresses.http, offering(&trusted, &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut connection = Connection::over(stream).await;
    for _ in 0..3 {
        let reply = connection.send("POST", ECHO, &[], Bytes::from(ROW)).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    // Large ones go both ways whole.
    let data: Vec<u8> = (0..800_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    let length = data.len().to_string();
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[2,100000],"parameters":
        {{"binary_data_size":{length}}}}}],"parameters":{{"binary_data_output":true}}}}"#
    );
    let body = [json.as_bytes(), &data].concat();
    let head = json.len().to_string();
    let headers = [("inference-header-content-length", head.as_str())];
    let path = "/v2/models/large/infer";
    let reply = connection.send("POST", path, &headers, body.into()).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.body[reply.body.len() - data.len()..], data);
    // A client that offers nothing is served as well.
    let plain = Connection::over(shake(rig.addresses.http, trusted.clone()).await.unwrap()).await;
    assert_eq!(ask_on(plain, "GET", "/v2", None).await.status, 200);

    let mut client = grpc_over(rig.addresses.grpc, trusted.clone()).await;
    assert_eq!(code(&client.model_infer(row()).await), Code::Ok);
    let error = shake(rig.addresses.grpc, offering(&trusted, &["http/1.1"])).await.unwrap_err();
    assert!(symphony_tls::reason(&error).contains("NoApplicationProtocol"), "{error}");
    // The metrics page is not among what is protected.
    assert_eq!(rig.metric("symphony_ready").await, 1.0);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_cuts_none() {
    let folder = Folder::new();
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let files = TlsFiles { ca: None, ..folder.role("server", &before, Life::Current) };
    let rig = guarded(secured(files.clone())).await;
    let old = trusting(Some(&folder.ca(&before))).unwrap();
    let new = trusting(Some(&folder.ca(&after))).unwrap();
    let stream = shake(rig.addresses.http, old.clone()).await.unwrap();
    let mut open = Connection::over(stream).await;
    let mut open_grpc = grpc_over(rig.addresses.grpc, old.clone()).await;
    assert!(shake(rig.addresses.http, new.clone()).await.is_err());

    let renewed = folder.role("renewed", &after, Life::Current);
    std::fs::rename(&renewed.key, &files.key).unwrap();
    std::fs::rename(&renewed.certificate, &files.certificate).unwrap();
    // Requests go on over the connections from before while the files are read.
    let mut tries = 0;
    while shake(rig.addresses.http, new.clone()).await.is_err() {
        until_status(&mut open, "", 200).await;
        assert_eq!(code(&open_grpc.model_infer(row()).await), Code::Ok);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        tries += 1;
        assert!(tries < 3_000, "the renewal did not come");
    }
    assert!(shake(rig.addresses.http, old).await.is_err());
    until_status(&mut open, "", 200).await;
    assert_eq!(code(&open_grpc.model_infer(row()).await), Code::Ok);
}

#[tokio::test]
async fn clients_show_a_certificate_where_the_server_asks_for_one() {
    let log = log();
    let folder = Folder::new();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let rig = guarded(secured(folder.role("server", &ours, Life::Current))).await;
    let client = |name: &str, authority: &Authority, life| {
        let files = folder.role(name, authority, life);
        Identity::open(TlsFiles { ca: Some(folder.ca(&ours)), ..files }).unwrap().client()
    };
    let known = client("known", &ours, Life::Current);
    let connection = Connection::over(shake(rig.addresses.http, known.clone()).await.unwrap());
    assert_eq!(ask_on(connection.await, "POST", ECHO, None).await.status, 200);
    let mut over_grpc = grpc_over(rig.addresses.grpc, known).await;
    assert_eq!(code(&over_grpc.model_infer(row()).await), Code::Ok);
    let nobody = trusting(Some(&folder.ca(&ours))).unwrap();
    for (config, told) in [
        (client("expired", &ours, Life::Expired), "expired"),
        (client("stranger", &theirs, Life::Current), "does not trust the CA"),
        (nobody, "we show none"),
    ] {
        // The server refuses once the client believes that all is well.
        let mut stream = shake(rig.addresses.http, config).await.unwrap();
        let _ = stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        let reason = symphony_tls::reason(&error);
        assert!(reason.contains(told), "{reason}");
    }
    rig.until_metric("symphony_refused_connections_total", 3.0).await;
    assert!(log.contains("a connection was refused: its certificate has expired"), "{log:?}");
}

#[tokio::test]
async fn what_is_no_protocol_of_the_port_is_refused_and_told_of() {
    let log = log();
    let folder = Folder::new();
    let authority = Authority::new("public");
    let files = TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) };
    let plain = guarded(Security::default()).await;
    let secure = guarded(secured(files)).await;
    let trusted = trusting(Some(&folder.ca(&authority))).unwrap();
    assert!(shake(plain.addresses.http, trusted.clone()).await.is_err());
    assert!(shake(plain.addresses.grpc, trusted).await.is_err());
    plain.until_metric("symphony_refused_connections_total", 2.0).await;
    for (address, said) in [
        (plain.addresses.http, &b"\x00\xff\x00 nonsense\r\n\r\n"[..]),
        (plain.addresses.grpc, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        (secure.addresses.http, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        (secure.addresses.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        // Its end, with or without an error, is all that comes.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    plain.until_metric("symphony_refused_connections_total", 4.0).await;
    secure.until_metric("symphony_refused_connections_total", 2.0).await;
    assert!(log.contains("a connection was refused: this is not HTTP"), "{log:?}");
    assert!(log.contains("a connection was refused: it does not speak TLS"), "{log:?}");
    // Probes that say nothing are no peers to tell of, and the server goes on.
    drop(TcpStream::connect(secure.addresses.http).await.unwrap());
    assert_eq!(plain.get("/v2").await.status, 200);
    plain.stop().await;
    secure.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_under_tls_takes_its_request_along_and_one_that_waits_is_answered() {
    let folder = Folder::new();
    let authority = Authority::new("public");
    let files = TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) };
    let rig = guarded(secured(files)).await;
    let trusted = trusting(Some(&folder.ca(&authority))).unwrap();
    let request = format!(
        "POST /v2/models/held/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{ROW}",
        ROW.len()
    );
    // One says under TLS that it leaves, one only closes.
    for says_so in [true, false] {
        let mut stream = shake(rig.addresses.http, trusted.clone()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        rig.until("it is queued", |rig| !rig.inflight.is_empty()).await;
        if says_so {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        rig.until("it is taken out", |rig| rig.inflight.is_empty()).await;
    }
    let before = rig.held();
    let mut stream = shake(rig.addresses.http, trusted).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rig.until("it is queued", |rig| rig.held() > before).await;
    stream.shutdown().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    rig.release();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn calls_that_change_the_server_are_taken_at_their_own_port_where_it_has_one() {
    let folder = Folder::new();
    let authority = Authority::new("public");
    let files = TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) };
    let trusted = trusting(Some(&folder.ca(&authority))).unwrap();
    let admin = Some(AdminPort { host: "127.0.0.1".to_owned(), port: 0 });
    for tls in [None, Some(files)] {
        let keys_file = Some(folder.write("keys.toml", &keys()));
        let rig = guarded(Security {
            tls: tls.clone(),
            keys_file,
            admin: admin.clone(),
            ..Security::default()
        })
        .await;
        let connect = async |address, protocol: &str| -> Connection {
            if tls.is_none() {
                return Connection::over(TcpStream::connect(address).await.unwrap()).await;
            }
            let config = offering(&trusted, &[protocol]);
            Connection::over(shake(address, config).await.unwrap()).await
        };
        let admin_at = rig.addresses.admin.unwrap();
        let there = connect(rig.addresses.http, "http/1.1").await;
        let reply = ask_on(there, "POST", LOAD, Some(BOTH)).await;
        let at_port = format!("at port {} only", admin_at.port());
        assert_eq!(reply.status, 403);
        assert!(reply.text().contains(&at_port), "{}", reply.text());
        for (path, key, status) in
            [(LOAD, BOTH, 200), (LOAD, INFER, 403), (LOAD, GONE, 401), (ECHO, BOTH, 200)]
        {
            let here = connect(admin_at, "http/1.1").await;
            assert_eq!(ask_on(here, "POST", path, Some(key)).await.status, status, "{path} {key}");
        }
        let client = async |address| match &tls {
            None => Client::connect(format!("http://{address}")).await.unwrap(),
            Some(_) => grpc_over(address, trusted.clone()).await,
        };
        let mut at_data = client(rig.addresses.grpc).await;
        assert_eq!(load_over_grpc(&mut at_data, Some(ADMIN)).await, Code::PermissionDenied);
        let mut at_admin = client(admin_at).await;
        assert_eq!(load_over_grpc(&mut at_admin, Some(ADMIN)).await, Code::Ok);
        assert_eq!(load_over_grpc(&mut at_admin, Some(INFER)).await, Code::PermissionDenied);
        assert_eq!(load_over_grpc(&mut at_admin, None).await, Code::Unauthenticated);
        rig.stop().await;
    }
}

#[tokio::test]
async fn metrics_ask_for_what_the_other_ports_ask_for_where_they_are_protected() {
    let folder = Folder::new();
    let authority = Authority::new("public");
    let security = Security {
        tls: Some(TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) }),
        keys_file: Some(folder.write("keys.toml", &keys())),
        protects_metrics: true,
        ..Security::default()
    };
    let rig = guarded(security).await;
    let trusted = trusting(Some(&folder.ca(&authority))).unwrap();
    for (key, status) in [(None, 401), (Some(GONE), 401), (Some(INFER), 200), (Some(ADMIN), 200)] {
        let stream = shake(rig.addresses.metrics, trusted.clone()).await.unwrap();
        let reply = ask_on(Connection::over(stream).await, "GET", "/metrics", key).await;
        assert_eq!(reply.status, status, "{key:?}");
    }
}
