//! Lets a plan happen.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;

use super::plan::{Fault, Step};
use super::site::{Link, NODES, Site, Target};
use super::stories::Stories;
use crate::harness::Rabbit;

/// How long a permission is waited for where a kill is aimed.
const AIMING: Duration = Duration::from_secs(2);
/// How long somebody may take to end in order.
const LEAVING: Duration = Duration::from_secs(15);
/// More is long, and only one at a time stands still for so long.
const LONG: Duration = Duration::from_secs(15);
/// How long the broker is left alone once it is back: it takes long to come back, and nothing is done without it.
const BROKER_RESTS: Duration = Duration::from_secs(15);
/// Pause between two looks at who is to be mended.
const LOOK: Duration = Duration::from_millis(10);

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Happened {
    pub(super) at: Timestamp,
    pub(super) fault: Fault,
}

/// How somebody is mended when the time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mend {
    Thaw,
    Start,
    /// As soon as it has ended, or it is killed.
    StartOnceEnded,
}

#[derive(Debug, Clone, Copy)]
struct Hurt {
    mend: Mend,
    until: Instant,
    is_long: bool,
}

/// Hurts a site as planned.
pub(super) struct Run<'a> {
    site: &'a mut Site,
    rabbit: Arc<Rabbit>,
    stories: &'a Stories,
    hurt: BTreeMap<Target, Hurt>,
    silent: BTreeMap<Link, Instant>,
    /// The broker takes its time to start: others are hurt meanwhile.
    broker: Option<JoinHandle<()>>,
    broker_rests_until: Instant,
    happened: Vec<Happened>,
    /// Where what happens is written down, beside what the processes say.
    file: File,
}

impl<'a> Run<'a> {
    pub(super) fn new(site: &'a mut Site, rabbit: Arc<Rabbit>, stories: &'a Stories) -> Self {
        let (hurt, silent) = (BTreeMap::new(), BTreeMap::new());
        let file = File::create(site.records().join("faults.log")).unwrap();
        let (broker, broker_rests_until, happened) = (None, Instant::now(), Vec::new());
        Self { site, rabbit, stories, hurt, silent, broker, broker_rests_until, happened, file }
    }

    /// Lets every step happen, each as soon as those whom it meets can take it; `each` is told of it. Mends all in the end.
    pub(super) fn all(mut self, steps: &[Step], mut each: impl FnMut(usize, &Site)) -> Vec<Happened> {
        let mut waiting = VecDeque::new();
        let mut steps = steps.iter();
        loop {
            if let Some(step) = steps.next() {
                self.pass(step.pause);
                waiting.push_back(step.fault);
            }
            match waiting.iter().position(|fault| self.can_be(fault)) {
                Some(at) => {
                    let fault = waiting.remove(at).unwrap();
                    self.happen(fault);
                    each(self.happened.len(), self.site);
                }
                None if waiting.is_empty() => break,
                None => self.pass(LOOK),
            }
        }
        while !self.hurt.is_empty() || !self.silent.is_empty() || self.broker.is_some() {
            self.pass(LOOK);
        }
        self.happened
    }

    /// Lets time pass, in which whoever is due is mended.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.mend();
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn mend(&mut self) {
        let now = Instant::now();
        self.join_broker();
        for (target, hurt) in self.hurt.clone() {
            let is_due = now >= hurt.until;
            match (hurt.mend, target) {
                (Mend::Thaw, Target::Broker) if is_due => {
                    self.rabbit.freeze(false);
                    self.broker_rests_until = now + BROKER_RESTS;
                }
                (Mend::Thaw, _) if is_due => self.site.signal(target, Signal::SIGCONT),
                (Mend::Start, _) if is_due => self.site.start_again(target, None),
                (Mend::StartOnceEnded, _) if is_due => {
                    self.site.kill(target);
                    self.site.start_again(target, None);
                }
                (Mend::StartOnceEnded, _) if self.site.ended(target).is_some() => {
                    self.site.bury(target);
                    self.site.start_again(target, None);
                }
                _ => continue,
            }
            self.hurt.remove(&target);
            self.write_down(format_args!("{target:?} is mended: {:?}", hurt.mend));
        }
        for (link, until) in self.silent.clone() {
            if now >= until {
                self.site.silence(link, false);
                self.silent.remove(&link);
                self.write_down(format_args!("{link:?} is mended"));
            }
        }
        for target in (0..NODES.len()).map(Target::Worker).chain([Target::Server]) {
            if self.hurt.contains_key(&target) {
                continue;
            }
            if let Some(status) = self.site.ended(target) {
                self.site.bury(target);
                self.site.wrong().push(format!("{target:?} ended by itself, {status}, at {}", Timestamp::now()));
                self.site.start_again(target, None);
            }
        }
    }

    fn join_broker(&mut self) {
        if let Some(thread) = self.broker.take_if(|thread| thread.is_finished()) {
            thread.join().expect("the broker comes back");
            self.broker_rests_until = Instant::now() + BROKER_RESTS;
            self.write_down(format_args!("the broker is back"));
        }
    }

    /// Whether those whom it meets stand as they should.
    fn can_be(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Kill { target, .. } | Fault::Stop { target } | Fault::Freeze { target, .. } => {
                let is_long = matches!(fault, Fault::Freeze { time, .. } if *time > LONG);
                let other_is_long = is_long && self.hurt.values().any(|hurt| hurt.is_long);
                !other_is_long
                    && !self.hurt.contains_key(target)
                    && (*target != Target::Broker || self.broker.is_none() && Instant::now() >= self.broker_rests_until)
            }
            Fault::Cut { link } | Fault::Silence { link, .. } => !self.silent.contains_key(link),
        }
    }

    fn happen(&mut self, fault: Fault) {
        if let Fault::Kill { target, aim: Some(late), .. } = fault {
            let node = match target {
                Target::Worker(number) => Some(NODES[number]),
                _ => None,
            };
            if self.stories.await_permission(node, AIMING) {
                // The moment is what is random here.
                std::thread::sleep(late);
            }
        }
        self.write_down(format_args!("{fault:?}"));
        self.happened.push(Happened { at: Timestamp::now(), fault });
        let hurt = |mend, time| Hurt { mend, until: Instant::now() + time, is_long: time > LONG };
        match fault {
            Fault::Kill { target: Target::Broker, down, .. } => self.renew_broker(move |rabbit| {
                rabbit.kill9();
                std::thread::sleep(down);
            }),
            Fault::Stop { target: Target::Broker } => self.renew_broker(Rabbit::stop),
            Fault::Freeze { target: Target::Broker, time } => {
                self.rabbit.freeze(true);
                self.hurt.insert(Target::Broker, hurt(Mend::Thaw, time));
            }
            Fault::Kill { target, down, .. } => {
                self.site.kill(target);
                self.hurt.insert(target, hurt(Mend::Start, down));
            }
            Fault::Stop { target } => {
                self.site.signal(target, Signal::SIGTERM);
                self.hurt.insert(target, hurt(Mend::StartOnceEnded, LEAVING));
            }
            Fault::Freeze { target, time } => {
                self.site.signal(target, Signal::SIGSTOP);
                self.hurt.insert(target, hurt(Mend::Thaw, time));
            }
            Fault::Cut { link } => self.site.cut(link),
            Fault::Silence { link, time } => {
                self.site.silence(link, true);
                self.silent.insert(link, Instant::now() + time);
            }
        }
    }

    fn write_down(&mut self, what: fmt::Arguments<'_>) {
        writeln!(self.file, "{} {what}", Timestamp::now()).unwrap();
    }

    /// Ends the broker in some way and starts it again, beside everything else.
    fn renew_broker(&mut self, end: impl FnOnce(&Rabbit) + Send + 'static) {
        let rabbit = Arc::clone(&self.rabbit);
        self.broker = Some(std::thread::spawn(move || {
            end(&rabbit);
            rabbit.up();
        }));
    }
}
