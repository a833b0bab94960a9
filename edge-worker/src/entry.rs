//! The fetch event: a request comes in, its plan is carried out, a reply goes out. Bodies stay streams of the
//! platform and are not read here, but for a `POST` that a token has to allow.

use crate::answer::{self, Answer, Caller};
use crate::config::Config;
use crate::headers::{header_map, headers_of, value};
use crate::plan::{self, Forward, Judge, Plan};
use crate::tokens::{self, Refusal};
use crate::{cache, hub, origin};
use limn_core::edge::TokenError;
use limn_core::protocol::body::{BODY_BYTES_MAX, BodyError};
use limn_core::protocol::cached_reply::{
    self, CacheStatus, HeaderList, accepts_cached, may_serve, served_headers, stored_headers, ttl_s,
};
use limn_core::protocol::{Method, header};
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Context, Env, Request, Response, ResponseBody, ResponseBuilder, Result, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let (method, url) = (request.inner().method(), request.inner().url());
    let request_header = |name: &str| request.headers().get(name).ok().flatten();
    let caller = plan::caller(&method, &url, request_header);
    let variable = |name: &str| env.var(name).ok().map(|value| value.to_string());
    let config = match Config::from_variables(variable) {
        Ok(config) => config,
        Err(error) => {
            worker::console_error!("{error}");
            return made(&caller, Answer::misconfigured(&caller, &error.to_string()));
        }
    };
    let plan = match plan::plan(&config, &caller, &method, &url, request_header) {
        Plan::Judge(asked) => judge(&config, &caller, (&method, &url), &asked, &request).await,
        plan => plan,
    };
    match plan {
        Plan::Forward(forward) => {
            let outcome = serve(&caller, &forward, &request, &env, &context).await;
            outcome.or_else(|error| not_reached(&caller, &forward, Err(error), CacheStatus::Bypass))
        }
        Plan::Answer(answer) => made(&caller, answer),
        // A request is judged once.
        Plan::Judge(_) => made(&caller, Answer::unauthorized(&caller)),
    }
}

/// Decides on a request by the token that it shows.
async fn judge(
    config: &Config,
    caller: &Caller,
    (method, url): (&str, &str),
    asked: &Judge,
    request: &Request,
) -> Plan {
    let Some(expected) = &config.tokens else { return Plan::Answer(Answer::unauthorized(caller)) };
    let claims = match tokens::claims(expected, asked.token.as_deref()).await {
        Ok(claims) => claims,
        Err(Refusal::Token(error)) => return Plan::Answer(Answer::token_refused(caller, &error)),
        Err(Refusal::Keys(error)) => {
            worker::console_error!("the keys that tokens are signed with were not read: {error}");
            return Plan::Answer(Answer::keys_unreachable(caller));
        }
    };
    let body = match read_body(caller, request).await {
        Ok(body) => body,
        Err(error) => return Plan::Answer(Answer::bad_body(&error)),
    };
    let request_header = |name: &str| request.headers().get(name).ok().flatten();
    plan::granted(config, caller, (method, url), request_header, &asked.request, &claims, &body)
}

/// The body of a `POST`, which says in part what is asked for.
async fn read_body(caller: &Caller, request: &Request) -> std::result::Result<Vec<u8>, BodyError> {
    if caller.method != Method::Post {
        return Ok(Vec::new());
    }
    let said = request.headers().get("content-length").ok().flatten();
    if said.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(BodyError::TooLarge);
    }
    let body = request.inner().array_buffer().map_err(|_| BodyError::Unreadable)?;
    let body = JsFuture::from(body).await.map_err(|_| BodyError::Unreadable)?;
    Ok(Uint8Array::new(&body).to_vec())
}

/// Answers from the copy where there is one that fits, else from the origin.
async fn serve(
    caller: &Caller,
    forward: &Forward,
    request: &Request,
    env: &Env,
    context: &Context,
) -> Result<Response> {
    if let Some(key) = &forward.hub_key
        && let Some(reply) = hub::ask(env, key, forward).await?
    {
        return answered(caller, forward, Ok(reply), CacheStatus::Collapsed);
    }
    let Some(copy_url) = &forward.copy_url else {
        return relay(caller, forward, request, CacheStatus::Bypass).await;
    };
    let refuses_copies = !accepts_cached(&forward.request);
    let mut outdated = false;
    if !refuses_copies && let Some(copy) = cache::find(copy_url).await {
        let stored = headers_of(&copy);
        if may_serve(&forward.request, value(&stored, header::HANDLE)) {
            return serve_copy(caller, copy, &stored);
        }
        outdated = true;
    }
    let cache_status = |stored| match refuses_copies || outdated {
        true => CacheStatus::Refresh { stored },
        false => CacheStatus::Miss { stored },
    };
    let mut reply = match origin::ask(forward, request).await {
        Ok(reply) if !answer::means_unreachable(reply.status_code()) => reply,
        outcome => return not_reached(caller, forward, outcome, cache_status(false)),
    };
    let headers = headers_of(&reply);
    let header = |name: &str| value(&headers, name).map(str::to_owned);
    let ttl_s = ttl_s(&forward.request, reply.status_code(), header);
    if let Some(ttl_s) = ttl_s {
        let (_, body) = reply.cloned()?.into_parts();
        let stored = header_map(&stored_headers(&headers, ttl_s))?;
        context.wait_until(cache::keep(copy_url.clone(), stored, body));
    }
    respond(caller, reply, &headers, cache_status(ttl_s.is_some()))
}

/// Passes a request on and its reply back.
async fn relay(
    caller: &Caller,
    forward: &Forward,
    request: &Request,
    cache_status: CacheStatus,
) -> Result<Response> {
    answered(caller, forward, origin::ask(forward, request).await, cache_status)
}

fn answered(
    caller: &Caller,
    forward: &Forward,
    outcome: Result<Response>,
    cache_status: CacheStatus,
) -> Result<Response> {
    match outcome {
        Ok(reply) if !answer::means_unreachable(reply.status_code()) => {
            let headers = headers_of(&reply);
            respond(caller, reply, &headers, cache_status)
        }
        outcome => not_reached(caller, forward, outcome, cache_status),
    }
}

fn serve_copy(caller: &Caller, copy: Response, stored: &HeaderList) -> Result<Response> {
    let headers = caller.finish(served_headers(stored), CacheStatus::Hit);
    if caller.has(stored) {
        return rebuilt(304, ResponseBody::Empty, &headers);
    }
    rebuilt(200, copy.into_parts().1, &headers)
}

fn respond(caller: &Caller, reply: Response, headers: &HeaderList, status: CacheStatus) -> Result<Response> {
    let code = reply.status_code();
    if !answer::is_answerable(code) {
        worker::console_error!("the origin answered with status {code}");
        return made(caller, Answer::unreachable(caller, status));
    }
    let headers = caller.finish(cached_reply::passed_headers(headers), status);
    rebuilt(code, reply.into_parts().1, &headers)
}

fn not_reached(
    caller: &Caller,
    forward: &Forward,
    outcome: Result<Response>,
    status: CacheStatus,
) -> Result<Response> {
    match outcome {
        Err(_) if forward.ends_s.is_some_and(|ends_s| origin::remaining_ms(ends_s) == 0) => {
            return made(caller, Answer::token_refused(caller, &TokenError::Expired));
        }
        Ok(reply) => worker::console_error!("the origin was not reached: status {}", reply.status_code()),
        Err(error) => worker::console_error!("the origin was not reached: {error}"),
    }
    made(caller, Answer::unreachable(caller, status))
}

fn made(caller: &Caller, answer: Answer) -> Result<Response> {
    let body = match caller.method {
        Method::Head => ResponseBody::Empty,
        _ => ResponseBody::Body(answer.body.into_bytes()),
    };
    rebuilt(answer.status, body, &caller.finish(answer.headers, answer.cache_status))
}

fn rebuilt(status: u16, body: ResponseBody, headers: &HeaderList) -> Result<Response> {
    let body = if answer::is_bodiless(status) { ResponseBody::Empty } else { body };
    Ok(ResponseBuilder::new().with_status(status).with_headers(header_map(headers)?).body(body))
}
