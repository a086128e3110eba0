//! Which lease: one line of configuration, checked before anything is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

/// What a lease lives without renewal unless the address says otherwise.
const TTL_S: u64 = 6;
/// etcd grants no less than 2 s as it is usually set up.
const TTL_MIN_S: u64 = 2;
const TTL_MAX_S: u64 = 300;
/// The longest key that is worth having.
const KEY_MAX: usize = 512;
const FORMS: &str = "write file:/PATH, etcd:http://HOST:2379[,http://HOST:2379 ...]/KEY or \
                     kubernetes:NAMESPACE/NAME";

/// Where a lease is: what all schedulers of one cluster are given alike.
///
/// ```
/// # use symphony_lease::LeaseAddress;
/// let address: LeaseAddress = "etcd:http://a:2379,http://b:2379/symphony?ttl_s=10".parse()?;
/// assert_eq!(address.to_string(), "etcd:http://a:2379,http://b:2379/symphony?ttl_s=10");
/// # Ok::<(), symphony_lease::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseAddress {
    /// `file:/PATH`: the lock of a file, for schedulers on one host.
    File(PathBuf),
    /// `etcd:http://HOST:PORT/KEY`: a key in etcd.
    Etcd(EtcdAddress),
    /// `kubernetes:NAMESPACE/NAME`: a Lease of Kubernetes, from within a pod.
    Kubernetes(KubernetesAddress),
}

/// A key in etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdAddress {
    /// The members that may be asked, one after the other.
    pub(crate) endpoints: Vec<String>,
    pub(crate) key: String,
    pub(crate) ttl: Duration,
    /// The file of the certificates that etcd's own is signed by; the files of the certificate and
    /// key that etcd asks for.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// A Lease of Kubernetes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubernetesAddress {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ttl: Duration,
}

impl KubernetesAddress {
    /// Its namespace and name, as people write them.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What is wrong with the text of an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("lease {address:?}: {problem}")]
pub struct AddressError {
    address: String,
    problem: String,
}

impl FromStr for LeaseAddress {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        parse(address).map_err(|problem| AddressError { address: address.to_owned(), problem })
    }
}

fn parse(address: &str) -> Result<LeaseAddress, String> {
    let (kind, rest) = address.split_once(':').ok_or(FORMS)?;
    // A path may contain a question mark; a file has no options.
    if kind == "file" {
        return parse_file(rest);
    }
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = Options::parse(options)?;
    let parsed = match kind {
        "etcd" => LeaseAddress::Etcd(parse_etcd(place, &mut options)?),
        "kubernetes" => LeaseAddress::Kubernetes(parse_kubernetes(place, &mut options)?),
        _ => return Err(format!("there is no kind of lease {kind:?}: {FORMS}")),
    };
    options.all_known()?;
    Ok(parsed)
}

fn parse_file(path: &str) -> Result<LeaseAddress, String> {
    let path = PathBuf::from(path);
    if !path.is_absolute() || path.file_name().is_none() {
        return Err("write the whole path of a file, from /: schedulers may be started in \
                    different folders"
            .to_owned());
    }
    Ok(LeaseAddress::File(path))
}

fn parse_etcd(place: &str, options: &mut Options) -> Result<EtcdAddress, String> {
    let mut endpoints: Vec<&str> = place.split(',').collect();
    let last = endpoints.pop().unwrap_or_default();
    let host = last.find("://").map_or(0, |at| at + "://".len());
    let no_key = "name the key after the last endpoint, as in http://HOST:2379/symphony";
    let key_at = last[host..].find('/').ok_or(no_key)? + host;
    let (endpoint, key) = (&last[..key_at], &last[key_at + 1..]);
    endpoints.push(endpoint);
    if key.is_empty() {
        return Err(no_key.to_owned());
    }
    if key.len() > KEY_MAX {
        return Err(format!("its key is longer than {KEY_MAX} bytes"));
    }
    let secure = endpoint.starts_with("https://");
    for endpoint in &endpoints {
        check_endpoint(endpoint, secure)?;
    }
    let ca = options.take("ca").map(PathBuf::from);
    let identity = match (options.take("cert"), options.take("key")) {
        (Some(certificate), Some(key)) => Some((PathBuf::from(certificate), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err("cert and key go together: name both files or none".to_owned()),
    };
    if secure && ca.is_none() {
        return Err("with https:// name the file of certificates that etcd's own is signed by: \
                    ?ca=FILE"
            .to_owned());
    }
    if !secure && (ca.is_some() || identity.is_some()) {
        return Err("certificates are for https:// only: change http:// to https://".to_owned());
    }
    let ttl = options.take_ttl()?;
    let endpoints = endpoints.into_iter().map(str::to_owned).collect();
    Ok(EtcdAddress { endpoints, key: key.to_owned(), ttl, ca, identity })
}

/// Checks that `endpoint` is `http://HOST:PORT`, or all of them `https://`.
fn check_endpoint(endpoint: &str, secure: bool) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("endpoint {endpoint:?}: {what}"));
    let Ok(uri) = endpoint.parse::<Uri>() else {
        return wrong("write http://HOST:PORT");
    };
    match uri.scheme_str() {
        Some("http") if !secure => {}
        Some("https") if secure => {}
        Some("http" | "https") => {
            return wrong("use http:// for all endpoints or https:// for all");
        }
        _ => return wrong("write http://HOST:PORT or https://HOST:PORT"),
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return wrong("name the port; etcd's is 2379");
    }
    if uri.host().is_none_or(str::is_empty) {
        return wrong("name the host");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("names of users are not taken: use certificates, ?cert=FILE&key=FILE");
    }
    if endpoint.matches('/').count() > 2 {
        return wrong("name the key once, after the last endpoint");
    }
    Ok(())
}

fn parse_kubernetes(place: &str, options: &mut Options) -> Result<KubernetesAddress, String> {
    let (namespace, name) = place.split_once('/').ok_or("write kubernetes:NAMESPACE/NAME")?;
    check_name("namespace", namespace, 63, "")?;
    check_name("name", name, 253, ".")?;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Ok(KubernetesAddress { namespace, name, ttl: options.take_ttl()? })
}

/// Checks a name by the rules of Kubernetes.
fn check_name(what: &str, name: &str, length_max: usize, also: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (1..=length_max).contains(&name.len())
        && name.chars().all(|c| letter(c) || c == '-' || also.contains(c))
        && name.starts_with(letter)
        && name.ends_with(letter);
    let rule = "small letters, digits and hyphens, with a letter or digit at both ends";
    if fits { Ok(()) } else { Err(format!("{what} {name:?}: Kubernetes takes {rule}")) }
}

/// What stands after the question mark.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let parts = text.split('&').filter(|part| !part.is_empty());
        let pairs: Option<Vec<_>> = parts.map(|part| part.split_once('=')).collect();
        let pairs = pairs.ok_or("write options as NAME=VALUE, with & between them")?;
        Ok(Self(pairs))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.remove(at).1)
    }

    fn take_ttl(&mut self) -> Result<Duration, String> {
        let Some(text) = self.take("ttl_s") else { return Ok(Duration::from_secs(TTL_S)) };
        match text.parse() {
            Ok(seconds @ TTL_MIN_S..=TTL_MAX_S) => Ok(Duration::from_secs(seconds)),
            _ => Err(format!("ttl_s={text}: write whole seconds, {TTL_MIN_S} to {TTL_MAX_S}")),
        }
    }

    /// Complains about what nobody took.
    fn all_known(&self) -> Result<(), String> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        Err(format!(
            "option {name:?} is unknown or stands there twice: there are ttl_s and, for etcd over \
             https, ca, cert and key"
        ))
    }
}

impl fmt::Display for LeaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseAddress::File(path) => write!(f, "file:{}", path.display()),
            LeaseAddress::Etcd(EtcdAddress { endpoints, key, ttl, ca, identity }) => {
                write!(f, "etcd:{}/{key}?ttl_s={}", endpoints.join(","), ttl.as_secs())?;
                if let Some(ca) = ca {
                    write!(f, "&ca={}", ca.display())?;
                }
                if let Some((certificate, key)) = identity {
                    write!(f, "&cert={}&key={}", certificate.display(), key.display())?;
                }
                Ok(())
            }
            LeaseAddress::Kubernetes(KubernetesAddress { namespace, name, ttl }) => {
                write!(f, "kubernetes:{namespace}/{name}?ttl_s={}", ttl.as_secs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("file:/var/lib/symphony/lock?", "file:/var/lib/symphony/lock?"),
            ("etcd:http://a:2379/k", "etcd:http://a:2379/k?ttl_s=6"),
            ("etcd:http://a:1,http://[::1]:2/a/b", "etcd:http://a:1,http://[::1]:2/a/b?ttl_s=6"),
            (
                "etcd:https://a:2379/k?ca=/c&cert=/d&key=/e&ttl_s=2",
                "etcd:https://a:2379/k?ttl_s=2&ca=/c&cert=/d&key=/e",
            ),
            ("kubernetes:ns/a-b.c?ttl_s=300", "kubernetes:ns/a-b.c?ttl_s=300"),
        ] {
            let address: LeaseAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("", "write file:/PATH"),
            ("lock", "write file:/PATH"),
            ("zookeeper:a/b", "no kind of lease \"zookeeper\""),
            ("file:lock", "whole path"),
            ("file:/", "whole path"),
            ("etcd:", "name the key"),
            ("etcd:http://a:2379", "name the key"),
            ("etcd:http://a:2379/", "name the key"),
            ("etcd:a:2379/k", "write http://HOST:PORT"),
            ("etcd:ftp://a:2379/k", "write http://HOST:PORT"),
            ("etcd:http://a/k", "name the port"),
            ("etcd:http://a:0/k", "name the port"),
            ("etcd:http://:2379/k", "endpoint"),
            ("etcd:http://a:2379/k,http://b:2379/k", "name the key once"),
            ("etcd:http://u@a:2379/k", "names of users"),
            ("etcd:http://a:1,https://b:2/k?ca=/c", "for all"),
            ("etcd:https://a:2379/k", "?ca=FILE"),
            ("etcd:https://a:2379/k?ca=/c&cert=/d", "go together"),
            ("etcd:http://a:2379/k?ca=/c", "https:// only"),
            ("etcd:http://a:2379/k?ttl_s=1", "2 to 300"),
            ("etcd:http://a:2379/k?ttl=5", "option \"ttl\" is unknown"),
            ("etcd:http://a:2379/k?ttl_s=5&ttl_s=6", "twice"),
            ("etcd:http://a:2379/k?ttl_s", "NAME=VALUE"),
            ("kubernetes:ns", "NAMESPACE/NAME"),
            ("kubernetes:/a", "namespace \"\""),
            ("kubernetes:a.b/c", "namespace \"a.b\""),
            ("kubernetes:ns/A", "name \"A\""),
            ("kubernetes:ns/a/b", "name \"a/b\""),
        ] {
            let error = text.parse::<LeaseAddress>().unwrap_err().to_string();
            assert!(error.starts_with("lease \"") && error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in "(file|etcd|kubernetes)?:?(https?://)?[a-z:/,?&=@\\[\\]0-9é.-]{0,40}"
        ) {
            if let Ok(address) = text.parse::<LeaseAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
