//! Operator sets: which version of a domain's operators a model imports.

use crate::proto::{ModelProto, OperatorSetIdProto};

/// The domain under its usual name: the standard one is `""`, even where a file writes `ai.onnx`.
pub(crate) fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The imported version of a domain. Files from before operator sets use the first version.
pub(crate) fn opset(
    model: &ModelProto,
    imports: &[OperatorSetIdProto],
    domain: &str,
) -> Option<i64> {
    let domain = plain_domain(domain);
    if imports.is_empty() && model.ir_version() < 3 && domain.is_empty() {
        return Some(1);
    }
    imports.iter().find(|i| plain_domain(i.domain()) == domain).map(|i| i.version())
}
