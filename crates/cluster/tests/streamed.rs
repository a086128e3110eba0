//! Models that are streamed to a backend over a link, and what a frontend tells of its lanes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first error")]

use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use symphony_backend::engine::Cores;
use symphony_backend::loader::{Loader, LoaderConfig, PYTHON_DEFAULT};
use symphony_backend::profiling::Effort;
use symphony_backend::repository::Repository;
use symphony_cluster::backend::{BackendConfig, BackendEnd};
use symphony_cluster::frontend::{FrontendConfig, FrontendEnd};
use symphony_cluster::scheduler::{SchedulerConfig, Standby, Tenure};
use symphony_control::models_thread::{ModelsThread, StartPolicy};
use symphony_core::sched::Mode;
use symphony_core::{AcceleratorId, ModelId, Profile, Span};
use symphony_dispatch::Settings;
use symphony_exchange::Spin;
use symphony_wire::carrier::in_process::Layout;
use symphony_wire::carrier::link::{
    Endpoint, Hello, Link, LinkPurpose, LinkSettings, Listener, Role,
};
use symphony_wire::clock::Clock;
use symphony_wire::codec::Frame;
use symphony_wire::message::link::{
    BackendToScheduler, FrontendToScheduler, SchedulerToBackend, SchedulerToFrontend,
};
use symphony_wire::message::{
    AcceleratorFacts, AnnouncedFile, CatalogImage, FilePart, FileWanted, Intake, Order, OrderDone,
    Source,
};

const MODEL: &str = "slo_ms = 1000\nmax_batch = 1\nengine = \"emulated\"\n\
    [emulated]\nalpha_ms = 0\nbeta_ms = 1\n\
    [[input]]\nname = \"x\"\ndatatype = \"UINT8\"\nshape = [1]\n\
    [[output]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [1]\n";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let within = async { tokio::time::timeout(Duration::from_secs(120), work).await };
    runtime.unwrap().block_on(within).expect("two minutes are enough")
}

fn links() -> LinkSettings {
    // A machine that is busy with other tests misses heartbeats.
    LinkSettings { missed_max: 100, ..LinkSettings::new(Clock::start()) }
}

fn anywhere() -> Endpoint {
    "127.0.0.1:0".parse().unwrap()
}

/// A backend with one accelerator, and its cache in this directory.
fn backend(name: &str, cache: &Path, scheduler: &Endpoint, streamed_bytes_max: u64) -> BackendEnd {
    let loader = Loader::new(LoaderConfig {
        cores: Cores { accelerators: 1, threads: 1 },
        cache_dir: cache.to_owned(),
        onnxruntime: None,
        python: PYTHON_DEFAULT.into(),
        effort: Effort::default(),
    });
    let config = BackendConfig {
        name: name.to_owned(),
        schedulers: vec![scheduler.clone()],
        links: links(),
        accelerators: vec![AcceleratorFacts { kind: "cpu".to_owned(), memory: 0 }],
        engines: loader.engine_facts(),
        streamed_bytes_max,
    };
    BackendEnd::start(config, loader).unwrap()
}

/// A link that was accepted in the place of a scheduler.
async fn accepted<In: Frame, Out: Frame>(listener: &Listener) -> Link<In, Out> {
    listener.accept().await.welcome(&Hello {
        role: Role::Scheduler,
        purpose: LinkPurpose::Scheduling,
        name: "scheduler".to_owned(),
        life: 1,
        capabilities: 0,
        details: bytes::Bytes::new(),
    })
}

/// The test in the place of the scheduler of one backend.
struct Orders {
    link: Link<BackendToScheduler, SchedulerToBackend>,
    _backend: BackendEnd,
    next: u64,
}

impl Orders {
    async fn of_backend(cache: &Path, streamed_bytes_max: u64) -> Orders {
        let listener = Listener::bind(&anywhere(), &links()).await.unwrap();
        let backend = backend("b", cache, listener.address(), streamed_bytes_max);
        let mut link: Link<BackendToScheduler, SchedulerToBackend> = accepted(&listener).await;
        let welcome = |accelerators| SchedulerToBackend::Welcome { epoch: 1, accelerators };
        link.sender.send(&welcome(vec![])).unwrap();
        let registered = link.receiver.next().await.unwrap().message;
        let BackendToScheduler::Register(registration) = registered else {
            panic!("{registered:?}");
        };
        assert_eq!(registration.engines[0].name, "rten");
        link.sender.send(&welcome(vec![AcceleratorId(0)])).unwrap();
        Orders { link, _backend: backend, next: 0 }
    }

    /// Orders a model of these files, and answers what is asked for. Returns what came of it, and
    /// the paths of the files that were asked for.
    async fn load(
        &mut self,
        files: &[AnnouncedFile],
        answer: impl Fn(&FileWanted) -> SchedulerToBackend,
    ) -> (Result<OrderDone, String>, Vec<String>) {
        self.next += 1;
        let number = self.next;
        let source = Source::Streamed { files: files.to_vec() };
        let order = Box::new(Order::Load { source, name: "m".to_owned(), version: 1 });
        self.link.sender.send(&SchedulerToBackend::Order { number, order }).unwrap();
        let mut asked = Vec::new();
        loop {
            match self.link.receiver.next().await.unwrap().message {
                BackendToScheduler::FileWanted(wanted) => {
                    let path = &files[wanted.file as usize].path;
                    if asked.last() != Some(path) {
                        asked.push(path.clone());
                    }
                    self.link.sender.send(&answer(&wanted)).unwrap();
                }
                BackendToScheduler::Done { number: of, result } if of == number => {
                    return (result, asked);
                }
                _ => {}
            }
        }
    }
}

fn announced(path: &str, contents: &[u8]) -> AnnouncedFile {
    let (size, sha256) = (contents.len() as u64, Sha256::digest(contents).into());
    AnnouncedFile { path: path.to_owned(), size, sha256 }
}

fn weights() -> Vec<u8> {
    (0..3_000_000u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

fn piece(contents: &[&[u8]], wanted: &FileWanted) -> SchedulerToBackend {
    let FileWanted { number, file, offset, bytes } = *wanted;
    let (from, bytes) = (usize::try_from(offset).unwrap(), bytes as usize);
    let bytes = contents[file as usize][from..from + bytes].to_vec().into();
    SchedulerToBackend::File(FilePart { number, file, offset, bytes })
}

/// Changes a piece on its way.
fn changed(message: SchedulerToBackend, change: impl Fn(&mut FilePart)) -> SchedulerToBackend {
    let SchedulerToBackend::File(mut part) = message else { panic!("{message:?}") };
    change(&mut part);
    SchedulerToBackend::File(part)
}

/// The directories of versions that are whole.
fn whole(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("streamed")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

#[test]
fn what_is_not_as_announced_is_refused_and_never_loaded() {
    let cache = tempfile::tempdir().unwrap();
    block_on(async {
        let mut orders = Orders::of_backend(cache.path(), 1 << 30).await;
        let data = weights();
        let contents: [&[u8]; 2] = [MODEL.as_bytes(), &data];
        let good = [announced("model.toml", contents[0]), announced("1/data.bin", contents[1])];
        let outside = [good[0].clone(), announced("../../x", b"x")];
        let (refused, asked) = orders.load(&outside, |wanted| piece(&contents, wanted)).await;
        let refused = refused.unwrap_err();
        assert!(refused.contains("\"../../x\" is refused") && asked.is_empty(), "{refused}");
        type Change = fn(&mut FilePart);
        let changes: [(&str, Change); 4] = [
            ("its checksum is not the announced one", |part| {
                let mut bytes = part.bytes.to_vec();
                bytes[0] ^= 1;
                part.bytes = bytes.into();
            }),
            ("beyond its end at 3000000", |part| part.offset += 3_000_000),
            ("more bytes came than the 3000000 that were announced", |part| {
                part.bytes = vec![0; 3_000_001].into();
            }),
            ("it is not as long as announced", |part| part.bytes = part.bytes.slice(1..)),
        ];
        for (why, change) in changes {
            let answer = |wanted: &FileWanted| {
                let whole = piece(&contents, wanted);
                if wanted.file == 1 && wanted.offset == 0 { changed(whole, change) } else { whole }
            };
            let (refused, _) = orders.load(&good, answer).await;
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert!(whole(cache.path()).is_empty(), "{why}");
        }
        let text = || "the disk is gone".to_owned();
        let none = |wanted: &FileWanted| SchedulerToBackend::NoFile {
            number: wanted.number,
            text: text(),
        };
        assert!(orders.load(&good, none).await.0.unwrap_err().contains("the disk is gone"));

        // What came whole before is not sent again.
        let (loaded, asked) = orders.load(&good, |wanted| piece(&contents, wanted)).await;
        assert!(matches!(loaded, Ok(OrderDone::Loaded(_))), "{loaded:?}");
        assert_eq!(asked, ["1/data.bin"]);
        let [version] = &whole(cache.path())[..] else { panic!("one version is whole") };
        assert_eq!(fs::read(version.join("m/1/data.bin")).unwrap(), data);

        // Another state of the settings has the same data, which is linked.
        let other = format!("{MODEL}# changed\n");
        let contents: [&[u8]; 2] = [other.as_bytes(), &data];
        let files = [announced("model.toml", contents[0]), good[1].clone()];
        let (loaded, asked) = orders.load(&files, |wanted| piece(&contents, wanted)).await;
        assert!(matches!(loaded, Ok(OrderDone::Loaded(_))), "{loaded:?}");
        assert_eq!(asked, ["model.toml"]);
    });
    assert!(!cache.path().parent().unwrap().join("x").exists());
}

#[test]
fn old_versions_make_room_for_new_ones() {
    let cache = tempfile::tempdir().unwrap();
    block_on(async {
        let mut orders = Orders::of_backend(cache.path(), 5_000_000).await;
        let data = weights();
        let files = [announced("model.toml", MODEL.as_bytes()), announced("1/data.bin", &data)];
        let contents: [&[u8]; 2] = [MODEL.as_bytes(), &data];
        let old = cache.path().join("streamed/old");
        fs::create_dir_all(old.join("m/1")).unwrap();
        fs::write(old.join("m/1/data.bin"), vec![0; 4_000_000]).unwrap();
        let (loaded, _) = orders.load(&files, |wanted| piece(&contents, wanted)).await;
        assert!(matches!(loaded, Ok(OrderDone::Loaded(_))), "{loaded:?}");
        assert!(!old.exists(), "nobody uses it");

        // What is loaded stays, and so there is no room.
        let more = vec![1; 3_000_000];
        let files = [announced("model.toml", MODEL.as_bytes()), announced("1/data.bin", &more)];
        let (refused, _) = orders.load(&files, |wanted| piece(&contents, wanted)).await;
        let refused = refused.unwrap_err();
        assert!(refused.contains("raise cluster.streamed_gib_max"), "{refused}");
        assert_eq!(whole(cache.path()).len(), 1);
    });
}

/// A small disk, until the end of the test; `None` where none can be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mounted(mib: u32) -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.0.path());
        mount.output().is_ok_and(|mount| mount.status.success()).then_some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open there is lost with the test's process.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_model_that_the_disk_has_no_room_for_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mounted(8) else {
        return eprintln!("skipped: a small disk can be mounted by root only");
    };
    let cache = disk.0.path();
    block_on(async {
        let mut orders = Orders::of_backend(cache, 1 << 30).await;
        let data = weights();
        let files = [announced("model.toml", MODEL.as_bytes()), announced("1/data.bin", &data)];
        let contents: [&[u8]; 2] = [MODEL.as_bytes(), &data];
        let (loaded, _) = orders.load(&files, |wanted| piece(&contents, wanted)).await;
        assert!(matches!(loaded, Ok(OrderDone::Loaded(_))), "{loaded:?}");
        let first = whole(cache);

        let large = [data.clone(), data.clone(), data.clone()].concat();
        let other = format!("{MODEL}# large\n");
        let too_large =
            [announced("model.toml", other.as_bytes()), announced("1/data.bin", &large)];
        let contents: [&[u8]; 2] = [other.as_bytes(), &large];
        let (refused, _) = orders.load(&too_large, |wanted| piece(&contents, wanted)).await;
        let refused = refused.unwrap_err();
        for part in ["1/data.bin cannot be written", "No space left on device", "make room there"] {
            assert!(refused.contains(part), "{refused}");
        }
        let kept: Vec<_> = fs::read_dir(cache.join("streamed")).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(whole(cache), first);
        assert_eq!(fs::read(first[0].join("m/1/data.bin")).unwrap(), data);

        // There is room again for one that is small enough.
        let small: Vec<u8> = data.iter().rev().copied().collect();
        let another = format!("{MODEL}# small\n");
        let files = [announced("model.toml", another.as_bytes()), announced("1/data.bin", &small)];
        let contents: [&[u8]; 2] = [another.as_bytes(), &small];
        let (loaded, _) = orders.load(&files, |wanted| piece(&contents, wanted)).await;
        assert!(matches!(loaded, Ok(OrderDone::Loaded(_))), "{loaded:?}");
    });
}

#[test]
fn a_scheduler_streams_what_a_backend_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let (models, cache) = (folder.path().join("models"), folder.path().join("cache"));
    fs::create_dir_all(models.join("m/1/deep")).unwrap();
    fs::write(models.join("m/model.toml"), MODEL).unwrap();
    fs::write(models.join("m/1/deep/data.bin"), weights()).unwrap();
    block_on(async {
        let standby = Standby::start(SchedulerConfig {
            name: "scheduler".to_owned(),
            listen: anywhere(),
            links: links(),
            settings: Settings::new(Mode::Adaptive, 0),
            layout: Layout::TOGETHER,
            spin: Spin::NEVER,
            stream_models: true,
        });
        let standby = standby.await.unwrap();
        let (acting, served, questions) =
            standby.take_over(Tenure::endless(1), Repository::open(&models).unwrap()).unwrap();
        let policy = StartPolicy { skip_failed: false, allow_empty: false };
        let mut served = ModelsThread::start(served, questions, policy, |_| {}).unwrap();
        let first = backend("b", &cache, standby.address(), 1 << 30);
        assert!(served.ready().await);
        assert!(acting.catalog.load().models.contains_key("m"));
        let [version] = &whole(&cache)[..] else { panic!("one version is whole") };
        let path = version.join("m/1/deep/data.bin");
        assert_eq!(fs::read(&path).unwrap(), weights());

        // The next backend with the same cache writes nothing anew.
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let second = backend("c", &cache, standby.address(), 1 << 30);
        while acting.port.serving().unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert_eq!(whole(&cache).len(), 1);
        drop((first, second));
    });
}

#[test]
fn a_lane_that_a_frontend_gives_to_a_size_is_told_of() {
    block_on(async {
        let listener = Listener::bind(&anywhere(), &links()).await.unwrap();
        let frontend = FrontendEnd::start(FrontendConfig {
            name: "f".to_owned(),
            schedulers: vec![listener.address().clone()],
            listen: vec![anywhere()],
            advertised: Vec::new(),
            links: links(),
            in_flight_max: 10,
        });
        let frontend = frontend.await.unwrap();
        let mut link: Link<FrontendToScheduler, SchedulerToFrontend> = accepted(&listener).await;
        let catalog = CatalogImage {
            known: true,
            ready: true,
            intake: Intake::Open,
            index: vec![],
            models: vec![],
        };
        link.sender.send(&SchedulerToFrontend::Welcome { epoch: 1 }).unwrap();
        link.sender.send(&SchedulerToFrontend::Catalog(Box::new(catalog))).unwrap();
        while frontend.epoch().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (lane, ms) = (ModelId::first(3), Span::from_millis(1));
        let profile = Arc::new(Profile::linear(ms, ms, 4).unwrap());
        let told = frontend.scheduler.give_lane(lane, 128, profile).unwrap();
        told.await.unwrap();
        let message = link.receiver.next().await.unwrap().message;
        assert_eq!(message, FrontendToScheduler::LaneSize { lane, size: 128 });
    });
}
