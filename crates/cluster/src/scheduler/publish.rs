//! Tells every frontend what is served, and how many accelerators serve, when that has changed.

use super::acting::Acting;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use symphony_core::ModelId;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::lanes::LanesImage;
use symphony_wire::message::link::SchedulerToFrontend;
use symphony_wire::message::{CatalogImage, ServedImage};

/// How often to look. To look costs two reads of memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often to look whether borders of lanes have moved: they are planned about once a second.
const LANES_EVERY: Duration = Duration::from_secs(1);

/// The catalog as a value.
pub(crate) fn image(catalog: &Catalog) -> CatalogImage {
    CatalogImage {
        known: catalog.known,
        ready: catalog.ready,
        intake: catalog.intake,
        index: catalog.index.clone(),
        models: catalog.served().map(|model| ServedImage::of(model)).collect(),
    }
}

/// Tells of changes for as long as the process lasts.
pub(crate) async fn run(acting: Arc<Acting>) {
    let Acting { catalog, port, routes, .. } = &*acting;
    let mut shown = catalog.load_full();
    let mut serving = port.serving().unwrap_or(0);
    let mut lanes: HashMap<ModelId, LanesImage> = HashMap::new();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut until_lanes = Duration::ZERO;
    loop {
        tick.tick().await;
        let now = catalog.load_full();
        if !Arc::ptr_eq(&now, &shown) {
            routes.tell_all(&SchedulerToFrontend::Catalog(Box::new(image(&now))));
            shown = now;
        }
        let Ok(count) = port.serving() else { return };
        if count != serving {
            serving = count;
            routes.tell_all(&SchedulerToFrontend::Serving(count));
        }
        until_lanes = until_lanes.saturating_sub(LOOK_EVERY);
        if until_lanes.is_zero() {
            until_lanes = LANES_EVERY;
            lanes = tell_lanes(&acting, &shown, &lanes);
        }
    }
}

/// Tells of the models whose lanes have changed. Returns the lanes as they are.
fn tell_lanes(
    acting: &Acting,
    catalog: &Catalog,
    before: &HashMap<ModelId, LanesImage>,
) -> HashMap<ModelId, LanesImage> {
    let several = catalog.served().filter(|model| model.lanes.ids().len() > 1);
    let images: HashMap<_, _> = several.map(|model| (model.id, model.lanes.image())).collect();
    for (model, image) in &images {
        if before.get(model).is_some_and(|before| before != image) {
            let (model, image) = (*model, Box::new(image.clone()));
            acting.routes.tell_all(&SchedulerToFrontend::Lanes { model, image });
        }
    }
    images
}
