//! Whether the server, or one of its models, takes requests now, and why not.
//!
//! Asks the catalog and a number that the scheduler publishes, never the scheduler itself: probes
//! come often, and need an answer when the scheduler is busy, too.

use crate::error::InferError;
use crate::models;
use crate::pool::PoolClient;
use symphony_wire::carrier::in_process::Catalog;
use symphony_wire::message::Intake;

/// Whether the server can run requests for every start-up model.
///
/// # Errors
/// It cannot now; says why.
pub(crate) fn of_server(catalog: &Catalog, pool: &PoolClient) -> Result<(), InferError> {
    check_loaded(catalog)?;
    check_pool(pool)
}

/// Whether the server can run requests for this model.
///
/// # Errors
/// It cannot now, and says why; or the model is unknown.
pub(crate) fn of_model(
    catalog: &Catalog,
    pool: &PoolClient,
    name: &str,
    version: &str,
) -> Result<(), InferError> {
    models::find(catalog, name, version)?;
    check_staying(catalog)?;
    check_pool(pool)
}

/// Whether requests, loads and unloads that arrive now are taken.
///
/// # Errors
/// The server shuts down and refuses them.
pub(crate) fn check_running(catalog: &Catalog) -> Result<(), InferError> {
    check_intake(catalog, Intake::Leaving)
}

/// Whether load balancers should send requests here.
///
/// # Errors
/// The server shuts down, or is about to.
fn check_staying(catalog: &Catalog) -> Result<(), InferError> {
    check_intake(catalog, Intake::Open)
}

fn check_intake(catalog: &Catalog, last: Intake) -> Result<(), InferError> {
    if catalog.intake > last {
        return Err(InferError::Unavailable("the server is shutting down".to_owned()));
    }
    Ok(())
}

/// Whether every start-up model is served.
///
/// # Errors
/// Not yet, or not for much longer.
fn check_loaded(catalog: &Catalog) -> Result<(), InferError> {
    check_staying(catalog)?;
    models::check_known(catalog)?;
    if catalog.ready {
        return Ok(());
    }
    Err(InferError::Unavailable(
        "the server is still loading its models: wait until it is ready".to_owned(),
    ))
}

/// Whether there is an accelerator to run requests on.
///
/// # Errors
/// There is none.
fn check_pool(pool: &PoolClient) -> Result<(), InferError> {
    if pool.serving()? > 0 {
        return Ok(());
    }
    Err(InferError::Unavailable(
        "no accelerator serves: each is drained or has stopped answering; \
         /v2/scheduler/accelerators tells which, and resumes those that were drained"
            .to_owned(),
    ))
}
