//! The live hub of one shape: however many clients wait for its next change, one request waits at the origin.
//!
//! The hub asks upstream (the origin, or the hub above) by long polls, one at a time, each at the end of the reply before.
//! A long poll's reply says all that there is to say: the changes, where they end, whether that is the end of the log and
//! as of which LSN, or that the shape goes on under another handle. So what clients are told is what the origin told, and
//! nothing is claimed that the origin did not claim a moment ago ([`Window`], [`Told`]).
//!
//! It decides and never waits: time comes in with every call, and what is to be done goes out as [`Effect`]s. Past
//! [`WAITERS_MAX`] clients the readers of a shape are spread over several hubs, which ask this one ([`Hub::shards`]).

pub mod spread;
pub mod told;
pub mod waiters;
pub mod window;

#[cfg(test)]
mod tests;

use crate::Offset;
pub use spread::Spread;
use std::sync::Arc;
pub use told::{Reply, Told};
pub use waiters::WaiterId;
use waiters::{Waiter, Waiters};
pub use window::{Part, Window};

/// Clients of one hub; past them, their readers are spread over more.
pub const WAITERS_MAX: usize = 500;
/// The hubs that the readers of one shape are spread over.
pub const SHARDS_MAX: u32 = 1_024;
/// By so much their number grows at a time: who came before stays where it is until its next request, so a crowd that
/// comes at once fills a hub once for each step.
const SPREAD: u32 = 4;

/// Clients of a shape that went on under another handle are told so within this time: all of them start anew.
const ROTATED_MS: u64 = 2_000;
/// For so long it is remembered that the handle is gone.
const GONE_MS: u64 = 60_000;
/// The origin's last word on the log's end counts for so long while nobody asks it again.
const FRESH_MS: u64 = 2_000;
/// The first pause before upstream is asked again after a failure; it doubles each time.
const PAUSE_MS: u64 = 500;
/// The longest.
const PAUSE_MS_MAX: u64 = 10_000;

/// A live request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The client has seen the log up to here.
    pub offset: Offset,
    /// It waits for this.
    pub wait: Wait,
    /// Over how many hubs the asking side spreads its requests.
    pub shards: u32,
    /// Any number, another one each time.
    pub random: u64,
}

/// The reply that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For one reply.
    Poll,
    /// For a stream of events.
    Events,
    /// For one reply, to hand it on: it is another hub.
    Hub,
}

/// An action of the hub's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask upstream for what comes behind this offset; [`Hub::handle_reply`] or [`Hub::handle_failure`] ends it.
    AskUpstream {
        /// The hub has seen the log up to here.
        offset: Offset,
        /// By a long poll; else by a request that is answered at once, which shows that upstream is back.
        live: bool,
    },
    /// Answer a poll, or end a stream that was sent nothing yet.
    Answer(WaiterId, Answer),
    /// Write to a stream.
    Write(WaiterId, Events),
    /// End a stream.
    End(WaiterId),
}

/// The bytes that a stream is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// Messages.
    Part(Arc<Part>),
    /// Nothing new.
    KeepAlive,
    /// The body of a reply of another status, such as a 409's.
    Reply(Arc<Reply>),
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By this part of the log.
    Part(Arc<Part>),
    /// As the origin did: 409.
    Reply(Arc<Reply>),
    /// By the origin itself, which is to be asked after so many milliseconds: the hub cannot tell.
    PassOn(u64),
    /// By a 503: the origin was not reached.
    Unavailable,
}

/// The hub of one shape, under one handle.
#[derive(Debug, Default)]
pub struct Hub {
    /// The log's end when upstream was last heard of.
    head: Option<Offset>,
    window: Window,
    /// The newest reply that said that nothing was left, and when.
    end: Option<(u64, Arc<Told>)>,
    /// The 409 that upstream told, and until when it is remembered.
    gone: Option<(u64, Arc<Reply>)>,
    upstream: Upstream,
    /// When upstream was last heard of.
    heard_ms: u64,
    waiters: Waiters,
    shards: u32,
    effects: Vec<Effect>,
}

/// The state of the request upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Upstream {
    /// Nobody waits, so nothing is asked.
    #[default]
    Idle,
    /// It was asked.
    Asked { at_ms: u64, failures: u32 },
    /// It failed, and is asked again at that time.
    Pausing { until_ms: u64, failures: u32 },
}

impl Hub {
    /// Somebody waits. What becomes of it is said by effects, at once or later, until [`Effect::Answer`] or
    /// [`Effect::End`].
    pub fn join(&mut self, now_ms: u64, ask: Ask) -> WaiterId {
        let id = self.waiters.name();
        self.shards = self.shards.max(ask.shards).min(SHARDS_MAX);
        self.forget_what_is_old(now_ms);
        if let Some((_, reply)) = &self.gone {
            self.effects.push(Effect::Answer(id, Answer::Reply(Arc::clone(reply))));
            return id;
        }
        let mut waiter = Waiter::new(id, now_ms, ask);
        let head = *self.head.get_or_insert(ask.offset);
        if ask.offset < head {
            let Some(part) = self.window.after(ask.offset).map(Arc::new) else {
                self.effects.push(Effect::Answer(id, Answer::PassOn(0)));
                return id;
            };
            if ask.wait != Wait::Events {
                self.effects.push(Effect::Answer(id, Answer::Part(part)));
                return id;
            }
            self.effects.push(Effect::Write(id, Events::Part(part)));
            waiter.offset = head;
        }
        if self.upstream.is_failing() {
            waiter.hurry(now_ms);
        }
        self.waiters.add(waiter);
        self.spread_out(ask.shards);
        self.ask_upstream(now_ms);
        id
    }

    /// Somebody does not wait any more.
    pub fn leave(&mut self, id: WaiterId) {
        self.waiters.remove(id);
    }

    /// Upstream has answered.
    pub fn handle_reply(&mut self, now_ms: u64, reply: Reply) {
        let Upstream::Asked { at_ms, .. } = self.upstream else { return };
        match reply.status {
            200 => match Told::parse(&reply).filter(|told| self.head.is_none_or(|head| head <= told.to)) {
                Some(told) => self.hear(now_ms, at_ms, Arc::new(told)),
                None => self.pass_all_on(),
            },
            409 => self.rotate(now_ms, reply),
            429 | 500..=599 => self.handle_failure(now_ms, reply.retry_after_s()),
            _ => self.pass_all_on(),
        }
    }

    /// Upstream has not answered, or asks to be left alone for some seconds.
    pub fn handle_failure(&mut self, now_ms: u64, retry_after_s: Option<u64>) {
        let Upstream::Asked { failures, .. } = self.upstream else { return };
        let pause_ms = (PAUSE_MS << failures.min(8)).max(retry_after_s.unwrap_or(0).saturating_mul(1_000));
        let until_ms = now_ms + pause_ms.min(PAUSE_MS_MAX);
        self.upstream = Upstream::Pausing { until_ms, failures: failures.saturating_add(1) };
        self.window.clear();
        self.waiters.for_each(|waiter| waiter.hurry(now_ms));
    }

    /// Time has come to [`next_due_ms`](Self::next_due_ms).
    pub fn tick(&mut self, now_ms: u64) {
        if let Upstream::Pausing { until_ms, failures } = self.upstream
            && until_ms <= now_ms
        {
            self.ask_again(now_ms, failures);
        }
        self.serve(|hub, waiter| waiter.due_ms > now_ms || hub.serve_due(now_ms, waiter));
    }

    /// When [`tick`](Self::tick) is due; nothing where nobody waits.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let upstream = match self.upstream {
            Upstream::Pausing { until_ms, .. } => Some(until_ms),
            Upstream::Idle | Upstream::Asked { .. } => None,
        };
        self.waiters.next_due_ms().into_iter().chain(upstream).min()
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Over how many hubs the shape's readers are to be spread; 0 and 1 are this one alone.
    #[must_use]
    pub const fn shards(&self) -> u32 {
        self.shards
    }

    /// The number of those who wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// While nobody waits nothing is asked, and what was told then says less each moment.
    fn forget_what_is_old(&mut self, now_ms: u64) {
        if self.gone.as_ref().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            self.gone = None;
        }
        if self.upstream == Upstream::Idle && now_ms.saturating_sub(self.heard_ms) > FRESH_MS {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.window.clear();
        (self.head, self.end) = (None, None);
    }

    /// Asks for more hubs where too many clients that are spread so came to this one. Those that were spread over fewer
    /// go elsewhere with their next request.
    fn spread_out(&mut self, shards: u32) {
        if self.waiters.len() > WAITERS_MAX && self.waiters.clients(shards) > WAITERS_MAX {
            self.shards = self.shards.max(shards.max(1).saturating_mul(SPREAD)).min(SHARDS_MAX);
        }
    }

    fn ask_upstream(&mut self, now_ms: u64) {
        if self.upstream == Upstream::Idle {
            self.ask_again(now_ms, 0);
        }
    }

    fn ask_again(&mut self, now_ms: u64, failures: u32) {
        let Some(offset) = self.head.filter(|_| !self.waiters.is_empty()) else {
            self.upstream = Upstream::Idle;
            return;
        };
        self.upstream = Upstream::Asked { at_ms: now_ms, failures };
        self.effects.push(Effect::AskUpstream { offset, live: failures == 0 });
    }

    /// Takes what upstream told, gives it to those who wait for it, and asks for more.
    fn hear(&mut self, now_ms: u64, asked_ms: u64, told: Arc<Told>) {
        let was_failing = self.upstream.is_failing();
        self.upstream = Upstream::Idle;
        self.heard_ms = now_ms;
        let from = self.head.unwrap_or(told.to);
        let moved = told.to != from || !told.messages.is_empty();
        if told.up_to_date.is_some() {
            self.end = Some((now_ms, Arc::clone(&told)));
            self.waiters
                .for_each(|waiter| waiter.due_ms = if waiter.is_overdue { now_ms } else { waiter.due_ms });
        }
        if moved {
            self.head = Some(told.to);
            self.window.push(from, told);
            self.release(now_ms);
        }
        self.tick(now_ms);
        // A server that neither waits nor tells anything is not asked without a pause.
        if !moved && !was_failing && now_ms.saturating_sub(asked_ms) < PAUSE_MS {
            self.upstream = Upstream::Pausing { until_ms: now_ms + PAUSE_MS, failures: 0 };
        } else {
            self.ask_upstream(now_ms);
        }
    }

    /// Looks at all who wait, and keeps those for whom `keeps` is true.
    fn serve(&mut self, mut keeps: impl FnMut(&mut Self, &mut Waiter) -> bool) {
        let mut waiters = std::mem::take(&mut self.waiters);
        waiters.retain(|waiter| keeps(self, waiter));
        self.waiters = waiters;
    }

    /// Gives everybody who is behind the head what they lack.
    fn release(&mut self, now_ms: u64) {
        let Some(head) = self.head else { return };
        // Most have seen the same.
        let mut last: Option<(Offset, Option<Arc<Part>>)> = None;
        self.serve(|hub, waiter| {
            if waiter.offset >= head {
                return true;
            }
            let part = match &last {
                Some((offset, part)) if *offset == waiter.offset => part.clone(),
                _ => {
                    let part = hub.window.after(waiter.offset).map(Arc::new);
                    last.insert((waiter.offset, part)).1.clone()
                }
            };
            let Some(part) = part else { return hub.let_go(waiter) };
            if waiter.wait != Wait::Events {
                return hub.answer(waiter, Answer::Part(part));
            }
            hub.effects.push(Effect::Write(waiter.id, Events::Part(part)));
            waiter.offset = head;
            waiter.was_written_to(now_ms);
            true
        });
    }

    /// Serves somebody whose time has come; true where they wait on.
    fn serve_due(&mut self, now_ms: u64, waiter: &mut Waiter) -> bool {
        if waiter.wait == Wait::Events {
            return self.serve_due_stream(now_ms, waiter);
        }
        if let Some(answer) = self.due_answer(now_ms, waiter) {
            return self.answer(waiter, answer);
        }
        (waiter.is_overdue, waiter.due_ms) = (true, waiter.last_ms());
        true
    }

    /// A long poll's answer once its time is over; nothing where the origin has yet to say that nothing has changed.
    fn due_answer(&self, now_ms: u64, waiter: &Waiter) -> Option<Answer> {
        if let Some((_, reply)) = &self.gone {
            return Some(Answer::Reply(Arc::clone(reply)));
        }
        match &self.end {
            Some((told_ms, end)) if *told_ms >= waiter.since_ms && !self.upstream.is_failing() => {
                let is_at_end = end.to == waiter.offset;
                Some(if is_at_end {
                    Answer::Part(Arc::new(Part::empty(Arc::clone(end))))
                } else {
                    Answer::PassOn(0)
                })
            }
            _ if self.upstream.is_failing() || now_ms >= waiter.last_ms() => Some(Answer::Unavailable),
            _ => None,
        }
    }

    fn serve_due_stream(&mut self, now_ms: u64, waiter: &mut Waiter) -> bool {
        if let Some((_, reply)) = &self.gone {
            self.effects.push(Effect::Write(waiter.id, Events::Reply(Arc::clone(reply))));
            return self.let_go(waiter);
        }
        if self.upstream.is_failing() || waiter.ends_ms <= now_ms {
            return self.let_go(waiter);
        }
        self.effects.push(Effect::Write(waiter.id, Events::KeepAlive));
        waiter.was_written_to(now_ms);
        true
    }

    /// The shape goes on under another handle: everybody is told so, not all of them at once.
    fn rotate(&mut self, now_ms: u64, reply: Reply) {
        self.forget();
        self.upstream = Upstream::Idle;
        self.gone = Some((now_ms + GONE_MS, Arc::new(reply)));
        self.waiters.for_each(|waiter| waiter.due_ms = now_ms + waiter.within(ROTATED_MS));
        self.tick(now_ms);
    }

    /// Upstream has said what the hub cannot pass on to others than those who would ask for it.
    fn pass_all_on(&mut self) {
        self.forget();
        self.upstream = Upstream::Idle;
        self.serve(|hub, waiter| hub.let_go(waiter));
    }

    /// The origin is to serve them: a poll at once, a stream when the client comes again.
    fn let_go(&mut self, waiter: &Waiter) -> bool {
        self.effects.push(match waiter.wait {
            Wait::Events => Effect::End(waiter.id),
            Wait::Poll | Wait::Hub => Effect::Answer(waiter.id, Answer::PassOn(waiter.within(PAUSE_MS))),
        });
        false
    }

    fn answer(&mut self, waiter: &Waiter, answer: Answer) -> bool {
        self.effects.push(Effect::Answer(waiter.id, answer));
        false
    }
}

impl Upstream {
    const fn is_failing(self) -> bool {
        match self {
            Self::Idle => false,
            Self::Asked { failures, .. } | Self::Pausing { failures, .. } => failures > 0,
        }
    }
}
