//! What `symphony serve` tells the person who started it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use symphony_backend::profiling::ProfileOrigin;
use symphony_control::models::LoadReport;
use symphony_core::{Objective, Span};
use symphony_frontend::{Addresses, Security, TlsFiles};
use symphony_wire::message::ServedModel;
use symphony_wire::tensor::{DataType, Signature, TensorSpec};

/// Batch sizes shown of a profile: enough to see its shape on one line.
const SIZES_SHOWN: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// So many models without an objective are named.
const NAMED_MAX: usize = 10;

/// A `curl` line with more numbers than this is nothing to look at.
const CURL_ELEMENTS_MAX: usize = 256;

/// One model that was loaded, on two lines.
pub(crate) fn loaded(report: &LoadReport) -> String {
    let LoadReport { model, origin } = report;
    let objective = match model.objective {
        Objective::Slo(slo) => format!("SLO {}", millis(slo)),
        Objective::Soft(aim) => format!("best effort, planned for {}", millis(aim)),
    };
    let origin = match origin {
        ProfileOrigin::Measured => "measured now",
        ProfileOrigin::Cached => "measured earlier, checked",
        ProfileOrigin::Known => "as configured",
    };
    let mut text = format!(
        "  {} {}: {}, {objective}, batches to {}\n    mean in ms by rows, {origin}:",
        model.name, model.version, model.engine, model.rows_max
    );
    for rows in SIZES_SHOWN.into_iter().filter(|rows| *rows <= model.rows_max) {
        let _ = write!(text, " {rows}: {:.3}", model.profile.exec(rows).as_millis_f64());
    }
    text
}

/// Where the server listens.
pub(crate) fn ready(addresses: Addresses, security: &Security) -> String {
    let Addresses { http, grpc, metrics, admin } = addresses;
    let has_tls = security.tls.is_some();
    let tls = if has_tls { " (TLS)" } else { "" };
    let scheme = if has_tls && security.protects_metrics { "https" } else { "http" };
    let admin = admin.map_or_else(String::new, |admin| format!(", admin calls {admin}{tls}"));
    format!(
        "ready: HTTP {http}{tls}, gRPC {grpc}{tls}, metrics {scheme}://{metrics}/metrics{admin}"
    )
}

/// Which models have no objective, and how to find one; `None` when all have one.
pub(crate) fn without_objective<'a>(
    models: impl Iterator<Item = &'a ServedModel>,
    folder: &Path,
) -> Option<String> {
    let mut names: Vec<_> =
        models.filter(|model| model.objective.is_soft()).map(|model| model.name.as_str()).collect();
    names.dedup();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let first = *names.first()?;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "no slo_ms: {}{more}: served as best effort, no request is dropped for being late\n  \
         symphony profile --models {} {first}   suggests one",
        names.join(", "),
        folder.display()
    ))
}

/// A request to try, for the model whose input is smallest; `None` when all are too large, or
/// have tensors that cannot be written as JSON.
pub(crate) fn curl<'a>(
    models: impl Iterator<Item = &'a ServedModel>,
    http: SocketAddr,
    security: &Security,
) -> Option<String> {
    let size = |model: &&ServedModel| {
        let inputs = model.signature.inputs.iter();
        inputs.map(|spec| example_elements(&model.signature, spec).unwrap_or(usize::MAX)).max()
    };
    let model = models.filter(|model| has_json_form(model)).min_by_key(size)?;
    if size(&model)? > CURL_ELEMENTS_MAX {
        return None;
    }
    let inputs = model.signature.inputs.iter();
    let inputs: Vec<_> = inputs.map(|spec| example(&model.signature, spec)).collect();
    let body = serde_json::json!({ "inputs": inputs });
    let (options, scheme) = match &security.tls {
        Some(TlsFiles { ca, .. }) => {
            let own = if ca.is_some() { " --cert CERTIFICATE --key KEY" } else { "" };
            (format!(" --cacert CA{own}"), "https")
        }
        None => (String::new(), "http"),
    };
    let key = match &security.keys_file {
        Some(_) => " -H \"Authorization: Bearer $SYMPHONY_KEY\"",
        None => "",
    };
    let name = &model.name;
    Some(format!("curl -s{options}{key} {scheme}://{http}/v2/models/{name}/infer -d '{body}'"))
}

fn has_json_form(model: &ServedModel) -> bool {
    let binary_only = |spec: &TensorSpec| matches!(spec.datatype, DataType::Fp16 | DataType::Bf16);
    !model.signature.inputs.iter().chain(&model.signature.outputs).any(binary_only)
}

/// Elements of one row whose open dimensions are as small as they can be.
fn example_elements(signature: &Signature, spec: &TensorSpec) -> Option<usize> {
    signature.elements_of(spec, 1, &sizes_min(signature))
}

fn sizes_min(signature: &Signature) -> Vec<usize> {
    vec![1; signature.dimensions.len()]
}

fn example(signature: &Signature, spec: &TensorSpec) -> serde_json::Value {
    let shape = signature.shape_of(spec, 1, &sizes_min(signature)).unwrap_or_default();
    let element = match spec.datatype {
        DataType::Bool => serde_json::json!(false),
        DataType::Bytes => serde_json::json!("text"),
        _ => serde_json::json!(0),
    };
    let data = vec![element; shape.iter().product()];
    serde_json::json!({
        "name": spec.name,
        "datatype": spec.datatype.name(),
        "shape": shape,
        "data": data,
    })
}

fn millis(span: Span) -> String {
    format!("{} ms", span.as_millis_f64())
}
