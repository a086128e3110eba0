//! Identities from files: who is let in, what is refused and why, and what happens when the files
//! change.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{self, Read, Write};
use std::sync::Arc;
use support::{Authority, Folder, Life, log, until};
use symphony_tls::rustls::pki_types::ServerName;
use symphony_tls::rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use symphony_tls::{Identity, TlsError, TlsFiles, reason, trusting, trusting_as};

/// One connection: says "hello" there and back, or why each end refuses the other.
fn talk(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), Refused> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    client.writer().write_all(b"hello").unwrap();
    let mut refused = Refused::default();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        refused.by_server = refused.by_server.or_else(|| take(&mut server, &wire));
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        refused.by_client = refused.by_client.or_else(|| take(&mut client, &wire));
    }
    let mut said = [0; 5];
    match server.reader().read_exact(&mut said) {
        Ok(()) if refused == Refused::default() && &said == b"hello" => Ok(()),
        _ => Err(refused),
    }
}

fn take<S>(end: &mut symphony_tls::rustls::ConnectionCommon<S>, wire: &[u8]) -> Option<String>
where
    S: symphony_tls::rustls::SideData,
{
    let mut wire = wire;
    while !wire.is_empty() {
        end.read_tls(&mut wire).unwrap();
        if let Err(error) = end.process_new_packets() {
            return Some(reason(&io::Error::new(io::ErrorKind::InvalidData, error)));
        }
    }
    None
}

/// Why a connection was refused, by which end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    by_server: Option<String>,
    by_client: Option<String>,
}

fn check(refused: Result<(), Refused>, by_server: &str, by_client: &str) {
    let refused = refused.unwrap_err();
    let server = refused.by_server.clone().unwrap_or_default();
    let client = refused.by_client.clone().unwrap_or_default();
    assert!(server.contains(by_server), "by the server: {refused:?}, expected {by_server:?}");
    assert!(client.contains(by_client), "by the client: {refused:?}, expected {by_client:?}");
}

#[test]
fn roles_of_one_authority_let_each_other_in() {
    let folder = Folder::new();
    let authority = Authority::new("cluster");
    let scheduler = Identity::open(folder.role("scheduler", &authority, Life::Current)).unwrap();
    let backend = Identity::open(folder.role("backend", &authority, Life::Current)).unwrap();
    assert!(scheduler.is_mutual());
    talk(backend.client(), scheduler.server()).unwrap();
    talk(scheduler.client(), backend.server()).unwrap();
}

#[test]
fn who_is_refused_is_told_why() {
    let folder = Folder::new();
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let open = |files| Identity::open(files).unwrap();
    let server = open(folder.role("server", &ours, Life::Current));
    let expired = open(folder.role("expired", &ours, Life::Expired));
    let future = open(folder.role("future", &ours, Life::Future));
    // Trusts our authority, but has its certificate from another.
    let mut stranger = folder.role("stranger", &theirs, Life::Current);
    stranger.ca = Some(folder.ca(&ours));
    let stranger = open(stranger);
    check(
        talk(expired.client(), server.server()),
        "its certificate has expired",
        "refuses our certificate: expired",
    );
    check(talk(future.client(), server.server()), "not valid yet", "our certificate");
    check(
        talk(stranger.client(), server.server()),
        "of a CA that is not trusted here",
        "does not trust the CA of our certificate",
    );
    let known = folder.role("known", &ours, Life::Current);
    let known = trusting_as(known.ca.as_deref(), &known.certificate, &known.key).unwrap();
    talk(known, server.server()).unwrap();
    let nobody = trusting(Some(&folder.ca(&ours))).unwrap();
    check(talk(nobody, server.server()), "shows no certificate", "we show none");
    // The other way around: a client refuses a server.
    check(
        talk(server.client(), expired.server()),
        "refuses our certificate: expired",
        "its certificate has expired",
    );
    check(
        talk(server.client(), stranger.server()),
        "does not trust the CA of our certificate",
        "of a CA that is not trusted here",
    );
}

#[test]
fn a_server_without_authorities_lets_in_clients_that_show_nothing() {
    let folder = Folder::new();
    let authority = Authority::new("public");
    let files = TlsFiles { ca: None, ..folder.role("server", &authority, Life::Current) };
    let server = Identity::open(files).unwrap();
    assert!(!server.is_mutual());
    talk(trusting(Some(&folder.ca(&authority))).unwrap(), server.server()).unwrap();
    // And as a client it trusts nobody.
    check(talk(server.client(), server.server()), "does not trust", "not trusted here");
}

#[test]
fn a_peer_that_does_not_speak_tls_is_refused() {
    let folder = Folder::new();
    let files = folder.role("server", &Authority::new("ours"), Life::Current);
    let mut server = ServerConnection::new(Identity::open(files).unwrap().server()).unwrap();
    let said = take(&mut server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(said.contains("does not speak TLS"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let authority = Authority::new("ours");
    let good = folder.role("good", &authority, Life::Current);
    let other = folder.role("other", &authority, Life::Current);
    let missing = folder.path("missing.pem");
    let empty = folder.write("empty.pem", "");
    let noise = folder.write("noise.pem", "-----BEGIN CERTIFICATE-----\n\u{1}%%\n");
    let torn =
        folder.write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let weak =
        folder.write("weak.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let locked = folder.write(
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let large = folder.write("large.pem", &"x".repeat((1 << 20) + 1));
    let certificate =
        |path: &std::path::PathBuf| TlsFiles { certificate: path.clone(), ..good.clone() };
    let key = |path: &std::path::PathBuf| TlsFiles { key: path.clone(), ..good.clone() };
    let ca = |path: &std::path::PathBuf| TlsFiles { ca: Some(path.clone()), ..good.clone() };
    let cases = [
        (certificate(&missing), "cannot read the certificate", "missing.pem"),
        (certificate(&empty), "holds no certificate", "empty.pem"),
        (certificate(&noise), "not in PEM form", "noise.pem"),
        (certificate(&torn), "no certificate", "torn.pem"),
        (certificate(&large), "larger than 1 MiB", "large.pem"),
        (certificate(&folder.path("")), "it is not a file", "certificate"),
        (key(&missing), "cannot read the key", "missing.pem"),
        (key(&empty), "holds no private key", "empty.pem"),
        (key(&locked), "is encrypted: decrypt it", "locked.pem"),
        (key(&weak), "cannot be used", "weak.pem"),
        (key(&other.key), "is not the key of the certificate", "other.key"),
        (ca(&missing), "cannot read the CA certificate", "missing.pem"),
        (ca(&empty), "the CA certificate", "empty.pem"),
        (ca(&torn), "no certificate", "torn.pem"),
    ];
    for (files, what, name) in cases {
        let error: TlsError = Identity::open(files.clone()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(what) && text.contains(name), "{files:?}: {text}");
    }
}

#[test]
fn a_renewal_is_used_by_new_connections_and_what_is_wrong_with_one_is_told() {
    let log = log();
    let folder = Folder::new();
    let before = Authority::new("before");
    let after = Authority::new("after");
    let files = folder.role("server", &before, Life::Current);
    let server = Identity::open(files.clone()).unwrap();
    let old = Identity::open(folder.role("old", &before, Life::Current)).unwrap();
    let new = Identity::open(folder.role("new", &after, Life::Current)).unwrap();
    talk(old.client(), server.server()).unwrap();
    let opened = server.server();

    // In place, one file after the other: those that do not belong together are not used.
    let renewed = folder.role("renewed", &after, Life::Current);
    std::fs::copy(&renewed.certificate, &files.certificate).unwrap();
    until("the refusal", || log.contains("server.key is not the key of the certificate"));
    talk(old.client(), server.server()).unwrap();
    std::fs::copy(&renewed.key, &files.key).unwrap();
    std::fs::copy(renewed.ca.as_ref().unwrap(), files.ca.as_ref().unwrap()).unwrap();
    until("the renewal", || talk(new.client(), server.server()).is_ok());
    check(talk(old.client(), server.server()), "does not trust", "not trusted here");
    // Whoever took the configuration before goes on with it.
    talk(old.client(), opened).unwrap();

    // By rename, as a tool does that never shows half a file; by an expired one, and by none.
    let expired = folder.role("spent", &after, Life::Expired);
    std::fs::rename(&expired.certificate, &files.certificate).unwrap();
    std::fs::rename(&expired.key, &files.key).unwrap();
    until("the refusal", || log.contains("server.pem expired at 2021-01-01T00:00:00Z"));
    talk(new.client(), server.server()).unwrap();
    std::fs::remove_file(&files.certificate).unwrap();
    until("the refusal", || log.contains("cannot read the certificate"));
    talk(new.client(), server.server()).unwrap();
    let renewed = folder.role("again", &before, Life::Current);
    std::fs::rename(&renewed.key, &files.key).unwrap();
    std::fs::rename(renewed.ca.as_ref().unwrap(), files.ca.as_ref().unwrap()).unwrap();
    std::fs::rename(&renewed.certificate, &files.certificate).unwrap();
    until("the renewal", || talk(old.client(), server.server()).is_ok());
}

#[test]
fn a_certificate_that_has_expired_is_told_of_at_the_start() {
    let log = log();
    let folder = Folder::new();
    let files = folder.role("retired", &Authority::new("ours"), Life::Expired);
    let _identity = Identity::open(files).unwrap();
    let told = "retired.pem expired at 2021-01-01T00:00:00Z: renew it";
    until("the warning", || log.contains(told));
}
