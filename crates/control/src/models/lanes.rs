//! Which lanes a loaded model gets.

use symphony_core::lanes::{
    BORDER_LANES, BorderLanes, BorderPlanner, FORM_LANES, FormLanes, OVERFLOW_LANES,
};
use symphony_core::{ModelId, SizedProfile, Span};
use symphony_wire::lanes::ModelLanes;
use symphony_wire::tensor::Signature;

/// How a model's requests are dealt to lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    /// Requests are alike.
    Alone,
    /// Requests differ in size only.
    Borders,
    /// Requests are of several forms.
    Forms,
}

impl LaneKind {
    /// What the requests of a model with this signature and these costs need.
    pub(super) fn of(signature: &Signature, costs: &SizedProfile) -> LaneKind {
        if signature.has_forms() {
            LaneKind::Forms
        } else if signature.dimensions.is_empty() || costs.is_fixed() {
            LaneKind::Alone
        } else {
            LaneKind::Borders
        }
    }

    /// Identities that its lanes need.
    pub(super) fn count(self) -> usize {
        match self {
            LaneKind::Alone => 1,
            LaneKind::Borders => BORDER_LANES,
            LaneKind::Forms => FORM_LANES + OVERFLOW_LANES,
        }
    }

    /// The lanes of a model with these costs and this objective, under these identities. What is
    /// over is left.
    pub(super) fn lanes(
        self,
        ids: &mut Vec<ModelId>,
        costs: &SizedProfile,
        slo: Span,
        accelerators: u32,
    ) -> ModelLanes {
        match self {
            LaneKind::Alone => ModelLanes::alone(ids.remove(0), costs.clone()),
            LaneKind::Borders => {
                let lanes = BorderLanes::new(costs.clone(), slo, accelerators, BORDER_LANES);
                ModelLanes::between_borders(std::mem::take(ids), lanes)
            }
            LaneKind::Forms => {
                let planner =
                    BorderPlanner { profile: costs, slo, accelerators, lanes_max: OVERFLOW_LANES };
                let lanes = FormLanes::new(planner.geometric());
                let rest = ids.split_off(lanes.len());
                let used = std::mem::replace(ids, rest);
                ModelLanes::of_forms(used, lanes, costs.clone())
            }
        }
    }
}
