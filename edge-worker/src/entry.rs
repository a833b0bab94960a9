//! The fetch event: a request comes in, its plan is carried out, a reply goes out. Bodies stay streams of the
//! platform and are not read here, but for a `POST` that a token has to allow.

use crate::answer::{Answer, Caller};
use crate::config::{Config, ConfigError};
use crate::derived::{self, Asked};
use crate::plan::{self, Judge, Plan};
use crate::replies::{made, said};
use crate::timing::Timing;
use crate::tokens::{self, Refusal};
use limn_core::protocol::Method;
use limn_core::protocol::body::{BODY_BYTES_MAX, BodyError};
use limn_core::protocol::cached_reply::CacheStatus;
use std::cell::OnceCell;
use std::rc::Rc;
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Context, Env, Request, Response, Result, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let (method, url) = (request.inner().method(), request.inner().url());
    let request_header = |name: &str| said(request.headers(), name);
    let caller = plan::caller(&method, &url, request_header);
    let config = settings(&env);
    let config = match &*config {
        Ok(config) => config,
        Err(error) => {
            worker::console_error!("{error}");
            return made(&caller, Answer::misconfigured(&caller, &error.to_string()));
        }
    };
    let plan = match plan::plan(config, &caller, &method, &url, request_header) {
        Plan::Judge(asked) => judge(config, &caller, (&method, &url), &asked, &request).await,
        plan => plan,
    };
    match plan {
        Plan::Forward(forward) => {
            let timing = Timing::default();
            let platform = (&env, &context);
            let asked = Asked { caller: &caller, url: &url, request: &request, platform, timing: &timing };
            match derived::serve(config, &forward, &asked).await {
                Ok(reply) => with_timing(reply, &timing),
                Err(error) => {
                    worker::console_error!("a request was not carried out: {error}");
                    made(&caller, Answer::unreachable(&caller, CacheStatus::Bypass))
                }
            }
        }
        Plan::Answer(answer) => made(&caller, answer),
        // A request is judged once.
        Plan::Judge(_) => made(&caller, Answer::unauthorized(&caller)),
    }
}

thread_local! {
    static SETTINGS: OnceCell<Rc<std::result::Result<Config, ConfigError>>> = const { OnceCell::new() };
}

/// The settings, read once: an isolate belongs to one deployment.
fn settings(env: &Env) -> Rc<std::result::Result<Config, ConfigError>> {
    let variable = |name: &str| env.var(name).ok().map(|value| value.to_string());
    SETTINGS.with(|settings| Rc::clone(settings.get_or_init(|| Rc::new(Config::from_variables(variable)))))
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
    let request_header = |name: &str| said(request.headers(), name);
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

fn with_timing(reply: Response, timing: &Timing) -> Result<Response> {
    if let Some(value) = timing.value() {
        reply.headers().set("server-timing", &value)?;
        reply.headers().set("timing-allow-origin", "*")?;
    }
    Ok(reply)
}
