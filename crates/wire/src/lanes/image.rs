//! A model's lanes as a value, for frontends in other processes.

use super::{ModelLanes, Routing, lock};
use serde::{Deserialize, Serialize};
use symphony_core::lanes::{BORDER_LANES, BorderLanes, FormLanes, OVERFLOW_LANES};
use symphony_core::{ModelId, SizedProfile, Span};

/// What a frontend has to know of a model's lanes to route requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanesImage {
    /// The scheduler's name for each; the first is the model's.
    pub ids: Vec<ModelId>,
    /// What batches cost.
    pub costs: SizedProfile,
    /// How requests are routed.
    pub routing: RoutingImage,
}

/// How requests are routed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoutingImage {
    /// There is one lane.
    Alone,
    /// By size. Each lane takes what is not larger than its border.
    Borders {
        /// The largest size of each lane in use, growing.
        borders: Vec<u64>,
        /// The model's objective.
        slo: Span,
    },
    /// By form. The lanes that no form has end at borders.
    Forms {
        /// The largest size of each lane for the overflow, growing.
        overflow: Vec<u64>,
    },
}

/// Why an image is not one of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLanes {
    /// There is not one name for each lane.
    #[error("there is not one name for each lane of the model")]
    Names,
    /// Borders do not grow.
    #[error("the borders of the model's lanes do not grow")]
    Borders,
}

impl ModelLanes {
    /// These lanes as they are now.
    #[must_use]
    pub fn image(&self) -> LanesImage {
        let (costs, routing) = match &self.routing {
            Routing::Alone(costs) => (lock(costs).clone(), RoutingImage::Alone),
            Routing::Borders(table) => {
                let lanes = &lock(&table.planned).lanes;
                let (borders, slo) = (lanes.borders().to_vec(), lanes.slo());
                (lanes.costs().clone(), RoutingImage::Borders { borders, slo })
            }
            Routing::Forms(forms) => {
                let forms = lock(forms);
                let overflow = forms.lanes.overflow_borders().to_vec();
                (forms.costs.clone(), RoutingImage::Forms { overflow })
            }
        };
        LanesImage { ids: self.ids.to_vec(), costs, routing }
    }

    /// The lanes that this is the image of, for a frontend: it routes requests and counts their sizes.
    ///
    /// # Errors
    /// The image is not one of lanes.
    pub fn of_image(image: &LanesImage) -> Result<ModelLanes, NoLanes> {
        let LanesImage { ids, costs, routing } = image;
        match routing {
            RoutingImage::Alone => {
                let [id] = ids[..] else { return Err(NoLanes::Names) };
                Ok(ModelLanes::alone(id, costs.clone()))
            }
            RoutingImage::Borders { borders, slo } => {
                if !(1..=BORDER_LANES).contains(&ids.len()) || borders.len() > ids.len() {
                    return Err(NoLanes::Names);
                }
                grow(borders)?;
                // Only the owner plans borders, so it does not matter here how many accelerators serve.
                let lanes = BorderLanes::new(costs.clone(), *slo, 1, ids.len());
                Ok(ModelLanes::between_borders(ids.clone(), lanes.with_borders(borders)))
            }
            RoutingImage::Forms { overflow } => {
                grow(overflow)?;
                let lanes = FormLanes::new(overflow.clone()).by_hash();
                if ids.len() != lanes.len() || overflow.len() > OVERFLOW_LANES {
                    return Err(NoLanes::Names);
                }
                Ok(ModelLanes::of_forms(ids.clone(), lanes, costs.clone()))
            }
        }
    }

    /// Brings lanes that were made of an image up to date with a newer one. Requests that are routed at
    /// the same time go by the old borders, by the new, or by some of each, as they do in the owner's
    /// process. Returns false, and changes nothing, where the image is of other lanes.
    #[must_use]
    pub fn update(&self, image: &LanesImage) -> bool {
        let LanesImage { ids, costs, routing } = image;
        if *self.ids != **ids {
            return false;
        }
        match (&self.routing, routing) {
            (Routing::Alone(known), RoutingImage::Alone) => *lock(known) = costs.clone(),
            (Routing::Borders(table), RoutingImage::Borders { borders, slo }) => {
                if grow(borders).is_err() || borders.len() > ids.len() {
                    return false;
                }
                let lanes = BorderLanes::new(costs.clone(), *slo, 1, ids.len());
                let mut planned = lock(&table.planned);
                if lanes.buckets() != &table.buckets {
                    return false;
                }
                planned.lanes = lanes.with_borders(borders);
                table.publish(&planned.lanes);
            }
            (Routing::Forms(forms), RoutingImage::Forms { overflow }) => {
                let mut forms = lock(forms);
                if forms.lanes.overflow_borders() != overflow {
                    return false;
                }
                forms.costs = costs.clone();
            }
            (Routing::Alone(_) | Routing::Borders(_) | Routing::Forms(_), _) => return false,
        }
        true
    }
}

fn grow(borders: &[u64]) -> Result<(), NoLanes> {
    let is_growing = !borders.is_empty() && borders.is_sorted_by(|one, next| one < next);
    if is_growing { Ok(()) } else { Err(NoLanes::Borders) }
}
