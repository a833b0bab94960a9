//! A request for which there may be a copy: answered by it, or by the origin, whose reply becomes the next copy. Bodies
//! stay streams of the platform and are not read here.

use crate::answer::{self, Answer, Caller};
use crate::cache;
use crate::hub::{self, Missed};
use crate::isolate::{self, Flight};
use crate::origin::{self, Trouble};
use crate::plan::Forward;
use crate::replies::{headers_of, made, rebuilt, value};
use crate::timing::{Timing, now_ms};
use limn_core::edge::TokenError;
use limn_core::protocol::cached_reply::{
    self, CacheStatus, HeaderList, accepts_cached, may_serve, served_headers, stored_headers, stored_life,
};
use limn_core::protocol::copy_class::{CopyLife, Failure, Freshness};
use limn_core::protocol::header;
use std::time::Duration;
use worker::web_sys::ReadableStream;
use worker::{Context, Delay, Env, Request, Response, ResponseBody, Result};

/// For how long a request waits for what another one fetches.
const COLLAPSED_MS: u64 = 5_000;
/// How soon it looks again: at first, and at most.
const LOOK_MS: (u64, u64) = (4, 64);

/// A copy and what it says of itself.
struct Found {
    copy: Response,
    stored: HeaderList,
    status: u16,
    life: CopyLife,
}

/// What lies where the copy would be.
enum Look {
    Found(Box<Found>),
    /// A copy that this client has outlived.
    Outdated,
    Nothing,
}

/// Why the origin is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Miss,
    Stale,
    /// The client refuses what is stored.
    Refused,
}

/// Answers from the copy where there is one that fits, else from the origin.
pub async fn serve(
    caller: &Caller,
    forward: &Forward,
    request: &Request,
    (env, context): (&Env, &Context),
    timing: &Timing,
) -> Result<Response> {
    if let Some(key) = &forward.hub_key
        && let Some(reply) = from_hub(caller, forward, key, (env, context), timing).await
    {
        return reply;
    }
    let Some(copy_url) = &forward.copy_url else {
        return relay(caller, forward, request, context, timing).await;
    };
    let mut stand_in: Option<Box<Found>> = None;
    let mut why = Why::Refused;
    if accepts_cached(&forward.request) {
        let began_ms = now_ms();
        let looked = look(forward, copy_url).await;
        timing.looked(began_ms);
        why = match looked {
            Look::Found(found) => match found.life.freshness(now_ms()) {
                Freshness::Fresh => return serve_hit(caller, *found),
                Freshness::WhileFetched => {
                    if let Some(flight) = Flight::begin(copy_url) {
                        context.wait_until(fetch(forward.clone(), flight, Why::Stale));
                    }
                    return serve_hit(caller, *found);
                }
                Freshness::WithoutOrigin | Freshness::Expired => {
                    stand_in = Some(found);
                    Why::Stale
                }
            },
            Look::Outdated => Why::Refused,
            Look::Nothing => Why::Miss,
        };
        // A copy that is never fresh is of no use to those who would wait for it.
        let is_ever_fresh = stand_in.as_ref().is_none_or(|found| found.life.fresh_s > 0);
        if is_ever_fresh
            && Flight::is_under_way(copy_url)
            && let Some(found) = landed(forward, copy_url).await
        {
            return serve_copy(caller, *found, CacheStatus::Collapsed);
        }
    }
    let flight = Flight::begin(copy_url);
    match ask(forward, None, timing).await {
        Ok(reply) => {
            let headers = headers_of(&reply);
            if says_unavailable(reply.status_code(), &headers)
                && let Some(found) = standing_in(stand_in, Failure::Unavailable)
            {
                return serve_stale(caller, *found);
            }
            after_refetch(forward, &reply, &headers, context);
            let (reply, stored) = keep(forward, reply, &headers, flight, why, context)?;
            respond(caller, reply, &headers, status_of(why, stored))
        }
        Err(trouble) => match standing_in(stand_in, Failure::Unreachable) {
            Some(found) => serve_stale(caller, *found),
            None => not_reached(caller, forward, &trouble, status_of(why, false)),
        },
    }
}

/// The reply of the shape's hub; nothing where the origin is to be asked.
async fn from_hub(
    caller: &Caller,
    forward: &Forward,
    key: &str,
    (env, context): (&Env, &Context),
    timing: &Timing,
) -> Option<Result<Response>> {
    let began_ms = now_ms();
    let asked = hub::ask(env, key, forward).await;
    timing.asked(began_ms);
    Some(match asked {
        Ok(reply) if answer::means_unreachable(reply.status_code()) => {
            not_reached(caller, forward, &Trouble::Gateway(reply.status_code()), CacheStatus::Hub)
        }
        Ok(reply) => {
            let headers = headers_of(&reply);
            after_refetch(forward, &reply, &headers, context);
            respond(caller, reply, &headers, CacheStatus::Hub)
        }
        Err(Missed::TokenEnded(error)) => {
            not_reached(caller, forward, &Trouble::Failed(error), CacheStatus::Hub)
        }
        Err(Missed::PassedOn) => return None,
    })
}

/// Passes a request on and its reply back.
async fn relay(
    caller: &Caller,
    forward: &Forward,
    request: &Request,
    context: &Context,
    timing: &Timing,
) -> Result<Response> {
    match ask(forward, request.inner().body(), timing).await {
        Ok(reply) => {
            let headers = headers_of(&reply);
            after_refetch(forward, &reply, &headers, context);
            respond(caller, reply, &headers, CacheStatus::Bypass)
        }
        Err(trouble) => not_reached(caller, forward, &trouble, CacheStatus::Bypass),
    }
}

async fn ask(
    forward: &Forward,
    body: Option<ReadableStream>,
    timing: &Timing,
) -> std::result::Result<Response, Trouble> {
    let began_ms = now_ms();
    let asked = origin::ask(forward, body).await;
    timing.asked(began_ms);
    asked
}

async fn look(forward: &Forward, copy_url: &str) -> Look {
    let Some(copy) = cache::find(copy_url).await else { return Look::Nothing };
    let stored = headers_of(&copy);
    let Some((status, life)) = stored_life(&stored) else { return Look::Nothing };
    if !may_serve(&forward.request, life.class, value(&stored, header::HANDLE)) {
        return Look::Outdated;
    }
    Look::Found(Box::new(Found { copy, stored, status, life }))
}

/// What somebody else's request has fetched; nothing where that takes too long or is of no use here.
///
/// The wait is this request's own timer, since a request that wakes another one does the other's work in its own name,
/// which the platform forbids.
async fn landed(forward: &Forward, copy_url: &str) -> Option<Box<Found>> {
    let began_ms = now_ms();
    let mut look_ms = LOOK_MS.0;
    while Flight::is_under_way(copy_url) {
        if now_ms().saturating_sub(began_ms) > COLLAPSED_MS {
            return None;
        }
        Delay::from(Duration::from_millis(look_ms)).await;
        look_ms = look_ms.saturating_mul(2).min(LOOK_MS.1);
    }
    match look(forward, copy_url).await {
        Look::Found(found) if found.life.freshness(now_ms()) == Freshness::Fresh => Some(found),
        _ => None,
    }
}

/// Makes the reply the next copy, where it may be kept, once it has gone by. The flight ends then.
fn keep(
    forward: &Forward,
    mut reply: Response,
    headers: &HeaderList,
    flight: Option<Flight>,
    why: Why,
    context: &Context,
) -> Result<(Response, bool)> {
    let Some((copy_url, life)) = forward.copy_url.as_ref().zip(life_of(forward, &reply, headers)) else {
        return Ok((reply, false));
    };
    if !isolate::has_cache() {
        return Ok((reply, false));
    }
    let (_, body) = reply.cloned()?.into_parts();
    let stored = stored_headers(reply.status_code(), headers, &life);
    let kept = store(copy_url.clone(), life, stored, body, why);
    context.wait_until(async move {
        kept.await;
        drop(flight);
    });
    Ok((reply, true))
}

fn life_of(forward: &Forward, reply: &Response, headers: &HeaderList) -> Option<CopyLife> {
    let header = |name: &str| value(headers, name).map(str::to_owned);
    CopyLife::of(&forward.request, reply.status_code(), header, now_ms())
}

async fn store(copy_url: String, life: CopyLife, stored: HeaderList, body: ResponseBody, why: Why) {
    // A client that refused the copy has it replaced, whatever it says.
    let class = (why != Why::Refused).then_some(life.class);
    cache::keep(&copy_url, class, stored, body).await;
}

/// Fetches a new copy behind a reply.
async fn fetch(forward: Forward, flight: Flight, why: Why) {
    let Some(copy_url) = forward.copy_url.clone() else { return };
    let reply = match origin::ask(&forward, None).await {
        Ok(reply) => reply,
        Err(trouble) => return worker::console_warn!("a copy was not fetched anew: {trouble}"),
    };
    let headers = headers_of(&reply);
    if let Some(life) = life_of(&forward, &reply, &headers) {
        let stored = stored_headers(reply.status_code(), &headers, &life);
        store(copy_url, life, stored, reply.into_parts().1, why).await;
    }
    drop(flight);
}

/// Behind a 409: the copy that leads to the dead handle is replaced, for everybody.
fn after_refetch(forward: &Forward, reply: &Response, headers: &HeaderList, context: &Context) {
    if reply.status_code() == 409
        && let Some(pointer) = forward.pointer()
    {
        let dead = forward.request.handle().map(str::to_owned);
        context.wait_until(replace_pointer(pointer, dead, value(headers, header::HANDLE).map(str::to_owned)));
    }
}

async fn replace_pointer(pointer: Forward, dead: Option<String>, successor: Option<String>) {
    let Some(copy_url) = &pointer.copy_url else { return };
    let Some(copy) = cache::find(copy_url).await else { return };
    let stored = copy.headers().get(header::HANDLE).ok().flatten();
    let leads_astray = if successor.is_some() { stored != successor } else { stored == dead };
    if leads_astray && let Some(flight) = Flight::begin(copy_url) {
        fetch(pointer, flight, Why::Refused).await;
    }
}

fn serve_hit(caller: &Caller, found: Found) -> Result<Response> {
    let ttl_s = found.life.left_s(now_ms());
    serve_copy(caller, found, CacheStatus::Hit { ttl_s })
}

fn serve_stale(caller: &Caller, found: Found) -> Result<Response> {
    let ttl_s = found.life.left_s(now_ms());
    serve_copy(caller, found, CacheStatus::StoodIn { ttl_s })
}

fn serve_copy(caller: &Caller, found: Found, status: CacheStatus) -> Result<Response> {
    let headers = caller.finish(served_headers(&found.stored), status);
    if found.status == 200 && caller.has(&found.stored) {
        return rebuilt(304, ResponseBody::Empty, &headers);
    }
    rebuilt(found.status, found.copy.into_parts().1, &headers)
}

fn respond(caller: &Caller, reply: Response, headers: &HeaderList, status: CacheStatus) -> Result<Response> {
    let code = reply.status_code();
    if !answer::is_answerable(code) {
        worker::console_error!("the origin answered with status {code}");
        return made(caller, Answer::unreachable(caller, status));
    }
    let passed = caller.finish(cached_reply::passed_headers(headers), status);
    if code == 200 && !matches!(status, CacheStatus::Bypass | CacheStatus::Hub) && caller.has(headers) {
        return rebuilt(304, ResponseBody::Empty, &passed);
    }
    rebuilt(code, reply.into_parts().1, &passed)
}

fn not_reached(
    caller: &Caller,
    forward: &Forward,
    trouble: &Trouble,
    status: CacheStatus,
) -> Result<Response> {
    if forward.ends_s.is_some_and(|ends_s| origin::remaining_ms(ends_s) == 0) {
        return made(caller, Answer::token_refused(caller, &TokenError::Expired));
    }
    worker::console_error!("the origin was not reached: {trouble}");
    made(caller, Answer::unreachable(caller, status))
}

fn standing_in(found: Option<Box<Found>>, failure: Failure) -> Option<Box<Found>> {
    found.filter(|found| {
        let says_up_to_date = value(&found.stored, header::UP_TO_DATE).is_some();
        found.life.stands_in(failure, says_up_to_date, now_ms())
    })
}

fn says_unavailable(status: u16, headers: &HeaderList) -> bool {
    status >= 500 && value(headers, header::SERVER).is_some()
}

const fn status_of(why: Why, stored: bool) -> CacheStatus {
    match why {
        Why::Miss => CacheStatus::Miss { stored },
        Why::Stale => CacheStatus::Stale { stored },
        Why::Refused => CacheStatus::Refresh { stored },
    }
}
