//! The hub between a model of an origin and many clients, under a clock that the tests move.

use super::waiters::{EVENTS_MS, PATIENCE_MS, POLL_MS, POLL_MS_MAX};
use super::*;
use crate::protocol::header;
use crate::protocol::message::MUST_REFETCH_BODY;
use std::collections::BTreeMap;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The origin holds a long poll without changes for so long.
const HOLD_MS: u64 = 20_000;

fn at(tx: u64) -> Offset {
    Offset::new(tx, 0)
}

fn ask(offset: u64, wait: Wait) -> Ask {
    Ask { offset: at(offset), wait, shards: 1, random: 0 }
}

/// The origin's answer to a request at `from`, where its log ends at `to`.
fn reply(from: u64, to: u64) -> Reply {
    let change = |tx| format!(r#"{{"headers":{{"operation":"insert","lsn":"{tx}","op_position":0}}}}"#);
    let end = r#"{"headers":{"control":"up-to-date","global_last_seen_lsn":"1"}}"#.to_owned();
    let messages: Vec<String> = (from + 1..=to).map(change).chain([end]).collect();
    let headers = vec![(header::OFFSET.to_owned(), at(to).to_string())];
    Reply { status: 200, headers, body: format!("[{}]", messages.join(",")).into_bytes() }
}

fn status(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: MUST_REFETCH_BODY.into() }
}

/// The changes of a part.
fn changes(part: &Part) -> Vec<u64> {
    let lsn = |json: &Arc<[u8]>| {
        let message: serde_json::Value = serde_json::from_slice(json).unwrap();
        message["headers"]["lsn"].as_str().unwrap().parse().unwrap()
    };
    part.messages.iter().map(lsn).collect()
}

fn asked(hub: &mut Hub) -> Vec<(Offset, bool)> {
    let asked = |effect| match effect {
        Effect::AskUpstream { offset, live } => Some((offset, live)),
        _ => None,
    };
    hub.take_effects().into_iter().filter_map(asked).collect()
}

/// The answer to each of those who were answered.
fn answered(hub: &mut Hub) -> BTreeMap<WaiterId, Answer> {
    let answer = |effect| match effect {
        Effect::Answer(id, answer) => Some((id, answer)),
        _ => None,
    };
    hub.take_effects().into_iter().filter_map(answer).collect()
}

fn told(answer: Option<&Answer>) -> Option<Vec<u64>> {
    match answer {
        Some(Answer::Part(part)) => Some(changes(part)),
        _ => None,
    }
}

#[test]
fn however_many_wait_one_request_is_upstream() {
    let mut hub = Hub::default();
    let ids: Vec<_> = (0..400).map(|_| hub.join(0, ask(5, Wait::Poll))).collect();
    assert_eq!(asked(&mut hub), [(at(5), true)]);
    hub.handle_reply(1_000, reply(5, 7));
    let answers = answered(&mut hub);
    assert!(ids.iter().all(|id| told(answers.get(id)) == Some(vec![6, 7])));
    assert_eq!((answers.len(), hub.waiting()), (400, 0));
}

#[test]
fn who_is_behind_is_told_at_once_and_who_is_ahead_waits() {
    let mut hub = Hub::default();
    hub.join(0, ask(5, Wait::Poll));
    hub.handle_reply(10, reply(5, 7));
    hub.take_effects();
    let first = hub.join(20, ask(7, Wait::Poll));
    assert_eq!(asked(&mut hub), [(at(7), true)]);
    let behind = hub.join(30, ask(6, Wait::Poll));
    let ahead = hub.join(30, ask(9, Wait::Poll));
    let lost = hub.join(30, ask(2, Wait::Poll));
    let answers = answered(&mut hub);
    assert_eq!(told(answers.get(&behind)), Some(vec![7]));
    assert_eq!(answers.get(&lost), Some(&Answer::PassOn(0)));
    hub.handle_reply(40, reply(7, 10));
    let answers = answered(&mut hub);
    assert_eq!(told(answers.get(&first)), Some(vec![8, 9, 10]));
    assert_eq!(told(answers.get(&ahead)), Some(vec![10]));
}

#[test]
fn a_poll_without_changes_ends_by_what_the_origin_said_after_it_came() {
    let mut hub = Hub::default();
    let early = hub.join(0, ask(5, Wait::Poll));
    hub.join(15_000, ask(5, Wait::Poll));
    hub.handle_reply(HOLD_MS, reply(5, 5));
    // The first has waited for its time; the other has not, and the origin is asked again.
    let effects = hub.take_effects();
    assert!(matches!(effects.first(), Some(Effect::AskUpstream { .. })), "{effects:?}");
    let Some(Effect::Answer(id, Answer::Part(part))) = effects.get(1) else { panic!("{effects:?}") };
    assert_eq!((*id, part.messages.len(), part.last.up_to_date.is_some()), (early, 0, true));
    assert_eq!(hub.waiting(), 1);
    // Somebody who came behind that word waits for the next one, past the end of its own time.
    let late = hub.join(HOLD_MS + 1, ask(5, Wait::Poll));
    hub.tick(HOLD_MS + 1 + POLL_MS);
    assert!(!answered(&mut hub).contains_key(&late));
    hub.handle_reply(HOLD_MS + 2 + POLL_MS, reply(5, 5));
    assert_eq!(told(answered(&mut hub).get(&late)), Some(vec![]));
}

#[test]
fn nothing_is_claimed_while_the_origin_is_silent() {
    let mut hub = Hub::default();
    let id = hub.join(0, ask(5, Wait::Poll));
    for now_ms in (0..POLL_MS_MAX).step_by(1_000) {
        hub.tick(now_ms);
    }
    assert!(answered(&mut hub).is_empty());
    hub.tick(POLL_MS_MAX);
    assert_eq!(answered(&mut hub).get(&id), Some(&Answer::Unavailable));
    assert_eq!(hub.next_due_ms(), None);
}

#[test]
fn an_origin_that_comes_back_in_time_is_not_missed() {
    let mut hub = Hub::default();
    let id = hub.join(0, ask(5, Wait::Poll));
    hub.handle_failure(100, None);
    hub.take_effects();
    let due_ms = hub.next_due_ms().unwrap();
    assert!(due_ms < PATIENCE_MS, "{due_ms}");
    hub.tick(due_ms);
    assert_eq!(asked(&mut hub), [(at(5), false)]);
    // It answers at once, so the next request waits again, and so do the clients.
    hub.handle_reply(due_ms + 5, reply(5, 5));
    assert_eq!(asked(&mut hub), [(at(5), true)]);
    hub.handle_reply(due_ms + 50, reply(5, 6));
    assert_eq!(told(answered(&mut hub).get(&id)), Some(vec![6]));
}

#[test]
fn while_the_origin_is_away_clients_are_told_within_seconds() {
    let mut hub = Hub::default();
    let mut now_ms = 0;
    let id = hub.join(now_ms, Ask { random: 4_999, ..ask(5, Wait::Poll) });
    hub.join(now_ms, ask(5, Wait::Events));
    let mut requests = 0;
    while hub.waiting() > 0 {
        for effect in hub.take_effects() {
            match effect {
                Effect::AskUpstream { .. } => {
                    requests += 1;
                    hub.handle_failure(now_ms, None);
                }
                Effect::Answer(answered, answer) => assert_eq!((answered, answer), (id, Answer::Unavailable)),
                Effect::Write(..) => panic!("nothing is known"),
                Effect::End(_) => {}
            }
        }
        now_ms = hub.next_due_ms().map_or(now_ms, |due_ms| due_ms.max(now_ms));
        hub.tick(now_ms);
    }
    assert!(now_ms <= PATIENCE_MS + PATIENCE_MS / 5 && requests < 8, "{now_ms} ms, {requests} requests");
}

#[test]
fn a_server_that_asks_for_patience_gets_it() {
    let mut hub = Hub::default();
    hub.join(0, ask(5, Wait::Poll));
    hub.join(0, Ask { random: 4_000, ..ask(5, Wait::Poll) });
    let mut busy = status(503);
    busy.headers.push((header::RETRY_AFTER.to_owned(), "3".to_owned()));
    hub.handle_reply(0, busy);
    hub.take_effects();
    hub.tick(2_900);
    assert_eq!(asked(&mut hub), []);
    hub.tick(3_000);
    assert_eq!(asked(&mut hub), [(at(5), false)]);
    // For as long as it likes it does not get it.
    hub.handle_failure(3_000, Some(3_600));
    hub.join(3_001, Ask { random: 4_999, ..ask(5, Wait::Poll) });
    assert_eq!(hub.upstream, Upstream::Pausing { until_ms: 3_000 + PAUSE_MS_MAX, failures: 2 });
}

#[test]
fn the_number_of_hubs_is_bounded() {
    let mut hub = Hub::default();
    hub.join(0, Ask { shards: u32::MAX, ..ask(5, Wait::Poll) });
    (0..=WAITERS_MAX).for_each(|_| {
        hub.join(0, Ask { shards: SHARDS_MAX, ..ask(5, Wait::Poll) });
    });
    assert_eq!(hub.shards(), SHARDS_MAX);
}

#[test]
fn all_are_told_of_the_next_handle_within_two_seconds() {
    let mut hub = Hub::default();
    for random in 0..400 {
        hub.join(0, Ask { random: random * 5, ..ask(5, Wait::Poll) });
    }
    hub.join(0, ask(5, Wait::Events));
    hub.handle_reply(1_000, status(409));
    let mut told = 0;
    for now_ms in (1_000..=3_000).step_by(100) {
        hub.tick(now_ms);
        for effect in hub.take_effects() {
            match effect {
                Effect::Answer(_, Answer::Reply(reply)) | Effect::Write(_, Events::Reply(reply)) => {
                    assert_eq!(reply.status, 409);
                    told += 1;
                }
                Effect::End(_) | Effect::AskUpstream { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(now_ms > 1_000 || told < 100, "{told} at once");
    }
    assert_eq!((told, hub.waiting()), (401, 0));
    // Who comes later is told without a question; a minute later the origin is asked again.
    let late = hub.join(30_000, ask(5, Wait::Poll));
    assert!(matches!(answered(&mut hub).get(&late), Some(Answer::Reply(_))));
    hub.join(90_000, ask(5, Wait::Poll));
    assert_eq!(asked(&mut hub), [(at(5), true)]);
}

#[test]
fn what_only_the_origin_can_answer_is_passed_on() {
    let mut hub = Hub::default();
    let poll = hub.join(0, ask(5, Wait::Poll));
    let stream = hub.join(0, ask(5, Wait::Events));
    hub.handle_reply(10, status(400));
    let effects = hub.take_effects();
    assert!(effects.contains(&Effect::Answer(poll, Answer::PassOn(0))), "{effects:?}");
    assert!(effects.contains(&Effect::End(stream)), "{effects:?}");
    // A body that is none, and a log that ends before what was seen.
    for reply in [Reply { body: b"[{".into(), ..reply(5, 6) }, reply(2, 3)] {
        let id = hub.join(20_000, ask(5, Wait::Poll));
        hub.handle_reply(20_000, reply);
        assert_eq!(answered(&mut hub).get(&id), Some(&Answer::PassOn(0)));
    }
}

#[test]
fn nobody_is_asked_for_nobody() {
    let mut hub = Hub::default();
    let id = hub.join(0, ask(5, Wait::Poll));
    hub.take_effects();
    hub.leave(id);
    hub.handle_reply(HOLD_MS, reply(5, 5));
    assert_eq!(asked(&mut hub), []);
    assert_eq!(hub.next_due_ms(), None);
    // A while later that word is not served.
    hub.join(HOLD_MS + FRESH_MS + 1, ask(4, Wait::Poll));
    assert_eq!(asked(&mut hub), [(at(4), true)]);
}

#[test]
fn a_server_that_answers_at_once_and_says_nothing_is_asked_slowly() {
    let mut hub = Hub::default();
    hub.join(0, ask(5, Wait::Poll));
    hub.take_effects();
    hub.handle_reply(1, reply(5, 5));
    assert_eq!((asked(&mut hub), hub.next_due_ms()), (vec![], Some(1 + PAUSE_MS)));
}

#[test]
fn streams_are_told_each_change_once_and_kept_open() {
    let mut hub = Hub::default();
    hub.join(0, ask(5, Wait::Poll));
    hub.handle_reply(10, reply(5, 7));
    hub.take_effects();
    let behind = hub.join(20, ask(6, Wait::Events));
    let mut seen = Vec::new();
    let mut signs = 0;
    let mut now_ms = 20;
    let mut to = 7;
    loop {
        let effects = hub.take_effects();
        if effects.contains(&Effect::End(behind)) {
            break;
        }
        for effect in effects {
            match effect {
                Effect::Write(_, Events::Part(part)) => seen.extend(changes(&part)),
                Effect::Write(_, Events::KeepAlive) => signs += 1,
                Effect::AskUpstream { offset, .. } => {
                    assert_eq!(offset, at(to));
                    now_ms += HOLD_MS;
                    hub.tick(now_ms);
                    let change = u64::from(to < 12);
                    hub.handle_reply(now_ms, reply(to, to + change));
                    to += change;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen, [7, 8, 9, 10, 11, 12]);
    assert!(signs > 30 && now_ms >= EVENTS_MS, "{signs} signs of life in {now_ms} ms");
}

/// A hub with what it asks: the origin for the first, the first for all others.
struct Tree {
    hubs: Vec<Hub>,
    /// Who waits at the first hub, by the hub behind.
    asked: BTreeMap<WaiterId, usize>,
    answered: usize,
    origin_asked: Option<(u64, u64)>,
    log_end: u64,
}

impl Tree {
    /// Carries out what all hubs want, until they want nothing more.
    fn settle(&mut self, now_ms: u64) {
        let mut work: Vec<usize> = (0..self.hubs.len()).collect();
        while let Some(index) = work.pop() {
            for effect in self.hubs[index].take_effects() {
                match effect {
                    Effect::AskUpstream { offset, .. } if index == 0 => {
                        let Offset::At { tx, .. } = offset else { panic!("{offset}") };
                        assert_eq!(
                            self.origin_asked.replace((now_ms, tx)),
                            None,
                            "two requests at the origin"
                        );
                    }
                    Effect::AskUpstream { offset, .. } => {
                        let ask = Ask {
                            offset,
                            wait: Wait::Hub,
                            shards: self.hubs[index].shards(),
                            random: now_ms,
                        };
                        let id = self.hubs[0].join(now_ms, ask);
                        self.asked.insert(id, index);
                        work.push(0);
                    }
                    Effect::Answer(id, answer) => {
                        let Answer::Part(part) = answer else { panic!("{answer:?}") };
                        match (index == 0).then(|| self.asked.remove(&id)).flatten() {
                            Some(below) => {
                                let headers = vec![(header::OFFSET.to_owned(), part.last.to.to_string())];
                                let reply = Reply { status: 200, headers, body: part.body() };
                                self.hubs[below].handle_reply(now_ms, reply);
                                work.push(below);
                            }
                            None => self.answered += 1,
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// The origin answers what it was asked.
    fn origin_answers(&mut self, now_ms: u64) {
        let Some((_, from)) = self.origin_asked.take() else { return };
        self.hubs[0].handle_reply(now_ms, reply(from, self.log_end));
        self.settle(now_ms);
    }
}

#[test]
fn readers_of_one_shape_are_spread_over_hubs_that_ask_one() {
    let readers: usize = if cfg!(target_arch = "wasm32") { 5_000 } else { 100_000 };
    let mut tree = Tree {
        hubs: vec![Hub::default()],
        asked: BTreeMap::new(),
        answered: 0,
        origin_asked: None,
        log_end: 5,
    };
    // As a worker does, it starts with the first hub, and follows what replies say of their number.
    let mut shards = 1;
    for reader in 0..readers {
        let index = if shards <= 1 { 0 } else { 1 + reader % shards as usize };
        while tree.hubs.len() <= index {
            tree.hubs.push(Hub::default());
        }
        tree.hubs[index].join(0, Ask { shards, random: reader as u64 * 7, ..ask(5, Wait::Poll) });
        shards = shards.max(tree.hubs[index].shards());
    }
    tree.settle(0);
    let fullest = tree.hubs.iter().map(Hub::waiting).max().unwrap();
    assert!(fullest <= 5 * WAITERS_MAX, "{fullest} readers of one hub, of {}", tree.hubs.len());
    assert!(tree.hubs.len() <= 2 + 4 * readers.div_ceil(WAITERS_MAX), "{} hubs", tree.hubs.len());
    // Two silent polls and a change: all are answered, by one request at a time.
    for (now_ms, log_end) in [(HOLD_MS, 5), (HOLD_MS + 10, 6)] {
        tree.log_end = log_end;
        (0..tree.hubs.len()).for_each(|index| tree.hubs[index].tick(now_ms));
        tree.settle(now_ms);
        tree.origin_answers(now_ms);
    }
    assert_eq!(tree.answered, readers);
    assert!(tree.hubs.iter().all(|hub| hub.waiting() <= tree.hubs.len()));
}
