//! Any message that there can be.

use crate::lanes::{LanesImage, RoutingImage};
use crate::message::link::{
    AcceleratorGaps, Answered, BackendToFrontend, BackendToScheduler, Fetch, FrontendAddress,
    FrontendToBackend, FrontendToScheduler, HandedBack, Question, SchedulerToBackend,
    SchedulerToFrontend, SentPlan,
};
use crate::message::{
    AcceleratorFacts, AcceleratorState, AcceleratorStatistics, AnnouncedFile, Answer, BatchPlan,
    Cancel, CatalogImage, Completion, EngineFacts, Execution, FilePart, FileWanted, GapFigures,
    IndexEntry, Intake, LoadedFacts, MeasuredTimes, Mode, ModelPlan, ModelState, ModelStatistics,
    Order, OrderDone, Outcome, PlannedRequest, ProfileOrigin, Registration, RepositoryCommand,
    RepositoryError, RunningBatch, Serve, ServedImage, Source, Statistics, Submit, VersionKey,
};
use crate::tensor::{DataType, Dim, Inputs, OpenDimension, OutputTensor, Signature, TensorSpec};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use symphony_core::sched::{ACCELERATORS_MAX, HighNeed};
use symphony_core::{
    AcceleratorId, BatchId, Class, Delays, DropReason, ModelId, Objective, Origin, Profile,
    RequestId, SizedProfile, Slowdown, Span,
};

fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn bytes() -> impl Strategy<Value = Bytes> {
    // Short ones are copied into the buffer of frames, long ones are spliced in.
    prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 2000..2100)].prop_map(Bytes::from)
}

fn span() -> impl Strategy<Value = Span> {
    any::<u64>().prop_map(Span)
}

fn model() -> impl Strategy<Value = ModelId> {
    (0..16_384u32, any::<u32>()).prop_map(|(index, generation)| ModelId::new(index, generation))
}

fn accelerator() -> impl Strategy<Value = AcceleratorId> {
    (0..ACCELERATORS_MAX).prop_map(AcceleratorId)
}

fn batch() -> impl Strategy<Value = BatchId> {
    any::<u64>().prop_map(BatchId)
}

fn origin() -> impl Strategy<Value = Origin> {
    (0..Origin::NUMBERS, 0..Origin::NUMBERS)
        .prop_map(|(frontend, life)| Origin::new(frontend, life))
}

fn request() -> impl Strategy<Value = RequestId> {
    (origin(), any::<u64>()).prop_map(|(origin, number)| RequestId::new(origin, number))
}

fn class() -> impl Strategy<Value = Class> {
    select(&Class::ALL[..])
}

fn reason() -> impl Strategy<Value = DropReason> {
    select(&DropReason::ALL[..])
}

fn mode() -> impl Strategy<Value = Mode> {
    select(&Mode::ALL[..])
}

fn slowdown() -> impl Strategy<Value = Slowdown> {
    (1..8000u64, 1..1000u64).prop_map(|(one, other)| Slowdown::of(Span(one), Span(other)))
}

fn profile() -> impl Strategy<Value = Profile> {
    (1..1_000_000u64, 0..1_000_000u64, 1..9u32, option::of(0.0..2.0), slowdown()).prop_map(
        |(alpha, beta, rows, spread, slowdown)| {
            let profile = Profile::linear(Span(alpha), Span(beta), rows).unwrap();
            let shares = spread.map(|share: f64| (1, share));
            profile.with_spread(shares.as_slice()).at_slowdown(slowdown)
        },
    )
}

fn costs() -> impl Strategy<Value = SizedProfile> {
    let one =
        (1..1000u64, profile()).prop_map(|(size, profile)| SizedProfile::fixed(size, profile));
    let several = vec((1..1000u64, profile()), 2..4).prop_map(|measured| {
        let mut at = 0;
        let growing = measured.into_iter().map(|(step, profile)| {
            at += step;
            (at, profile.at_slowdown(Slowdown::ONE))
        });
        SizedProfile::new(growing.collect()).unwrap()
    });
    prop_oneof![one, several]
}

fn objective() -> impl Strategy<Value = Objective> {
    (any::<bool>(), span()).prop_map(|(is_soft, span)| {
        if is_soft { Objective::Soft(span) } else { Objective::Slo(span) }
    })
}

fn tensor_spec() -> impl Strategy<Value = TensorSpec> {
    let dim = prop_oneof![
        any::<usize>().prop_map(Dim::Fixed),
        Just(Dim::Batch),
        (0..2u16).prop_map(Dim::Open),
        Just(Dim::Unknown),
    ];
    let contents = || option::of(bytes());
    let datatype = select(&DataType::ALL[..]);
    (text(), datatype, vec(dim, 0..4), contents(), contents(), any::<bool>()).prop_map(
        |(name, datatype, shape, default, fill, broadcast)| TensorSpec {
            name,
            datatype,
            shape,
            default,
            fill,
            broadcast,
        },
    )
}

fn signature() -> impl Strategy<Value = Signature> {
    let dimension = || (text(), any::<usize>()).prop_map(|(name, max)| OpenDimension { name, max });
    let specs = || vec(tensor_spec(), 0..3);
    (specs(), specs(), vec(dimension(), 2..4), option::of(0..2u16)).prop_map(
        |(inputs, outputs, dimensions, padded)| Signature { inputs, outputs, dimensions, padded },
    )
}

fn inputs() -> impl Strategy<Value = Inputs> {
    (any::<u32>(), vec(any::<usize>(), 0..3), vec(bytes(), 0..4))
        .prop_map(|(rows, sizes, tensors)| Inputs { rows, sizes, tensors })
}

fn execution() -> impl Strategy<Value = Execution> {
    (accelerator(), any::<u32>(), span(), span(), span(), span(), span()).prop_map(
        |(accelerator, batch_rows, queued, assembly, compute, split, slack)| Execution {
            accelerator,
            batch_rows,
            queued,
            assembly,
            compute,
            split,
            slack,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let output =
        (vec(any::<usize>(), 0..4), bytes()).prop_map(|(shape, data)| OutputTensor { shape, data });
    let answer = (vec(output, 0..3), execution())
        .prop_map(|(outputs, execution)| Answer { outputs, execution });
    prop_oneof![
        answer.prop_map(Outcome::Done),
        (reason(), span()).prop_map(|(reason, queued)| Outcome::Dropped { reason, queued }),
        inputs().prop_map(Outcome::Unloaded),
        text().prop_map(Outcome::Refused),
        text().prop_map(Outcome::Failed),
    ]
}

fn planned() -> impl Strategy<Value = PlannedRequest> {
    (request(), span(), span(), 1..=u32::MAX, class())
        .prop_map(|(id, age, budget, rows, class)| PlannedRequest { id, age, budget, rows, class })
}

fn lanes() -> impl Strategy<Value = LanesImage> {
    let borders = || vec(any::<u64>(), 0..4);
    let routing = prop_oneof![
        Just(RoutingImage::Alone),
        (borders(), span()).prop_map(|(borders, slo)| RoutingImage::Borders { borders, slo }),
        borders().prop_map(|overflow| RoutingImage::Forms { overflow }),
    ];
    (vec(model(), 0..3), costs(), routing).prop_map(|(ids, costs, routing)| LanesImage {
        ids,
        costs,
        routing,
    })
}

fn served() -> impl Strategy<Value = ServedImage> {
    let names = (text(), text(), text(), text());
    let bounds = (objective(), any::<u32>(), any::<u32>(), class());
    (names, signature(), bounds, profile(), bytes(), lanes()).prop_map(
        |(names, signature, bounds, profile, configuration, lanes)| {
            let (name, version, engine, platform) = names;
            let (objective, rows_max, queue_max, class) = bounds;
            ServedImage {
                name,
                version,
                signature,
                objective,
                rows_max,
                queue_max,
                class,
                engine,
                platform,
                profile,
                configuration,
                lanes,
            }
        },
    )
}

fn catalog() -> impl Strategy<Value = CatalogImage> {
    let state = prop_oneof![
        Just(ModelState::Loading),
        Just(ModelState::Ready),
        text().prop_map(ModelState::Unavailable),
    ];
    let entry = (text(), text(), state).prop_map(|(name, version, state)| IndexEntry {
        name,
        version,
        state,
    });
    let intake = select(&[Intake::Open, Intake::Leaving, Intake::Closed][..]);
    (any::<bool>(), any::<bool>(), intake, vec(entry, 0..3), vec(served(), 0..2)).prop_map(
        |(known, ready, intake, index, models)| CatalogImage {
            known,
            ready,
            intake,
            index,
            models,
        },
    )
}

fn loaded() -> impl Strategy<Value = LoadedFacts> {
    let origin = vec![ProfileOrigin::Measured, ProfileOrigin::Cached, ProfileOrigin::Known];
    let names = (text(), text(), text(), text(), select(origin));
    let bounds = (objective(), any::<u32>(), any::<u32>(), 0.1..10.0, class());
    (names, any::<u64>(), signature(), bounds, costs(), profile(), bytes()).prop_map(
        |(names, version, signature, bounds, costs, plan, configuration)| {
            let (name, fingerprint, engine, platform, origin) = names;
            let (objective, rows_max, queue_max, loss_weight, class) = bounds;
            LoadedFacts {
                name,
                version,
                fingerprint,
                signature,
                objective,
                rows_max,
                queue_max,
                loss_weight,
                class,
                engine,
                platform,
                costs,
                plan,
                origin,
                configuration,
            }
        },
    )
}

fn registration() -> impl Strategy<Value = Registration> {
    let accelerator =
        (text(), any::<u64>()).prop_map(|(kind, memory)| AcceleratorFacts { kind, memory });
    let engine = (text(), text()).prop_map(|(name, version)| EngineFacts { name, version });
    let running = (any::<u32>(), any::<u64>(), batch(), span()).prop_map(
        |(accelerator, epoch, batch, left)| RunningBatch { accelerator, epoch, batch, left },
    );
    let life = (text(), any::<u64>());
    (life, vec(accelerator, 0..3), vec(engine, 0..2), vec(loaded(), 0..2), vec(running, 0..3))
        .prop_map(|((name, life), accelerators, engines, loaded, running)| Registration {
            name,
            life,
            accelerators,
            engines,
            loaded,
            running,
        })
}

fn version() -> impl Strategy<Value = VersionKey> {
    (text(), any::<u64>(), text()).prop_map(|(name, version, fingerprint)| VersionKey {
        name,
        version,
        fingerprint,
    })
}

fn order() -> impl Strategy<Value = Order> {
    let file = (text(), any::<u64>(), any::<[u8; 32]>())
        .prop_map(|(path, size, sha256)| AnnouncedFile { path, size, sha256 });
    let source = prop_oneof![
        text().prop_map(|path| Source::Shared { path: path.into() }),
        vec(file, 0..3).prop_map(|files| Source::Streamed { files }),
    ];
    prop_oneof![
        (source, text(), any::<u64>()).prop_map(|(source, name, version)| Order::Load {
            source,
            name,
            version
        }),
        (version(), vec(model(), 0..3)).prop_map(|(version, lanes)| Order::Bind { version, lanes }),
        model().prop_map(|model| Order::Unload { model }),
        version().prop_map(|version| Order::Forget { version }),
    ]
}

fn order_done() -> impl Strategy<Value = OrderDone> {
    prop_oneof![
        loaded().prop_map(|facts| OrderDone::Loaded(Box::new(facts))),
        Just(OrderDone::Bound),
        Just(OrderDone::Unloaded),
    ]
}

fn accelerator_state() -> impl Strategy<Value = AcceleratorState> {
    select(&AcceleratorState::ALL[..])
}

fn model_statistics() -> impl Strategy<Value = ModelStatistics> {
    let need =
        (any::<u32>(), any::<u32>()).prop_map(|(gathered, rows)| HighNeed { gathered, rows });
    let plan = (any::<u32>(), span(), 0.0..9.0, option::of(need)).prop_map(
        |(target, early_start, price, high_need)| ModelPlan {
            target,
            early_start,
            price,
            high_need,
            ..ModelPlan::default()
        },
    );
    (any::<u64>(), slowdown(), 0.0..2.0, plan, option::of(model())).prop_map(
        |(batches, slowdown, spread, plan, lane_of)| ModelStatistics {
            batches,
            slowdown,
            spread,
            plan,
            lane_of,
            ..ModelStatistics::default()
        },
    )
}

fn gaps() -> impl Strategy<Value = GapFigures> {
    (any::<u64>(), span(), span(), span()).prop_map(|(count, mean, p95, inputs)| GapFigures {
        count,
        mean,
        p95,
        inputs,
    })
}

fn statistics() -> impl Strategy<Value = Statistics> {
    let times = (any::<usize>(), 0.0..9.0, 0.0..9.0, 0.0..9.0)
        .prop_map(|(batches, mean, p95, spread)| MeasuredTimes { batches, mean, p95, spread });
    let delays = (span(), span(), span(), span())
        .prop_map(|(control, data, response, jitter)| Delays { control, data, response, jitter });
    let accelerator = (any::<u64>(), span(), slowdown(), accelerator_state(), gaps()).prop_map(
        |(batches, busy, slowdown, state, gaps)| AcceleratorStatistics {
            batches,
            busy,
            slowdown,
            state,
            gaps,
        },
    );
    (
        (mode(), option::of(0.0..1e9)),
        vec((model(), model_statistics()), 0..3),
        vec((model(), times), 0..2),
        delays,
        vec((model(), model(), any::<u64>()), 0..2),
        vec(accelerator, 0..3),
    )
        .prop_map(|((mode, batches_max), models, times, delays, lanes, accelerators)| {
            Statistics { mode, batches_max, models, times, delays, lanes, accelerators }
        })
}

pub(super) fn frontend_to_scheduler() -> impl Strategy<Value = FrontendToScheduler> {
    use FrontendToScheduler as Message;
    let serve = (accelerator(), any::<bool>())
        .prop_map(|(accelerator, serves)| Serve { accelerator, serves });
    let question = prop_oneof![
        Just(Question::Statistics),
        mode().prop_map(Question::SetMode),
        serve.prop_map(Question::Serve),
    ];
    let command = prop_oneof![
        text().prop_map(|model| RepositoryCommand::Load { model }),
        text().prop_map(|model| RepositoryCommand::Unload { model }),
        Just(RepositoryCommand::Reload),
    ];
    prop_oneof![
        (model(), planned()).prop_map(|(model, planned)| {
            let PlannedRequest { id, age, budget, rows, class } = planned;
            Message::Submit(Submit { model, id, age, budget, rows, class })
        }),
        (model(), request(), span()).prop_map(|(model, id, budget)| Message::Cancel(Cancel {
            model,
            id,
            budget
        })),
        (model(), any::<u64>()).prop_map(|(lane, size)| Message::LaneSize { lane, size }),
        (model(), vec(any::<u64>(), 0..70))
            .prop_map(|(model, counts)| Message::SizeCounts { model, counts }),
        (any::<u64>(), question)
            .prop_map(|(number, question)| Message::Question { number, question }),
        (any::<u64>(), command).prop_map(|(number, command)| Message::Command { number, command }),
    ]
}

pub(super) fn scheduler_to_frontend() -> impl Strategy<Value = SchedulerToFrontend> {
    use SchedulerToFrontend as Message;
    let error = prop_oneof![
        text().prop_map(RepositoryError::Unknown),
        text().prop_map(RepositoryError::Load),
        Just(RepositoryError::Stopped),
    ];
    let answer = prop_oneof![
        statistics().prop_map(|statistics| Answered::Statistics(Box::new(statistics))),
        Just(Answered::Mode),
        option::of(accelerator_state()).prop_map(Answered::Serves),
        prop_oneof![Just(Ok(())), error.prop_map(Err)].prop_map(Answered::Command),
        text().prop_map(Answered::Failed),
    ];
    prop_oneof![
        any::<u64>().prop_map(|epoch| Message::Welcome { epoch }),
        (request(), reason(), span()).prop_map(|(id, reason, queued)| Message::Dropped {
            id,
            reason,
            queued
        }),
        request().prop_map(|id| Message::Unloaded { id }),
        (request(), text()).prop_map(|(id, text)| Message::Failed { id, text }),
        catalog().prop_map(|image| Message::Catalog(Box::new(image))),
        (model(), lanes())
            .prop_map(|(model, image)| Message::Lanes { model, image: Box::new(image) }),
        any::<u32>().prop_map(Message::Serving),
        (any::<u64>(), answer).prop_map(|(number, answer)| Message::Answer { number, answer }),
        (text(), any::<u64>()).prop_map(|(name, life)| Message::BackendGone { name, life }),
    ]
}

pub(super) fn scheduler_to_backend() -> impl Strategy<Value = SchedulerToBackend> {
    use SchedulerToBackend as Message;
    let plan = (batch(), model(), vec(planned(), 0..40), any::<u32>(), span()).prop_map(
        |(batch, model, requests, rows, exec)| BatchPlan { batch, model, requests, rows, exec },
    );
    let address = (origin(), text(), any::<u64>(), vec(text(), 0..3)).prop_map(
        |(origin, name, life, addresses)| FrontendAddress { origin, name, life, addresses },
    );
    prop_oneof![
        (any::<u64>(), vec(accelerator(), 0..9))
            .prop_map(|(epoch, accelerators)| Message::Welcome { epoch, accelerators }),
        (any::<u64>(), accelerator(), plan).prop_map(|(epoch, accelerator, plan)| Message::Plan(
            SentPlan { epoch, accelerator, plan }
        )),
        (any::<u64>(), order())
            .prop_map(|(number, order)| Message::Order { number, order: Box::new(order) }),
        (any::<u64>(), any::<u32>(), any::<u64>(), bytes()).prop_map(
            |(number, file, offset, bytes)| Message::File(FilePart { number, file, offset, bytes })
        ),
        vec(address, 0..4).prop_map(Message::Frontends),
        text().prop_map(|text| Message::Refused { text }),
        (any::<u64>(), text()).prop_map(|(number, text)| Message::NoFile { number, text }),
        Just(Message::Drain),
    ]
}

pub(super) fn backend_to_scheduler() -> impl Strategy<Value = BackendToScheduler> {
    use BackendToScheduler as Message;
    let completion = (accelerator(), batch(), model(), [span(), span(), span(), span()]).prop_map(
        |(accelerator, batch, model, [data, exec, response, stay])| Completion {
            accelerator,
            batch,
            model,
            data,
            exec,
            response,
            stay,
        },
    );
    let gaps = (accelerator(), gaps())
        .prop_map(|(accelerator, gaps)| AcceleratorGaps { accelerator, gaps });
    prop_oneof![
        registration().prop_map(|registration| Message::Register(Box::new(registration))),
        (any::<u64>(), completion)
            .prop_map(|(epoch, completion)| Message::Completed { epoch, completion }),
        (any::<u64>(), accelerator(), batch(), any::<bool>(), text()).prop_map(
            |(epoch, accelerator, batch, is_refused, why)| {
                Message::HandedBack(HandedBack { epoch, accelerator, batch, is_refused, why })
            }
        ),
        accelerator().prop_map(|accelerator| Message::Lost { accelerator }),
        (any::<u64>(), prop_oneof![order_done().prop_map(Ok), text().prop_map(Err)])
            .prop_map(|(number, result)| Message::Done { number, result }),
        (model(), costs())
            .prop_map(|(model, costs)| Message::Refined { model, costs: Box::new(costs) }),
        vec(gaps, 0..4).prop_map(Message::Gaps),
        (any::<u64>(), any::<u32>(), any::<u64>(), any::<u32>()).prop_map(
            |(number, file, offset, bytes)| {
                Message::FileWanted(FileWanted { number, file, offset, bytes })
            }
        ),
    ]
}

pub(super) fn backend_to_frontend() -> impl Strategy<Value = BackendToFrontend> {
    use BackendToFrontend as Message;
    prop_oneof![
        (any::<u64>(), batch(), vec(any::<u64>(), 0..70))
            .prop_map(|(epoch, batch, numbers)| Message::Fetch(Fetch { epoch, batch, numbers })),
        (any::<u64>(), outcome())
            .prop_map(|(number, outcome)| Message::Outcome { number, outcome }),
        any::<u64>().prop_map(|number| Message::NotRun { number }),
    ]
}

pub(super) fn frontend_to_backend() -> impl Strategy<Value = FrontendToBackend> {
    use FrontendToBackend as Message;
    prop_oneof![
        (any::<u64>(), inputs()).prop_map(|(number, inputs)| Message::Inputs { number, inputs }),
        any::<u64>().prop_map(|number| Message::NoInputs { number }),
        vec(any::<u64>(), 0..70).prop_map(|numbers| Message::Awaited { numbers }),
    ]
}
