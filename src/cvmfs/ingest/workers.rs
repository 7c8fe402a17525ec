//! The threads that make objects of content.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::Compression as Level;

use super::super::Error;
use super::super::hash::{ContentHash, ObjectKind};
use super::IngestSettings;
use super::blocks::Block;
use super::objects::Objects;
use super::writer::Writer;

/// What a worker does at one go.
pub(super) enum Job {
    /// Whole files.
    Batch(Batch),
    /// One object, whose content arrives while it is being made.
    Stream(Report, Receiver<Piece>),
    /// Kills the worker.
    #[cfg(test)]
    Panic(Report),
}

/// Whole files, side by side in one block.
pub(super) struct Batch {
    pub(super) block: Block,
    pub(super) files: Vec<(Report, Range<usize>)>,
}

/// A part of a streamed object. All but the last have the bytes of a whole block.
pub(super) enum Piece {
    Block(Block),
    /// So many zeros.
    Zeros(u64),
    /// It is complete. Without this the content could not be read to its end, and there is no object.
    End(ObjectKind),
}

/// What became of a part of a file.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ticket: u64,
    pub(super) part: usize,
    pub(super) result: Result<ContentHash, Error>,
}

/// Owes the caller a [`Done`]: whatever happens to a job, it is sent.
pub(super) struct Report {
    ticket: u64,
    part: usize,
    to: Option<Sender<Done>>,
}

impl Report {
    pub(super) fn new(ticket: u64, part: usize, to: Sender<Done>) -> Self {
        Self { ticket, part, to: Some(to) }
    }

    fn send(mut self, result: Result<ContentHash, Error>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<ContentHash, Error>) {
        if let Some(to) = self.to.take() {
            // Nobody listens any more when the revision is given up.
            let _ = to.send(Done { ticket: self.ticket, part: self.part, result });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let source = io::Error::other("the thread that did it ended; this is an error in the program");
        self.tell(Err(Error::Io { what: "store an object".into(), source }));
    }
}

/// The threads. Dropping it ends them after the block that each is at.
pub(super) struct Workers {
    jobs: Option<Sender<Job>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn start(objects: &Arc<Objects>, settings: &IngestSettings) -> Result<Self, Error> {
        let (jobs, queue) = channel();
        let mut workers = Self { jobs: Some(jobs), stop: Arc::default(), threads: Vec::new() };
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..settings.thread_count() {
            let writer = Writer::new(objects.clone(), settings.algorithm, settings.compression, CONTENT);
            let mut worker = Worker { writer, stop: workers.stop.clone() };
            let queue = queue.clone();
            let thread = std::thread::Builder::new()
                .name(format!("ingest-{number}"))
                .spawn(move || worker.run(&queue))
                .map_err(Error::io("start a thread"))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(super) fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // When no worker lives, the job is dropped, which reports it.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has reported what it was at.
            let _ = thread.join();
        }
    }
}

struct Worker {
    writer: Writer,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(&mut self, queue: &Mutex<Receiver<Job>>) {
        loop {
            // The one that waits for a job holds the lock, the others wait for the lock.
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match job {
                Ok(Job::Batch(batch)) => self.batch(batch),
                Ok(Job::Stream(report, pieces)) => {
                    if let Some(result) = self.stream(&pieces).transpose() {
                        report.send(result);
                    }
                }
                #[cfg(test)]
                Ok(Job::Panic(_report)) => panic!("asked for by a test"),
                Err(_) => return,
            }
        }
    }

    fn batch(&mut self, batch: Batch) {
        for (report, range) in batch.files {
            if self.stopped() {
                return;
            }
            report.send(self.whole(&batch.block.bytes()[range]));
        }
    }

    fn whole(&mut self, content: &[u8]) -> Result<ContentHash, Error> {
        self.writer.begin();
        self.writer.block(content, true)?;
        self.writer.finish(ObjectKind::File)
    }

    /// `None` when the content is given up.
    fn stream(&mut self, pieces: &Receiver<Piece>) -> Result<Option<ContentHash>, Error> {
        self.writer.begin();
        while let Ok(piece) = pieces.recv() {
            if self.stopped() {
                break;
            }
            match piece {
                Piece::Block(block) => self.writer.block(block.bytes(), false)?,
                Piece::Zeros(count) => self.writer.zeros(count)?,
                Piece::End(kind) => {
                    self.writer.block(&[], true)?;
                    return self.writer.finish(kind).map(Some);
                }
            }
        }
        self.writer.begin();
        Ok(None)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The level for the content of files, as the real tools have it.
pub(super) const CONTENT: Level = Level::new(6);
