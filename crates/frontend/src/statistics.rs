//! The statistics extension: the counters of models as the protocol's own messages.

use crate::metrics::{Counter, Metrics, ModelHandle};
use crate::proto;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::{ModelStatistics, Statistics};

/// The counters of one model, or of all when the name is empty. A name that is not served has none.
pub(crate) fn of_models(
    catalog: &Catalog,
    metrics: &Metrics,
    scheduler: &Statistics,
    name: &str,
    version: &str,
) -> proto::ModelStatisticsResponse {
    let counted: HashMap<_, _> =
        scheduler.models.iter().map(|(id, counters)| (*id, *counters)).collect();
    let wanted = catalog.served().filter(|model| {
        (name.is_empty() || model.name == name) && (version.is_empty() || model.version == version)
    });
    let model_stats = wanted
        .map(|model| {
            let scheduler = counted.get(&model.id).copied().unwrap_or_default();
            of_model(&metrics.handle(model), scheduler)
        })
        .collect();
    proto::ModelStatisticsResponse { model_stats }
}

/// The counters of one load of a model; those that the scheduler keeps are zero without it.
fn of_model(handle: &ModelHandle, scheduler: ModelStatistics) -> proto::ModelStatistics {
    let metrics = &handle.metrics;
    let good = metrics.good.get();
    let duration = |count: u64, ns: u64| Some(proto::StatisticDuration { count, ns });
    let over_good = |counter: &Counter| duration(good, counter.get());
    proto::ModelStatistics {
        name: metrics.name.clone(),
        version: metrics.version.clone(),
        last_inference: metrics.last_ms.load(Ordering::Relaxed),
        inference_count: metrics.rows.get(),
        execution_count: scheduler.batches,
        inference_stats: Some(proto::InferStatistics {
            success: over_good(&metrics.total_ns),
            fail: duration(metrics.failures(), metrics.fail_ns.get()),
            queue: over_good(&metrics.queue_ns),
            compute_input: over_good(&metrics.assembly_ns),
            compute_infer: over_good(&metrics.compute_ns),
            compute_output: over_good(&metrics.split_ns),
            cache_hit: duration(0, 0),
            cache_miss: duration(0, 0),
        }),
        batch_stats: batch_statistics(handle),
        memory_usage: Vec::new(),
    }
}

/// Executions by batch size: what all rows of one size saw, divided by that size.
fn batch_statistics(handle: &ModelHandle) -> Vec<proto::InferBatchStatistics> {
    let sizes = (1u64..).zip(&handle.batches).filter(|(_, batch)| batch.rows.get() > 0);
    sizes
        .map(|(size, batch)| {
            let count = batch.rows.get().div_ceil(size);
            let duration =
                |sum: &Counter| Some(proto::StatisticDuration { count, ns: sum.get() / size });
            proto::InferBatchStatistics {
                batch_size: size,
                compute_input: duration(&batch.assembly),
                compute_infer: duration(&batch.compute),
                compute_output: duration(&batch.split),
            }
        })
        .collect()
}
