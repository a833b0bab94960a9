//! The classes of copies that the edge keeps, and the life of each: how long a copy answers, how long a stale one answers
//! while another is fetched, and how long it stands in for an origin that cannot be reached.
//!
//! Before it: the origin's [`cache`](super::cache) says what any cache may do with a reply. Behind it: the edge worker's
//! `serve`, whose cache knows of no such spans and keeps a copy together with its [`CopyLife`].

use super::cache_key::{EdgeRequest, RequestClass};
use super::header;
use crate::named_enum::named_enum;
use std::fmt;
use std::str::FromStr;

named_enum! {
    /// The kinds of copies, by their names in a [`CopyLife`].
    pub enum CopyClass {
        /// The reply to `offset=-1`: the current handle, and the first rows.
        Pointer = "pointer",
        /// A chunk of a log that changes no more.
        Closed = "closed",
        /// The end of a log.
        Head = "head",
        /// The reply to `offset=now`.
        Now = "now",
        /// A 409 that names the successor.
        MustRefetch = "must-refetch",
        /// A 400 or a 404.
        Refused = "refused",
    }
}

/// A line of the table: the bounds of a class's spans, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRule {
    /// Of which class.
    pub class: CopyClass,
    /// A copy is fresh as long as the origin says, between these two.
    pub fresh_s: (u32, u32),
    /// The same where the origin does not say.
    pub unsaid_fresh_s: u32,
    /// Beyond that it answers while another is fetched, for as long as the origin says and at most this.
    pub while_fetched_s: u32,
    /// Beyond its freshness it answers in place of an origin that cannot be reached, likewise; [`FOREVER_S`] whatever the
    /// origin says.
    pub without_origin_s: u32,
}

/// A span without an end.
pub const FOREVER_S: u32 = u32::MAX;

/// The longest that a copy is asked to lie in a cache: longer than any cache keeps it.
const LONGEST_KEPT_S: u32 = 10 * 365 * DAY_S;
const DAY_S: u32 = 24 * 60 * 60;

const fn rule(class: CopyClass, fresh_s: (u32, u32), unsaid_fresh_s: u32, stale_s: (u32, u32)) -> CopyRule {
    CopyRule { class, fresh_s, unsaid_fresh_s, while_fetched_s: stale_s.0, without_origin_s: stale_s.1 }
}

/// All classes. `docs/edge.md` shows the same table.
pub const RULES: [CopyRule; 6] = [
    rule(CopyClass::Pointer, (1, 3_600), 5, (3_600, 3_600)),
    rule(CopyClass::Closed, (1, 365 * DAY_S), 365 * DAY_S, (0, FOREVER_S)),
    rule(CopyClass::Head, (1, 5), 1, (5, 60)),
    rule(CopyClass::Now, (1, 1), 1, (0, 0)),
    rule(CopyClass::MustRefetch, (10, 60), 10, (0, 0)),
    rule(CopyClass::Refused, (2, 2), 2, (0, 0)),
];

/// When a copy was made, and for how long it is of which use.
///
/// As text it is `class stored_ms fresh_s while_fetched_s without_origin_s`, the times in milliseconds since 1970 and in
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLife {
    /// The copy's class.
    pub class: CopyClass,
    /// When the reply came from the origin, in milliseconds since 1970.
    pub stored_ms: u64,
    /// For how long it is as good as a new one.
    pub fresh_s: u32,
    /// For how long after that it answers while another is fetched.
    pub while_fetched_s: u32,
    /// For how long after its freshness it answers in place of an origin that cannot be reached.
    pub without_origin_s: u32,
}

/// What a copy is good for at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It answers.
    Fresh,
    /// It answers, and another one is to be fetched behind the reply.
    WhileFetched,
    /// It answers only where the origin cannot be reached.
    WithoutOrigin,
    /// Nothing.
    Expired,
}

/// Why the origin's reply is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There was none, or something between here and there answered in its place.
    Unreachable,
    /// The origin itself says that it cannot answer now.
    Unavailable,
}

impl CopyClass {
    /// The spans of this class.
    #[must_use]
    pub fn rule(self) -> CopyRule {
        let spans = rule(self, (0, 0), 0, (0, 0));
        RULES.into_iter().find(|rule| rule.class == self).unwrap_or(spans)
    }

    /// The class of a reply; nothing where it may not be kept.
    ///
    /// Only a reply of the requested handle is kept, so that nobody who may read one shape plants its rows under
    /// another's name; and nothing that leads back to the handle that the client knows to be dead.
    #[must_use]
    pub fn of(request: &EdgeRequest, status: u16, reply: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if reply("set-cookie").is_some() {
            return None;
        }
        let handle = reply(header::HANDLE);
        let leads_on = handle.is_some() && handle.as_deref() != request.expired_handle();
        let is_requested = handle.is_some() && handle.as_deref() == request.handle();
        match (status, request.class()) {
            (200, RequestClass::Pointer) => leads_on.then_some(Self::Pointer),
            (200, RequestClass::Now) => leads_on.then_some(Self::Now),
            (200, RequestClass::Log) if !is_requested => None,
            (200, RequestClass::Log) if reply(header::CHUNK).as_deref() == Some(header::CHUNK_CLOSED) => {
                Some(Self::Closed)
            }
            (200, RequestClass::Log) => reply(header::UP_TO_DATE).map(|_| Self::Head),
            (409, RequestClass::Log) => (leads_on && !is_requested).then_some(Self::MustRefetch),
            // What a gateway says, in place of the origin, is kept for nobody.
            (400 | 404, _) => reply(header::SERVER).map(|_| Self::Refused),
            _ => None,
        }
    }
}

impl CopyLife {
    /// The life of a reply's copy; nothing where the reply may not be kept.
    #[must_use]
    pub fn of(
        request: &EdgeRequest,
        status: u16,
        reply: impl Fn(&str) -> Option<String>,
        now_ms: u64,
    ) -> Option<Self> {
        let rule = CopyClass::of(request, status, &reply)?.rule();
        let life = |fresh_s, while_fetched_s, without_origin_s| Self {
            class: rule.class,
            stored_ms: now_ms,
            fresh_s,
            while_fetched_s,
            without_origin_s,
        };
        if rule.class == CopyClass::Refused {
            // The origin's `no-store` is for caches that cannot tell a refusal from a failure.
            return Some(life(rule.unsaid_fresh_s, 0, 0));
        }
        let policy = reply(header::CLOUDFLARE_CACHE_CONTROL);
        if policy.as_deref().or(reply(header::CACHE_CONTROL).as_deref()).is_some_and(forbids_storing) {
            return None;
        }
        let policy = policy.as_deref();
        let fresh_s = match policy.and_then(max_age_s) {
            Some(0) => return None,
            Some(fresh_s) => fresh_s.clamp(rule.fresh_s.0, rule.fresh_s.1),
            None => rule.unsaid_fresh_s,
        };
        // A first reply that says up-to-date is stale as the end of a log is.
        let ends = rule.class == CopyClass::Pointer && reply(header::UP_TO_DATE).is_some();
        let most = if ends { CopyClass::Head.rule() } else { rule };
        let said_s = |name| policy.map_or(FOREVER_S, |policy| span_s(policy, name).unwrap_or(0));
        let without_origin_s = match most.without_origin_s {
            FOREVER_S => FOREVER_S,
            most_s => said_s("stale-if-error").min(most_s),
        };
        // A client that has seen all there was asks for nothing but the newest LSN. Clients that publish several shapes
        // as one wait for it: a copy's would hold them back until a live request ends.
        let told = reply(header::OFFSET).and_then(|told| told.parse().ok());
        if rule.class == CopyClass::Head && told.is_some() && told == request.offset() {
            return Some(life(0, 0, without_origin_s));
        }
        Some(life(fresh_s, said_s("stale-while-revalidate").min(most.while_fetched_s), without_origin_s))
    }

    /// What the copy is good for.
    #[must_use]
    pub fn freshness(&self, now_ms: u64) -> Freshness {
        let left_s = self.left_s(now_ms);
        let over_s = left_s.unsigned_abs();
        match left_s {
            1.. => Freshness::Fresh,
            _ if over_s < u64::from(self.while_fetched_s) => Freshness::WhileFetched,
            _ if self.without_origin_s == FOREVER_S || over_s < u64::from(self.without_origin_s) => {
                Freshness::WithoutOrigin
            }
            _ => Freshness::Expired,
        }
    }

    /// For how many seconds it is fresh yet; of a stale copy less than one.
    #[must_use]
    pub fn left_s(&self, now_ms: u64) -> i64 {
        // A clock that stands behind the one that stored it says nothing of the copy's age.
        let age_s = now_ms.saturating_sub(self.stored_ms) / 1_000;
        i64::from(self.fresh_s).saturating_sub(i64::try_from(age_s).unwrap_or(i64::MAX))
    }

    /// Whether the copy answers in place of an origin that failed so. An origin that can be asked is believed: where it
    /// does not say up-to-date, no copy does.
    #[must_use]
    pub fn stands_in(&self, failure: Failure, says_up_to_date: bool, now_ms: u64) -> bool {
        self.freshness(now_ms) != Freshness::Expired && (failure == Failure::Unreachable || !says_up_to_date)
    }

    /// For how many seconds a cache has to keep the copy.
    #[must_use]
    pub fn kept_s(&self) -> u32 {
        let stale_s = self.while_fetched_s.max(self.without_origin_s);
        self.fresh_s.saturating_add(stale_s).min(LONGEST_KEPT_S)
    }
}

impl fmt::Display for CopyLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, stored_ms, fresh_s, while_fetched_s, without_origin_s } = self;
        write!(f, "{} {stored_ms} {fresh_s} {while_fetched_s} {without_origin_s}", class.as_str())
    }
}

/// A text that no [`CopyLife`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCopyLife;

impl FromStr for CopyLife {
    type Err = NoCopyLife;

    fn from_str(text: &str) -> Result<Self, NoCopyLife> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(NoCopyLife);
        let name = word()?;
        let class = CopyClass::ALL.iter().copied().find(|class| class.as_str() == name).ok_or(NoCopyLife)?;
        let stored_ms = word()?.parse().map_err(|_| NoCopyLife)?;
        let mut span_s = || word()?.parse().map_err(|_| NoCopyLife);
        let (fresh_s, while_fetched_s, without_origin_s) = (span_s()?, span_s()?, span_s()?);
        let life = Self { class, stored_ms, fresh_s, while_fetched_s, without_origin_s };
        words.next().map_or(Ok(life), |_| Err(NoCopyLife))
    }
}

fn forbids_storing(policy: &str) -> bool {
    directives(policy).any(|(name, _)| ["no-store", "private", "no-cache"].contains(&name))
}

fn max_age_s(policy: &str) -> Option<u32> {
    span_s(policy, "s-maxage").or_else(|| span_s(policy, "max-age"))
}

fn span_s(policy: &str, wanted: &str) -> Option<u32> {
    directives(policy).find(|(name, _)| *name == wanted)?.1.parse().ok()
}

fn directives(policy: &str) -> impl Iterator<Item = (&str, &str)> {
    policy.split(',').map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        (name.trim(), value.trim())
    })
}

#[cfg(test)]
mod tests;
