//! The thread that receives the files of models: it asks for what is lacking, writes and checks it, and
//! passes the order on to the thread that loads models once everything is there.
//!
//! The scheduler sends only what was asked for, and a few pieces are asked for ahead: what waits here is
//! bounded by that, however slow the disk is.

use super::files_port::{FilesInbox, StreamedOrder, ToScheduler, Told};
use super::orders::Work;
use super::shared::Shared;
use super::store::{Fault, Store, create_new, failed};
use crate::files::{check, fingerprint};
use crate::lock::lock;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, sleep};
use std::time::Duration;
use symphony_backend::repository::is_name;
use symphony_wire::carrier::link::SendError;
use symphony_wire::message::link::BackendToScheduler;
use symphony_wire::message::{AnnouncedFile, FilePart, FileWanted, Order, Source};

/// Pieces that are asked for ahead.
const AHEAD: u64 = 16;
/// How often to try again to send when there is no room.
const ROOM_AGAIN: Duration = Duration::from_millis(1);

/// Starts the thread.
pub(crate) fn start(inbox: FilesInbox, store: Store, shared: Arc<Shared>) -> io::Result<()> {
    let mut files = Files { store, shared, waiting: VecDeque::new(), current: None };
    let serve = move || {
        for told in inbox.0 {
            files.take(told);
            files.go_on();
        }
    };
    Builder::new().name("files".to_owned()).spawn(serve).map(drop)
}

struct Files {
    store: Store,
    shared: Arc<Shared>,
    waiting: VecDeque<StreamedOrder>,
    current: Option<Download>,
}

/// The order whose files come now.
#[derive(Debug)]
struct Download {
    order: StreamedOrder,
    fingerprint: String,
    /// The files that are to be sent yet, by number.
    lacking: VecDeque<u32>,
    writing: Option<Writing>,
}

/// The file that comes now.
#[derive(Debug)]
struct Writing {
    number: u32,
    path: PathBuf,
    file: File,
    hash: Sha256,
    written: u64,
    asked: u64,
}

impl Files {
    fn take(&mut self, told: Told) {
        match told {
            Told::Order(order) => self.waiting.push_back(order),
            Told::Piece(part) => {
                self.shared.files.pieces.fetch_sub(1, Ordering::AcqRel);
                let current = self.current.as_mut();
                // What comes for an order that was given up was asked for before.
                let current = current.filter(|download| download.order.number == part.number);
                if let Some(Err(why)) = current.map(|download| download.take(&part)) {
                    self.give_up(&why);
                }
            }
            Told::NoFile { number, text } => {
                if self.current.as_ref().is_some_and(|current| current.order.number == number) {
                    self.give_up(&text.into());
                }
            }
            Told::LinkEnded(link) => {
                self.waiting.retain(|order| !order.to.is_same(&link));
                self.current.take_if(|download| download.order.to.is_same(&link));
            }
        }
    }

    /// Goes on with the order whose files come, and begins the next when it has all.
    fn go_on(&mut self) {
        loop {
            if self.current.is_none() {
                let Some(order) = self.waiting.pop_front() else { return };
                self.begin(order);
                continue;
            }
            match self.advance() {
                Ok(false) => return,
                Ok(true) => self.pass_on(),
                Err(why) => self.give_up(&why),
            }
        }
    }

    /// Looks what of an order's files is here.
    fn begin(&mut self, order: StreamedOrder) {
        let fingerprint = fingerprint(&order.files);
        let download = Download { order, fingerprint, lacking: VecDeque::new(), writing: None };
        let download = self.current.insert(download);
        let loaded = self.shared.offered.all();
        if loaded.iter().any(|facts| facts.fingerprint == download.fingerprint) {
            return self.pass_on();
        }
        let StreamedOrder { name, files, .. } = &download.order;
        let mut in_use: BTreeSet<_> = loaded.into_iter().map(|facts| facts.fingerprint).collect();
        in_use.extend(lock(&self.shared.files.loading).iter().cloned());
        let checked = match is_name(name) {
            true => check(files).map_err(Fault::from),
            false => Err(Fault::Refused(format!("{name:?} is no name of a model"))),
        };
        let lacking =
            checked.and_then(|()| self.store.prepare(&download.fingerprint, name, files, &in_use));
        match lacking {
            Ok(None) => self.pass_on(),
            Ok(Some(lacking)) => {
                tracing::info!(model = %name, files = lacking.len(), "the files of a model are sent");
                download.lacking = lacking.into();
            }
            Err(why) => self.give_up(&why),
        }
    }

    /// Asks for what comes next. Returns whether everything is here.
    fn advance(&mut self) -> Result<bool, Fault> {
        let Some(download) = &mut self.current else { return Ok(false) };
        loop {
            if let Some(writing) = &mut download.writing {
                let announced = &download.order.files[writing.number as usize];
                if writing.written < announced.size {
                    writing.ask(&download.order, announced.size)?;
                    return Ok(false);
                }
                writing.finish(announced)?;
                download.writing = None;
            }
            let Some(number) = download.lacking.pop_front() else { break };
            let announced = &download.order.files[number as usize];
            let path = self.store.part_of(&download.fingerprint, &download.order.name, announced);
            let file = create_new(&path)?;
            let hash = Sha256::new();
            download.writing = Some(Writing { number, path, file, hash, written: 0, asked: 0 });
        }
        let StreamedOrder { name, files, .. } = &download.order;
        self.store.publish(&download.fingerprint, name, files)?;
        Ok(true)
    }

    /// Has the version loaded whose files are here.
    fn pass_on(&mut self) {
        let Some(Download { order, fingerprint, .. }) = self.current.take() else { return };
        lock(&self.shared.files.loading).insert(fingerprint);
        let StreamedOrder { number, name, version, files, to } = order;
        let order = Order::Load { source: Source::Streamed { files }, name, version };
        self.shared.models.send(Work::Order { number, order, to });
    }

    /// An order is not carried out. Of its files those that came whole are kept for the next attempt,
    /// unless the disk takes no more.
    fn give_up(&mut self, why: &Fault) {
        let Some(download) = self.current.take() else { return };
        let Download { order, fingerprint, writing, .. } = download;
        match (why, writing) {
            (Fault::Disk { .. }, _) => self.store.discard(&fingerprint),
            (Fault::Refused(_), Some(writing)) => drop(fs::remove_file(&writing.path)),
            (Fault::Refused(_), None) => {}
        }
        let why = format!("the files of model {:?} are not taken: {why}", order.name);
        tracing::error!("{why}");
        let done = BackendToScheduler::Done { number: order.number, result: Err(why) };
        // The end of the link is noticed where it is read.
        let _ = send(&order.to, &done);
    }
}

impl Download {
    /// A piece has come.
    fn take(&mut self, part: &FilePart) -> Result<(), Fault> {
        let Some(writing) = self.writing.as_mut().filter(|file| file.number == part.file) else {
            return Err(
                format!("a piece of file {} came, which was not asked for", part.file).into()
            );
        };
        let AnnouncedFile { path, size, .. } = &self.order.files[writing.number as usize];
        let bytes = part.bytes.len() as u64;
        if part.offset >= *size {
            let at = part.offset;
            return Err(format!("{path}: a piece at {at}, beyond its end at {size}").into());
        }
        if bytes > size - part.offset {
            return Err(
                format!("{path}: more bytes came than the {size} that were announced").into()
            );
        }
        let expected = (size - writing.written).min(FilePart::BYTES_MAX.into());
        if part.offset != writing.written || bytes != expected {
            return Err(format!(
                "{path}: {bytes} bytes came at {} in place of {expected} at {}: it is not as long as \
                 announced",
                part.offset, writing.written
            )
            .into());
        }
        let written = writing.file.write_all(&part.bytes);
        written.map_err(|error| failed(&writing.path, error))?;
        writing.hash.update(&part.bytes);
        writing.written += bytes;
        Ok(())
    }
}

impl Writing {
    /// Asks for the pieces that may be on their way.
    fn ask(&mut self, order: &StreamedOrder, size: u64) -> Result<(), Fault> {
        let until = size.min(self.written + AHEAD * u64::from(FilePart::BYTES_MAX));
        while self.asked < until {
            let bytes = u32::try_from(size - self.asked).unwrap_or(u32::MAX);
            let bytes = bytes.min(FilePart::BYTES_MAX);
            let (number, file, offset) = (order.number, self.number, self.asked);
            let wanted = FileWanted { number, file, offset, bytes };
            send(&order.to, &BackendToScheduler::FileWanted(wanted))?;
            self.asked += u64::from(bytes);
        }
        Ok(())
    }

    /// All bytes of a file are here: they have to be those that were announced.
    fn finish(&mut self, announced: &AnnouncedFile) -> Result<(), Fault> {
        let sha256: [u8; 32] = self.hash.finalize_reset().into();
        if sha256 != announced.sha256 {
            return Err(format!(
                "{}: its checksum is not the announced one: it changed on its way, or while it was \
                 sent; load the model again",
                announced.path
            )
            .into());
        }
        self.file.sync_all().map_err(|error| failed(&self.path, error))
    }
}

/// Sends a message, waiting for room.
fn send(to: &ToScheduler, message: &BackendToScheduler) -> Result<(), String> {
    loop {
        match to.send(message) {
            Ok(()) => return Ok(()),
            Err(SendError::Full) => sleep(ROOM_AGAIN),
            Err(error) => return Err(error.to_string()),
        }
    }
}
