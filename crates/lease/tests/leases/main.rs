//! Leases between real processes, which are killed, stopped and cut off. Of each kind: a file, a
//! real etcd, and an API server that behaves as that of Kubernetes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_server;
mod certificates;
mod etcd;
mod holder;
mod proxy;

use std::path::Path;

use api_server::ScriptedApi;
use certificates::Authority;
use etcd::Etcd;
use holder::Holder;
use proxy::Proxy;

/// Two wait for a killed holder: one gets the lease, then the other.
fn check_killed_holders(start: impl Fn(&str) -> Holder) {
    let mut holders = vec![start("a")];
    let mut last = holders[0].expect_held().epoch;
    holders.extend([start("b"), start("c")]);
    for holder in &mut holders[1..] {
        holder.expect_waiting();
    }
    let mut active = holders.remove(0);
    while !holders.is_empty() {
        active.kill();
        let next = Holder::first_held(&mut holders);
        active = holders.remove(next.index);
        assert!(next.held.epoch > last, "{} after {last}", next.held.epoch);
        last = next.held.epoch;
        for holder in &mut holders {
            holder.expect_silence();
        }
    }
}

/// A released lease is taken at once, long before it would run out.
fn check_release(start: impl Fn(&str) -> Holder) {
    let (mut a, mut b) = (start("a"), start("b"));
    let mut holders = vec![a, b];
    let first = Holder::first_held(&mut holders);
    (b, a) = (holders.remove(1 - first.index), holders.remove(0));
    for _ in 0..3 {
        let before = a.epoch();
        a.release();
        let after = b.expect_held().epoch;
        assert!(after > before, "{after} after {before}");
        a.wait_again();
        (a, b) = (b, a);
    }
}

/// A holder that is stopped for longer than the lease lives finds it lost when it goes on.
fn check_stopped_holder(start: impl Fn(&str) -> Holder) {
    let mut a = start("a");
    let before = a.expect_held().epoch;
    let mut b = start("b");
    b.expect_waiting();
    a.stop();
    let after = b.expect_held().epoch;
    assert!(after > before, "{after} after {before}");
    a.go_on();
    a.expect_lost();
    b.release();
    assert!(a.expect_held().epoch > after);
}

/// A holder that is cut off from what keeps the lease gives up before another can take it.
fn check_cut_holder(proxy: &Proxy, start: impl Fn(&str, bool) -> Holder) {
    let mut a = start("a", true);
    let before = a.expect_held().epoch;
    let mut b = start("b", false);
    b.expect_waiting();
    proxy.cut();
    let after = b.expect_held();
    assert!(after.epoch > before, "{} after {before}", after.epoch);
    let lost_at = a.expect_lost();
    assert!(lost_at < after.at, "both held it for {:?}", lost_at - after.at);
    proxy.mend();
    b.release();
    assert!(a.expect_held().epoch > after.epoch);
}

fn file_in(folder: &Path) -> String {
    format!("file:{}/lock", folder.display())
}

#[test]
fn file_killed_holders() {
    let folder = tempfile::tempdir().unwrap();
    check_killed_holders(|name| Holder::start(name, &file_in(folder.path())));
}

#[test]
fn file_release() {
    let folder = tempfile::tempdir().unwrap();
    check_release(|name| Holder::start(name, &file_in(folder.path())));
}

#[test]
fn etcd_killed_holders() {
    let etcd = Etcd::start();
    check_killed_holders(|name| Holder::start(name, &etcd.address("k?ttl_s=4")));
}

#[test]
fn etcd_release() {
    let etcd = Etcd::start();
    check_release(|name| Holder::start(name, &etcd.address("k?ttl_s=300")));
}

#[test]
fn etcd_stopped_holder() {
    let etcd = Etcd::start();
    check_stopped_holder(|name| Holder::start(name, &etcd.address("k?ttl_s=4")));
}

#[test]
fn etcd_cut_holder() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port);
    check_cut_holder(&proxy, |name, cut| {
        let port = if cut { proxy.port } else { etcd.port };
        Holder::start(name, &format!("etcd:http://127.0.0.1:{port}/k?ttl_s=4"))
    });
}

#[test]
fn etcd_that_is_restarted_counts_on() {
    let mut etcd = Etcd::start();
    let mut holder = Holder::start("a", &etcd.address("k?ttl_s=4"));
    let before = holder.expect_held().epoch;
    etcd.kill();
    holder.expect_lost();
    etcd.start_again();
    assert!(holder.expect_held().epoch > before);
}

#[test]
fn etcd_member_that_does_not_answer_is_passed_over() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port);
    proxy.cut();
    let address = |name: &str| {
        let (silent, port) = (proxy.port, etcd.port);
        let refuses = etcd::free_port();
        format!(
            "etcd:http://127.0.0.1:{silent},http://127.0.0.1:{refuses},http://127.0.0.1:{port}/{name}"
        )
    };
    Holder::start("a", &address("a")).expect_held();
}

#[test]
fn etcd_over_tls() {
    let authority = Authority::new();
    let etcd = Etcd::start_with_tls(&authority);
    let mut holder = Holder::start("a", &etcd.address(&format!("k?{}", authority.options())));
    let before = holder.expect_held().epoch;
    holder.release();
    assert!(
        Holder::start("b", &etcd.address(&format!("k?{}", authority.options())))
            .expect_held()
            .epoch
            > before
    );
    let missing = etcd.address(&format!("k?ca={}", authority.folder().join("no").display()));
    let refused = Holder::start("c", &missing).expect_refused();
    assert!(refused.contains("lease key k in etcd") && refused.contains("cannot be read"));
}

#[test]
fn kubernetes_killed_holders() {
    let api = ScriptedApi::start();
    check_killed_holders(|name| api.holder(name, "ns/scheduler?ttl_s=4"));
}

#[test]
fn kubernetes_release() {
    let api = ScriptedApi::start();
    check_release(|name| api.holder(name, "ns/scheduler?ttl_s=300"));
}

#[test]
fn kubernetes_stopped_holder() {
    let api = ScriptedApi::start();
    check_stopped_holder(|name| api.holder(name, "ns/scheduler?ttl_s=4"));
}

#[test]
fn kubernetes_cut_holder() {
    let api = ScriptedApi::start();
    let proxy = Proxy::start(api.port);
    check_cut_holder(&proxy, |name, cut| {
        let port = if cut { proxy.port } else { api.port };
        api.holder_at(port, name, "ns/scheduler?ttl_s=4")
    });
}

#[test]
fn kubernetes_lease_that_is_changed_is_kept_and_one_that_is_deleted_is_lost() {
    let api = ScriptedApi::start();
    let mut holder = api.holder("a", "ns/scheduler?ttl_s=4");
    let before = holder.expect_held().epoch;
    api.annotate("note", "x");
    api.wait_for_renewals(3);
    assert_eq!(api.annotation("note").as_deref(), Some("x"));
    holder.expect_silence();
    api.delete();
    let lost = holder.expect_lost_because();
    assert!(lost.contains("Lease ns/scheduler of Kubernetes is gone"), "{lost}");
    assert!(holder.expect_held().epoch > before);
}

#[test]
fn kubernetes_lease_that_somebody_else_took_is_lost() {
    let api = ScriptedApi::start();
    let mut holder = api.holder("a", "ns/scheduler?ttl_s=4");
    holder.expect_held();
    api.take("somebody");
    let lost = holder.expect_lost_because();
    assert!(lost.contains("taken by somebody"), "{lost}");
}

#[test]
fn kubernetes_that_is_unwell_is_asked_again() {
    let api = ScriptedApi::start();
    api.fail_next(3);
    let mut holder = api.holder("a", "ns/scheduler?ttl_s=6");
    holder.expect_held();
    api.fail_next(1);
    api.wait_for_renewals(2);
    holder.expect_silence();
}

#[test]
fn kubernetes_that_refuses_says_why() {
    let api = ScriptedApi::start();
    let refused = api.holder("a", "other/scheduler").expect_refused();
    assert!(refused.contains("namespaces \"other\" not found"), "{refused}");
    assert!(refused.contains("create the namespace"), "{refused}");
    api.forbid();
    let refused = api.holder("a", "ns/scheduler").expect_refused();
    assert!(refused.contains("Lease ns/scheduler") && refused.contains("service account"));
    api.change_token();
    let refused = api.holder("a", "ns/scheduler").expect_refused();
    assert!(refused.contains("does not take the token"), "{refused}");
}
