//! Whom a link trusts: under TLS who shows a certificate of the right authority, without it this host.

use super::authority::Authority;
use super::carriers::{Backend, Frontend, hello, settings};
use symphony_wire::carrier::link::{
    Endpoint, LinkError, LinkSettings, Listener, Security, connect,
};

fn local() -> Endpoint {
    "127.0.0.1:0".parse().unwrap()
}

async fn try_connect(listener: &Listener, security: Security) -> Result<Frontend, LinkError> {
    let settings = LinkSettings { security, ..settings() };
    connect(listener.address(), hello("frontend"), &settings).await
}

/// Whether what is tried fails, while nobody is welcomed.
async fn fails(listener: &Listener, security: Security) -> LinkError {
    tokio::select! {
        link = try_connect(listener, security) => link.expect_err("refused"),
        incoming = listener.accept() => panic!("{:?} was let in", incoming.hello()),
    }
}

#[tokio::test]
async fn who_shows_no_certificate_of_the_authority_is_not_let_in() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let files = tempfile::tempdir().unwrap();
    let role = |authority: &Authority, trusts: &Authority, name: &str| {
        Security::Tls(authority.role(trusts, files.path(), name))
    };
    let security = role(&ours, &ours, "scheduler");
    let listening = LinkSettings { security, ..settings() };
    let listener = Listener::bind(&local(), &listening).await.unwrap();

    let stranger = fails(&listener, role(&theirs, &ours, "stranger")).await;
    // The end that connects is done before the other has looked at its certificate.
    let is_shut_out =
        matches!(stranger, LinkError::Untrusted(_) | LinkError::Io(_) | LinkError::Closed(_));
    assert!(is_shut_out, "{stranger}");

    let distrustful = fails(&listener, role(&ours, &theirs, "distrustful")).await;
    let LinkError::Untrusted(why) = &distrustful else { panic!("{distrustful}") };
    assert!(why.contains("a CA that is not trusted here"), "{why}");

    let plain = fails(&listener, Security::Plain).await;
    assert!(matches!(plain, LinkError::Io(_) | LinkError::Closed(_) | LinkError::Malformed(_)));

    let welcoming = async { listener.accept().await.welcome(&hello("backend")) };
    let known = try_connect(&listener, role(&ours, &ours, "frontend"));
    let (frontend, backend): (_, Backend) = tokio::join!(known, welcoming);
    assert_eq!(frontend.unwrap().peer, hello("backend"));
    assert_eq!(backend.peer, hello("frontend"));
}

#[tokio::test]
async fn a_plain_link_stays_on_this_host_unless_somebody_says_otherwise() {
    let elsewhere: Endpoint = "192.0.2.1:9".parse().unwrap();
    let everywhere: Endpoint = "0.0.0.0:0".parse().unwrap();
    let refused: Result<Frontend, _> = connect(&elsewhere, hello("a"), &settings()).await;
    let problem = refused.unwrap_err().to_string();
    assert!(problem.contains("set up TLS between the roles"), "{problem}");
    let problem = Listener::bind(&everywhere, &settings()).await.unwrap_err().to_string();
    assert!(problem.contains("set up TLS between the roles"), "{problem}");
    let anywhere = LinkSettings { security: Security::PlainAnywhere, ..settings() };
    Listener::bind(&everywhere, &anywhere).await.unwrap();
}
