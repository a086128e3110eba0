//! Which resource a path names. Knows the paths, not what is done with them.

use crate::access::Need;
use http::Method;
use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// That something answers here, for clients of version 1.
    Alive,
    /// The names of what is served, for clients of version 1.
    ModelNames,
    Server,
    Live,
    Ready,
    Model(ModelPath),
    /// What is served.
    Models,
    /// Statistics of every model.
    Statistics,
    Index,
    Load(String),
    Unload(String),
    /// How the pool is scheduled.
    Mode,
    /// What each accelerator is in the pool.
    Accelerators,
    /// Sending batches to an accelerator, as it was named, or no more of them.
    Serve {
        accelerator: String,
        serves: bool,
    },
    /// Status of all shared memory regions, or of one.
    RegionStatus,
    /// Forgetting shared memory regions.
    RegionUnregister,
    /// A part of the protocol that this server does not have.
    Unsupported(&'static str),
}

/// Something of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelPath {
    pub(super) name: String,
    /// Empty for whichever version is served.
    pub(super) version: String,
    pub(super) what: Of,
}

/// What of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Metadata,
    Ready,
    Config,
    Statistics,
    Infer,
    /// Of version 1: state, signature, and inference.
    Status,
    Signature,
    Predict,
}

const READ: &[Method] = &[Method::GET];
const ACT: &[Method] = &[Method::POST];
const READ_OR_CHANGE: &[Method] = &[Method::GET, Method::POST];

impl Route {
    /// The route of a path; `None` when there is none.
    pub(super) fn of(path: &str) -> Option<Route> {
        let path = path.strip_prefix('/')?;
        let segments: Vec<String> = path
            .trim_end_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8().ok().map(Into::into))
            .collect::<Option<_>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.split_first() {
            Some((&"v2", rest)) => v2(rest),
            Some((&"v1", rest)) => v1(rest),
            Some((&"", [])) => Some(Route::Alive),
            _ => None,
        }
    }

    /// What it needs of a client; `changes` says what is done with a route that takes two methods.
    pub(super) fn need(&self, changes: bool) -> Need {
        match self {
            Route::Alive
            | Route::Live
            | Route::Ready
            | Route::Model(ModelPath { what: Of::Ready, .. }) => Need::Nothing,
            Route::Model(ModelPath { what: Of::Infer | Of::Predict, .. }) => Need::Infer,
            Route::Load(_) | Route::Unload(_) | Route::Serve { .. } => Need::Admin,
            Route::Mode if changes => Need::Admin,
            Route::Mode
            | Route::ModelNames
            | Route::Server
            | Route::Model(_)
            | Route::Models
            | Route::Statistics
            | Route::Index
            | Route::Accelerators
            | Route::RegionStatus
            | Route::RegionUnregister
            | Route::Unsupported(_) => Need::Known,
        }
    }

    /// The methods a route takes; empty when it takes any.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Route::Model(ModelPath { what: Of::Infer | Of::Predict, .. })
            | Route::Index
            | Route::Load(_)
            | Route::Unload(_)
            | Route::Serve { .. }
            | Route::RegionUnregister => ACT,
            Route::Mode => READ_OR_CHANGE,
            Route::Unsupported(_) => &[],
            Route::Alive
            | Route::ModelNames
            | Route::Server
            | Route::Live
            | Route::Ready
            | Route::Model(ModelPath {
                what:
                    Of::Metadata | Of::Ready | Of::Config | Of::Statistics | Of::Status | Of::Signature,
                ..
            })
            | Route::Models
            | Route::Statistics
            | Route::Accelerators
            | Route::RegionStatus => READ,
        }
    }
}

fn v2(segments: &[&str]) -> Option<Route> {
    Some(match *segments {
        [] => Route::Server,
        ["health", "live"] => Route::Live,
        ["health", "ready"] => Route::Ready,
        ["models"] => Route::Models,
        ["models", "stats"] => Route::Statistics,
        ["models", name, "versions", version, ref rest @ ..] => model(name, version, rest)?,
        ["models", name, ref rest @ ..] => model(name, "", rest)?,
        ["repository", "index"] => Route::Index,
        ["repository", "models", name, "load"] => Route::Load(name.to_owned()),
        ["repository", "models", name, "unload"] => Route::Unload(name.to_owned()),
        ["scheduler", "mode"] => Route::Mode,
        ["scheduler", "accelerators"] => Route::Accelerators,
        ["scheduler", "accelerators", accelerator, what @ ("drain" | "resume")] => {
            Route::Serve { accelerator: accelerator.to_owned(), serves: what == "resume" }
        }
        ["systemsharedmemory" | "cudasharedmemory", ref rest @ ..] => shared_memory(rest)?,
        ["logging"] => Route::Unsupported("log settings"),
        ["trace", "setting"] => Route::Unsupported("trace settings"),
        _ => return None,
    })
}

fn model(name: &str, version: &str, rest: &[&str]) -> Option<Route> {
    let what = match *rest {
        [] => Of::Metadata,
        ["ready"] => Of::Ready,
        ["config"] => Of::Config,
        ["stats"] => Of::Statistics,
        ["infer"] => Of::Infer,
        ["generate" | "generate_stream"] => return Some(Route::Unsupported("text generation")),
        ["trace", "setting"] => return Some(Route::Unsupported("trace settings")),
        _ => return None,
    };
    Some(Route::Model(ModelPath { name: name.to_owned(), version: version.to_owned(), what }))
}

/// KServe's protocol version 1 and TensorFlow Serving's paths.
fn v1(segments: &[&str]) -> Option<Route> {
    let (name, version, rest) = match *segments {
        ["models"] => return Some(Route::ModelNames),
        ["models", _, "labels", ..] => return Some(Route::Unsupported("labels of versions")),
        ["models", name, "versions", version, ref rest @ ..] => (name, version, rest),
        ["models", name, ref rest @ ..] => (name, "", rest),
        _ => return None,
    };
    // The verb stands behind the last of them; no model or version has a colon.
    let last = if version.is_empty() { name } else { version };
    let (last, verb) = last.split_once(':').map_or((last, None), |(last, verb)| (last, Some(verb)));
    let (name, version) = if version.is_empty() { (last, "") } else { (name, last) };
    let what = match (verb, rest) {
        (None, []) => Of::Status,
        (None, ["metadata"]) => Of::Signature,
        (Some("predict"), []) => Of::Predict,
        (Some("classify"), []) => return Some(Route::Unsupported("classify")),
        (Some("regress"), []) => return Some(Route::Unsupported("regress")),
        (Some("explain"), []) => return Some(Route::Unsupported("explain")),
        _ => return None,
    };
    Some(Route::Model(ModelPath { name: name.to_owned(), version: version.to_owned(), what }))
}

fn shared_memory(rest: &[&str]) -> Option<Route> {
    match *rest {
        ["status"] | ["region", _, "status"] => Some(Route::RegionStatus),
        ["unregister"] | ["region", _, "unregister"] => Some(Route::RegionUnregister),
        ["region", _, "register"] => Some(Route::Unsupported("shared memory")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_name_routes() {
        let model = |name: &str, version: &str, what| {
            Some(Route::Model(ModelPath { name: name.into(), version: version.into(), what }))
        };
        let cases = [
            ("/v2", Some(Route::Server)),
            ("/v2/", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/models", Some(Route::Models)),
            ("/v2/models/", Some(Route::Models)),
            ("/v2/models/stats", Some(Route::Statistics)),
            ("/v2/models/m", model("m", "", Of::Metadata)),
            ("/v2/models/a%20b/infer", model("a b", "", Of::Infer)),
            ("/v2/models/m/versions/3/infer", model("m", "3", Of::Infer)),
            ("/v2/models/m/versions/3", model("m", "3", Of::Metadata)),
            ("/v2/models/m/stats", model("m", "", Of::Statistics)),
            ("/v2/repository/models/m/load", Some(Route::Load("m".into()))),
            ("/v2/scheduler/mode", Some(Route::Mode)),
            ("/v2/scheduler", None),
            ("/v2/scheduler/accelerators", Some(Route::Accelerators)),
            (
                "/v2/scheduler/accelerators/3/drain",
                Some(Route::Serve { accelerator: "3".into(), serves: false }),
            ),
            (
                "/v2/scheduler/accelerators/x/resume",
                Some(Route::Serve { accelerator: "x".into(), serves: true }),
            ),
            ("/v2/scheduler/accelerators/3", None),
            ("/v2/scheduler/accelerators/3/kill", None),
            ("/v2/cudasharedmemory/region/x/status", Some(Route::RegionStatus)),
            ("/v2/models/m/generate", Some(Route::Unsupported("text generation"))),
            ("/v2/models/%ff", None),
            ("/v2/models/m/infer/more", None),
            ("/", Some(Route::Alive)),
            ("/v1", None),
            ("/v1/models", Some(Route::ModelNames)),
            ("/v1/models/m", model("m", "", Of::Status)),
            ("/v1/models/m:predict", model("m", "", Of::Predict)),
            ("/v1/models/m/versions/3", model("m", "3", Of::Status)),
            ("/v1/models/m/versions/3:predict", model("m", "3", Of::Predict)),
            ("/v1/models/m/versions/3/metadata", model("m", "3", Of::Signature)),
            ("/v1/models/m/metadata", model("m", "", Of::Signature)),
            ("/v1/models/m:regress", Some(Route::Unsupported("regress"))),
            ("/v1/models/m/labels/a:predict", Some(Route::Unsupported("labels of versions"))),
            ("/v1/models/m:predict/3", None),
            ("/v1/models/m:fly", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_a_route_or_none(path in ".*") {
            let _ = Route::of(&path);
        }
    }
}
