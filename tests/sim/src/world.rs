//! One run: the seed decides what happens next, and the judge looks on.

use crate::client::Client;
use crate::disk::Disk;
use crate::fault::{Fault, Faults};
use crate::faulty::keepalive;
use crate::files::{Files, layout};
use crate::front::{Front, Standby};
use crate::judge::limits::{check_commit_log, check_tails};
use crate::judge::{Event, Judge};
use crate::origin::Origin;
use crate::postgres::Postgres;
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::Settings;
use crate::shapes::KINDS;
use crate::threads::Thread;
use crate::trace::Trace;
use limn_core::Lsn;
use limn_core::log::reading::Standing;
use limn_core::shape::DropCause;
use limn_core::store::Report;
use limn_disk::RecoveryError;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Rounds within which everything must come to rest once nothing fails any more.
const SETTLE_ROUNDS_MAX: u32 = 400;

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Its history.
    pub trace: Trace,
    /// The broken rule, where one was broken.
    pub violation: Option<String>,
}

/// Runs a seed; with a planted bug, or none.
#[must_use]
pub fn run(seed: u64, fault: Option<Fault>, readable: bool) -> Outcome {
    let mut world = World::new(seed, fault, readable);
    let violation = match catch_unwind(AssertUnwindSafe(|| world.live())) {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Violation(what))) => Some(what),
        Ok(Err(Stop::Ended(error))) => Some(format!("the process ended although nothing failed: {error:?}")),
        Err(_) => Some("it panicked".to_owned()),
    };
    Outcome { seed, trace: world.trace, violation }
}

/// The reason why a step ends early.
enum Stop {
    /// The origin's process: it is started again.
    Ended(io::Error),
    /// The run.
    Violation(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Ended(error)
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Violation(what)
    }
}

type Step<T = ()> = Result<T, Stop>;

struct World {
    random: Random,
    settings: Settings,
    faults: Faults,
    files: Files,
    postgres: Postgres,
    origin: Option<Origin>,
    clients: Vec<Client>,
    /// A second process on the folder, in some runs, with clients of its own.
    standby: Option<Standby>,
    readers: Vec<Client>,
    judge: Judge,
    trace: Trace,
    /// How many steps there were, and what the virtual clock says.
    now: u64,
    /// What the system's clock says in microseconds. It stands still while a process runs; from one to the next it may,
    /// as where it was set back.
    clock_us: u64,
    steps: u64,
    /// One step in so many is a calamity.
    calm: u64,
    /// The stream is read, and the commit log written, in one of so many steps that could do it.
    stream_pace: u64,
    disk_pace: u64,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>, readable: bool) -> Self {
        let mut random = Random::new(seed);
        let clients = (0..3 + random.below(5)).map(|_| Client::new(random.index(KINDS.len()))).collect();
        let readers = (0..random.below(2) * 3).map(|_| Client::new(random.index(KINDS.len()))).collect();
        let settings = Settings::new(&mut random);
        Self {
            faults: Faults(fault),
            files: Files::new(Disk::new(random.fork()), Faults(fault)),
            postgres: Postgres::new(random.fork()),
            origin: None,
            clients,
            standby: None,
            readers,
            judge: Judge::new(settings.limits),
            settings,
            trace: Trace::new(readable),
            now: 1_000_000,
            clock_us: 1_000_000,
            steps: 150 + random.below(700),
            calm: 20 + random.below(150),
            stream_pace: 1 + random.below(2) * random.below(8),
            disk_pace: 1 + random.below(2) * random.below(8),
            random,
        }
    }

    fn live(&mut self) -> Step {
        for _ in 0..self.steps {
            let step = self.step();
            self.survive(step)?;
        }
        self.note("quiet", "");
        self.files.disk().cancel_faults();
        self.settle()?;
        self.check_everything()?;
        self.crash(true);
        self.settle()?;
        self.check_everything()
    }

    /// The end of the process is part of life, a violation is not.
    fn survive(&mut self, step: Step) -> Step {
        match step {
            Err(Stop::Ended(error)) => {
                self.note("process ends", error);
                let power = self.files.disk().is_off();
                self.crash(power);
                Ok(())
            }
            other => other,
        }
    }

    fn step(&mut self) -> Step {
        self.now += 1;
        if self.random.once_in(self.calm) {
            return self.calamity();
        }
        match self.random.below(100) {
            0..=34 => {
                let what = self.postgres.step();
                self.note("postgres", what);
                if what == "commit" {
                    self.trace.explain(|| format!("{:?}", self.postgres.wal().last()));
                }
                Ok(())
            }
            35..=79 => self.origin_step(),
            80..=85 => self.standby_step(),
            _ => {
                let client = self.random.index(self.clients.len());
                self.client_step(client)
            }
        }
    }

    fn calamity(&mut self) -> Step {
        match self.random.below(9) {
            0..=1 => {
                self.note("kill", "");
                self.crash(false);
                // Half the time the machine goes down as well, while the process starts again.
                if self.random.once_in(2) {
                    self.files.disk().fail_power_in(self.random.below(40));
                }
            }
            2..=3 => {
                let operations = self.random.below(20);
                self.note("power fails in", operations);
                self.files.disk().fail_power_in(operations);
            }
            4 => {
                let operations = self.random.below(20);
                self.note("disk fails in", operations);
                self.files.disk().fail_in(operations);
            }
            5..=6 => {
                self.note("disconnect", "");
                self.origin.iter_mut().for_each(Origin::disconnect);
            }
            7 => {
                self.note("postgres crashes", "");
                self.postgres.crash();
                if let Some(origin) = &mut self.origin {
                    origin.disconnect();
                    origin.move_session.close();
                }
            }
            _ => return self.delete(),
        }
        Ok(())
    }

    fn delete(&mut self) -> Step {
        let client = self.random.index(self.clients.len());
        let (Some(origin), Some(handle)) = (&mut self.origin, self.clients[client].handle) else {
            return Ok(());
        };
        // Excused first: the process may end half way.
        self.judge.excuse(handle);
        let shape = origin.front.shapes.iter().find(|shape| shape.handle == handle);
        let id = shape.map(|shape| shape.created.id);
        id.into_iter().for_each(|id| origin.writer.remove(id, DropCause::Deleted));
        let deleted = origin.end_turn(&mut self.postgres);
        self.note("delete", handle);
        deleted?;
        Ok(())
    }

    /// The process ends, perhaps with the machine.
    fn crash(&mut self, power: bool) {
        if let Some(mut origin) = self.origin.take() {
            origin.unfinished().into_iter().for_each(|handle| self.judge.excuse(handle));
        }
        if power {
            self.standby = None;
            self.files.disk().restart();
            // A commit is visible before a machine that was off asks for a snapshot.
            self.note("power is back", "");
        }
        self.postgres.show_all();
    }

    fn origin_step(&mut self) -> Step {
        if self.origin.is_none() {
            return self.start();
        }
        let done = self.step_origin();
        self.judge_events()?;
        self.note(done?, "");
        self.check_tails()
    }

    /// The process takes one of its steps: says which.
    fn step_origin(&mut self) -> Step<&'static str> {
        let Some(origin) = &mut self.origin else { return Ok("") };
        let (postgres, random) = (&mut self.postgres, &mut self.random);
        let done = match random.below(56) {
            0..=1 => {
                origin.connect(postgres);
                "connect"
            }
            2..=17 => {
                if random.once_in(self.stream_pace) {
                    let frames = 1 + random.below(6);
                    self.read_stream(frames)?;
                }
                return Ok("stream");
            }
            18..=20 => {
                self.read_keepalive()?;
                return Ok("keepalive");
            }
            21..=27 => {
                if random.once_in(self.disk_pace) {
                    origin.run(Thread::CommitLog, 1 + random.index(12))?;
                }
                return Ok("write");
            }
            28..=31 => {
                origin.writer.handle_report(Report::Synced(origin.threads.durable));
                "durable"
            }
            32..=33 => {
                origin.writer.handle_tick(origin.handles.last_us());
                "tick"
            }
            34..=35 => {
                origin.run(Thread::Sync, 1)?;
                "sync segments"
            }
            36..=38 => {
                origin.run(Thread::Tails, 1 + random.index(3))?;
                "write tails"
            }
            39..=43 => {
                let outcome = origin.move_session.step(postgres, random);
                outcome.into_iter().for_each(|outcome| origin.writer.handle_round(outcome));
                "move"
            }
            52..=55 => {
                origin.run(Thread::Segments, 1)?;
                "work on segments"
            }
            _ => {
                origin.create(postgres, random)?;
                "create"
            }
        };
        origin.end_turn(postgres)?;
        Ok(done)
    }

    /// The process reads up to so many frames in one turn.
    fn read_stream(&mut self, frames_max: u64) -> Step {
        for _ in 0..frames_max {
            let Some(origin) = &mut self.origin else { return Ok(()) };
            let Some(frame) = origin.link.as_mut().and_then(|link| link.next(&self.postgres)) else { break };
            origin.handle_frame(&frame)?;
            self.check_tails()?;
        }
        self.end_turn()
    }

    /// A keepalive comes.
    fn read_keepalive(&mut self) -> Step {
        let Some(origin) = &mut self.origin else { return Ok(()) };
        let frame = origin.link.as_ref().map(|link| keepalive(link, &self.postgres, self.faults));
        frame.iter().try_for_each(|frame| origin.handle_frame(frame))?;
        self.end_turn()
    }

    fn end_turn(&mut self) -> Step {
        let ended = self.origin.as_mut().map(|origin| origin.end_turn(&mut self.postgres));
        ended.transpose()?;
        Ok(())
    }

    fn check_tails(&self) -> Step {
        if let Some(origin) = self.origin.as_ref().filter(|origin| !origin.is_writing()) {
            let logs = origin.front.shapes.iter().map(|shape| (shape.handle, shape.log()));
            check_tails(&logs.collect::<Vec<_>>(), &self.settings.limits)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Step {
        if self.random.once_in(2) {
            self.clock_us = self.now;
        }
        let origin = Origin::start(&self.files, &self.settings, self.faults)?;
        self.note("start", origin.processed());
        self.origin = Some(origin);
        Ok(())
    }

    fn judge_events(&mut self) -> Step {
        for event in self.origin.as_mut().map(Origin::take_events).unwrap_or_default() {
            match &event {
                Event::Snapshot(handle, _) => self.note("snapshot of", handle),
                Event::Dropped(handle, cause) => self.note(cause.as_str(), handle),
                Event::Queued(_) => {}
            }
            self.judge.handle_event(event, &self.postgres)?;
        }
        Ok(())
    }

    fn client_step(&mut self, index: usize) -> Step {
        let Some(origin) = &mut self.origin else { return Ok(()) };
        let client = &mut self.clients[index];
        let Some(handle) =
            client.handle.or_else(|| origin.find_or_create(&KINDS[client.kind], self.clock_us))
        else {
            return Ok(());
        };
        client.handle = Some(handle);
        let after = client.offset;
        let reply = origin.front.read((handle, &KINDS[client.kind]), after);
        self.trace.note(&format_args!(
            "{} client {index}: {handle} after {after}: {}",
            self.now,
            shown(&reply)
        ));
        if let Reply::Snapshot { bytes, .. } | Reply::Changes { bytes, .. } = &reply {
            self.trace.explain(|| String::from_utf8_lossy(bytes).into_owned());
        }
        self.judge.check_reply(handle, after, &reply)?;
        client.accept_reply(&reply).map_err(|what| format!("client {index} of {handle}: {what}"))?;
        if matches!(reply, Reply::Changes { up_to_date: Some(_), .. }) {
            self.judge.check_client(client, &self.postgres)?;
        }
        Ok(())
    }

    fn standby_step(&mut self) -> Step {
        if self.readers.is_empty() {
            return Ok(());
        }
        if self.random.once_in(3) {
            return self.follow();
        }
        let reader = self.random.index(self.readers.len());
        self.reader_step(reader)
    }

    fn follow(&mut self) -> Step {
        let standby = self.standby.get_or_insert_with(|| {
            let front = Front::new(&self.files, Standing::ReadOnly, Lsn::ZERO, self.faults);
            let Settings { sizes, limits, .. } = &self.settings;
            let files = self.files.clone();
            Standby::new(files, layout(), sizes.chunk_bytes_max, limits.tail_bytes_max, front)
        });
        match standby.follow() {
            Ok(()) => self.note("follow", ""),
            // It syncs what it reads, and ends where the disk fails.
            Err(RecoveryError::Io { source, .. }) if self.files.disk().is_off() => {
                return Err(Stop::Ended(source));
            }
            Err(RecoveryError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                self.standby = None;
                self.note("the second process ends", source);
            }
            Err(error) => return Err(Stop::Violation(format!("a second process cannot read on: {error:?}"))),
        }
        Ok(())
    }

    fn reader_step(&mut self, index: usize) -> Step {
        let Some(standby) = &self.standby else { return Ok(()) };
        let reader = &mut self.readers[index];
        let Some(handle) = reader.handle.or_else(|| standby.owner.find(&KINDS[reader.kind])) else {
            return Ok(());
        };
        reader.handle = Some(handle);
        let after = reader.offset;
        let reply = standby.owner.read((handle, &KINDS[reader.kind]), after);
        self.trace.note(&format_args!(
            "{} reader {index}: {handle} after {after}: {}",
            self.now,
            shown(&reply)
        ));
        self.judge.check_reply_of_second(handle, after, &reply)?;
        reader.accept_reply(&reply).map_err(|what| format!("reader {index} of {handle}: {what}"))?;
        if matches!(reply, Reply::Changes { up_to_date: Some(_), .. }) {
            self.judge.check_client_of_second(reader, &self.postgres)?;
        }
        Ok(())
    }

    /// Nothing fails any more: everything must come to rest, with every client up to date.
    fn settle(&mut self) -> Step {
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.now += 1;
            self.postgres.settle();
            if self.origin.is_none() {
                self.start()?;
            }
            self.settle_origin()?;
            for client in 0..self.clients.len() {
                self.client_step(client)?;
            }
            if !self.readers.is_empty() {
                self.follow()?;
            }
            for reader in 0..self.readers.len() {
                self.reader_step(reader)?;
            }
            if self.is_at_rest() {
                // What came since the last tick may call for a checkpoint: one round begins it, another one ends it.
                self.settle_origin()?;
                self.settle_origin()?;
                return Ok(check_commit_log(&self.files, &layout(), &self.settings.limits)??);
            }
        }
        Err(Stop::Violation(format!(
            "nothing comes to rest: the WAL ends at {}, confirmed is {}, active: {:?}, clients are at {:?}",
            self.postgres.wal_end(),
            self.postgres.confirmed(),
            self.origin.as_ref().map(Origin::is_active),
            self.clients.iter().map(|client| (client.handle, client.up_to_date)).collect::<Vec<_>>(),
        )))
    }

    fn settle_origin(&mut self) -> Step {
        self.origin.iter_mut().for_each(|origin| origin.connect(&self.postgres));
        self.read_stream(200)?;
        let Some(origin) = &mut self.origin else { return Ok(()) };
        let (postgres, random) = (&mut self.postgres, &mut self.random);
        origin.run(Thread::CommitLog, usize::MAX)?;
        origin.writer.handle_report(Report::Synced(origin.threads.durable));
        origin.writer.handle_tick(origin.handles.last_us());
        for thread in [Thread::Tails, Thread::Sync, Thread::Segments] {
            origin.end_turn(postgres)?;
            origin.run(thread, usize::MAX)?;
        }
        origin.end_turn(postgres)?;
        origin.create(postgres, random)?;
        let outcome = origin.move_session.step(postgres, random);
        outcome.into_iter().for_each(|outcome| origin.writer.handle_round(outcome));
        origin.end_turn(postgres)?;
        self.read_keepalive()?;
        self.judge_events()
    }

    fn is_at_rest(&self) -> bool {
        let last = self.postgres.wal().last().map_or(0, |transaction| transaction.commit);
        let read = |client: &Client| client.up_to_date.is_some_and(|lsn| lsn >= last);
        let idle = self.origin.as_ref().is_some_and(|origin| origin.is_idle(&self.postgres));
        idle && self.postgres.confirmed() == self.postgres.wal_end() && self.clients.iter().all(read)
    }

    /// Asks once more for everything that was ever served.
    fn check_everything(&mut self) -> Step {
        let Some(origin) = &self.origin else { return Ok(()) };
        let mut hash = DefaultHasher::new();
        for (handle, kind) in self.judge.handles() {
            for after in self.judge.offsets(handle) {
                let reply = origin.front.read((handle, &KINDS[kind]), after);
                hash_reply(&reply, &mut hash);
                self.judge.check_reply(handle, after, &reply)?;
                if reply == Reply::Unavailable {
                    return Err(Stop::Violation(format!("{handle} after {after} stays unavailable")));
                }
                let standby = self.standby.as_ref().filter(|_| reply != Reply::MustRefetch);
                let Some(standby) = standby else { continue };
                let reply = standby.owner.read((handle, &KINDS[kind]), after);
                self.judge.check_reply_of_second(handle, after, &reply)?;
                if reply == Reply::Unavailable {
                    return Err(Stop::Violation(format!("the second never has {handle} after {after}")));
                }
            }
        }
        self.note("everything read again", hash.finish());
        Ok(())
    }

    fn note(&mut self, what: &str, detail: impl std::fmt::Debug) {
        self.trace.note(&format_args!("{} {what} {detail:?}", self.now));
    }
}

fn shown(reply: &Reply) -> String {
    let mut hash = DefaultHasher::new();
    hash_reply(reply, &mut hash);
    match reply {
        Reply::Snapshot { bytes, offset } => {
            format!("snapshot of {} bytes ({:x}) up to {offset}", bytes.len(), hash.finish())
        }
        Reply::Changes { bytes, offset, closed, up_to_date, .. } => format!(
            "{} bytes ({:x}) up to {offset}, closed: {closed}, up to date: {up_to_date:?}",
            bytes.len(),
            hash.finish()
        ),
        other => format!("{other:?}"),
    }
}

fn hash_reply(reply: &Reply, hash: &mut DefaultHasher) {
    match reply {
        Reply::Snapshot { bytes, offset } => (bytes, offset).hash(hash),
        Reply::Changes { bytes, offset, closed, up_to_date, .. } => {
            (bytes, offset, closed, up_to_date).hash(hash);
        }
        Reply::MustRefetch => 1.hash(hash),
        Reply::Unavailable => 2.hash(hash),
        Reply::OutOfBounds => 3.hash(hash),
        Reply::Unreadable => 4.hash(hash),
    }
}
