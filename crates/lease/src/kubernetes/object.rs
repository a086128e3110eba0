//! The Lease object of Kubernetes, `coordination.k8s.io/v1`, and what a schedule of holders makes
//! of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const API_VERSION: &str = "coordination.k8s.io/v1";
const KIND: &str = "Lease";
/// How many holders one object can have within a second without an epoch that a later object of
/// the same name has, too.
const HOLDERS_PER_SECOND: u64 = 1 << 20;

/// The object. What this program does not know stays as it was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseObject {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creation_timestamp: Option<Timestamp>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Who holds it, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    holder_identity: Option<String>,
    #[serde(default)]
    lease_duration_seconds: Option<i32>,
    #[serde(default)]
    acquire_time: Option<String>,
    #[serde(default)]
    renew_time: Option<String>,
    #[serde(default)]
    lease_transitions: Option<i32>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl LeaseObject {
    /// A new object that nobody holds yet.
    pub(super) fn new(name: &str) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata { name: name.to_owned(), ..Metadata::default() },
            spec: Spec::default(),
            others: Map::new(),
        }
    }

    /// Who holds it by its own word, if anybody.
    pub(super) fn holder(&self) -> Option<&str> {
        self.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// The epoch of its newest holder. An object that was removed and made anew counts its holders
    /// from 0 again, but was made later by the API server's clock.
    pub(super) fn epoch(&self) -> Option<u64> {
        let made = u64::try_from(self.metadata.creation_timestamp?.as_second()).ok()?;
        let holders = u64::try_from(self.spec.lease_transitions.unwrap_or(0)).ok()?;
        made.checked_mul(HOLDERS_PER_SECOND)?.checked_add(holders)
    }

    /// How long others have to wait after a renewal, in seconds.
    pub(super) fn duration_s(&self) -> u64 {
        self.spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0)
    }

    /// This object after `holder` took it; `None` if its holders cannot be counted further.
    pub(super) fn taken(&self, holder: &str, ttl_s: u64) -> Option<Self> {
        let mut taken = self.renewed(ttl_s);
        taken.spec.holder_identity = Some(holder.to_owned());
        taken.spec.acquire_time.clone_from(&taken.spec.renew_time);
        // Also when this very process held it before: each holding has its own epoch.
        let transitions = self.spec.lease_transitions;
        taken.spec.lease_transitions = Some(match transitions {
            None => 0,
            Some(count) => count.max(0).checked_add(1)?,
        });
        Some(taken)
    }

    /// This object after its holder renewed it.
    pub(super) fn renewed(&self, ttl_s: u64) -> Self {
        let mut renewed = self.clone();
        renewed.spec.renew_time = Some(format!("{:.6}", Timestamp::now()));
        renewed.spec.lease_duration_seconds = Some(i32::try_from(ttl_s).unwrap_or(i32::MAX));
        renewed
    }

    /// This object after its holder freed it, as the clients of Kubernetes do it.
    pub(super) fn freed(&self) -> Self {
        let mut freed = self.renewed(1);
        freed.spec.holder_identity = Some(String::new());
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(spec: &Value) -> LeaseObject {
        let text = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": "scheduler", "namespace": "ns", "uid": "u", "resourceVersion": "12",
                "creationTimestamp": "1970-01-01T00:00:02Z", "labels": {"a": "b"}
            },
            "spec": spec,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let object = stored(&json!({"holderIdentity": "x", "strategy": "OldestEmulationVersion"}));
        let written = serde_json::to_value(object.renewed(6)).unwrap();
        assert_eq!(written["metadata"]["resourceVersion"], "12");
        assert_eq!(written["metadata"]["labels"]["a"], "b");
        assert_eq!(written["spec"]["strategy"], "OldestEmulationVersion");
        assert_eq!(written["spec"]["leaseDurationSeconds"], 6);
        // Kubernetes reads microseconds, always six digits.
        let time = written["spec"]["renewTime"].as_str().unwrap();
        assert!(time.len() == "2026-11-30T22:00:00.000000Z".len() && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn each_holder_has_a_greater_epoch() {
        let mut last = None;
        for transitions in [json!(null), json!(0), json!(7), json!(-3)] {
            let object = stored(&json!({"holderIdentity": "", "leaseTransitions": transitions}));
            assert_eq!(object.holder(), None);
            let taken = object.taken("a", 6).unwrap();
            assert_eq!(taken.holder(), Some("a"));
            assert!(object.spec.lease_transitions.is_none() || taken.epoch() > object.epoch());
            last = last.max(taken.epoch());
        }
        assert_eq!(last, Some(2 * HOLDERS_PER_SECOND + 8));
        let full = stored(&json!({"leaseTransitions": i32::MAX}));
        assert!(full.taken("a", 6).is_none());
        assert_eq!(LeaseObject::new("n").epoch(), None);
    }

    #[test]
    fn a_freed_lease_has_no_holder() {
        let freed = stored(&json!({"holderIdentity": "x", "leaseTransitions": 4})).freed();
        assert_eq!((freed.holder(), freed.duration_s()), (None, 1));
        assert_eq!(freed.spec.lease_transitions, Some(4));
    }
}
