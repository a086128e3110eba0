//! The way to the thread that receives the files of models.

use crate::lock::lock;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use symphony_wire::carrier::link::LinkSender;
use symphony_wire::message::link::BackendToScheduler;
use symphony_wire::message::{AnnouncedFile, FilePart};

/// Pieces that may wait for the thread: those of an order that was given up, and those of the next.
const PIECES_MAX: usize = 4 * 16;

/// The way to the scheduler.
pub(crate) type ToScheduler = LinkSender<BackendToScheduler>;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Told {
    Order(StreamedOrder),
    Piece(FilePart),
    NoFile { number: u64, text: String },
    LinkEnded(ToScheduler),
}

/// An order to load a version whose files are streamed.
#[derive(Debug)]
pub(crate) struct StreamedOrder {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) files: Vec<AnnouncedFile>,
    pub(crate) to: ToScheduler,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(crate) struct FilesPort {
    told: Sender<Told>,
    pub(crate) pieces: Arc<AtomicUsize>,
    /// Versions whose files are here, and which are being loaded.
    pub(crate) loading: Arc<Mutex<BTreeSet<String>>>,
}

/// What the thread reads.
#[derive(Debug)]
pub(crate) struct FilesInbox(pub(crate) Receiver<Told>);

/// The way to the thread, and what it reads.
pub(crate) fn port() -> (FilesPort, FilesInbox) {
    let (told, inbox) = unbounded();
    (FilesPort { told, pieces: Arc::default(), loading: Arc::default() }, FilesInbox(inbox))
}

impl FilesPort {
    fn tell(&self, told: Told) {
        if self.told.send(told).is_err() {
            tracing::error!("the thread that receives models has ended: restart the backend");
        }
    }

    /// Has the files of an order come, then the order carried out.
    pub(crate) fn order(
        &self,
        number: u64,
        (name, version): (String, u64),
        files: Vec<AnnouncedFile>,
        to: ToScheduler,
    ) {
        self.tell(Told::Order(StreamedOrder { number, name, version, files, to }));
    }

    /// A piece has come.
    ///
    /// # Errors
    /// More have come than were asked for.
    pub(crate) fn piece(&self, part: FilePart) -> Result<(), String> {
        if self.pieces.fetch_add(1, Ordering::AcqRel) >= PIECES_MAX {
            return Err("more pieces of files than were asked for".to_owned());
        }
        self.tell(Told::Piece(part));
        Ok(())
    }

    /// The files of an order cannot be had.
    pub(crate) fn no_file(&self, number: u64, text: String) {
        self.tell(Told::NoFile { number, text });
    }

    /// What was asked for by this link does not come.
    pub(crate) fn link_ended(&self, link: ToScheduler) {
        self.tell(Told::LinkEnded(link));
    }

    /// A version was loaded from its files, or was not.
    pub(crate) fn loaded(&self, fingerprint: &str) {
        lock(&self.loading).remove(fingerprint);
    }
}
