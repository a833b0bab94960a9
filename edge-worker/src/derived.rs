//! Shapes that are derived of a base: the base is asked in the place of what the client asks for, and each message of its
//! reply is mapped on its way.
//!
//! Bodies stay streams: a chunk of the platform's is in memory, the beginning of a message that it cuts, and what was made
//! of it. Which shape may be derived depends on the base's schema, of which an isolate remembers what replies tell.

use crate::answer::{Answer, Caller};
use crate::config::Config;
use crate::plan::{self, Forward};
use crate::replies::{made, rebuilt, said};
use crate::serve;
use crate::timing::{Timing, now_ms};
use limn_core::edge::derived::Events;
use limn_core::edge::{Derivation, Messages, Wanted};
use limn_core::protocol::cached_reply::HeaderList;
use limn_core::protocol::query::Value;
use limn_core::protocol::{Method, Parameter, header};
use std::cell::RefCell;
use std::collections::HashMap;
use worker::js_sys::{Reflect, Uint8Array};
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen_futures::{JsFuture, spawn_local};
use worker::web_sys::{ReadableStreamDefaultReader, WritableStreamDefaultWriter};
use worker::{Context, Env, Error, Request, Response, ResponseBody, Result};

/// So many replies of the base are read for one reply that has to say something. Each costs a few subrequests, of which
/// the platform allows 50 on its free plan.
const READ_ON_MAX: usize = 20;
/// For how long an isolate takes the base's newest schema for granted.
const SCHEMA_FRESH_MS: u64 = 60_000;
/// Schemas that are remembered; past that all are learnt anew.
const SCHEMAS_MAX: usize = 1_000;
/// The longest message; an isolate has 128 MB for all that it does.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The parameters that make a request live.
const LIVE: [Parameter; 4] =
    [Parameter::Live, Parameter::LiveSse, Parameter::ExperimentalLiveSse, Parameter::Cursor];

#[derive(Default)]
struct Known {
    /// By handles.
    schemas: HashMap<String, String>,
    /// The newest handle of a base, by the address of its first chunk at the origin, and when it was learnt.
    newest: HashMap<String, (String, u64)>,
}

thread_local! {
    /// Learnt from this isolate's replies. Only values cross between requests.
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The request of a client, and what it is served by.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The address as the client spelled it.
    pub url: &'a str,
    /// The request itself.
    pub request: &'a Request,
    /// The worker's bindings, and what outlives the reply.
    pub platform: (&'a Env, &'a Context),
    /// The times that the request waited.
    pub timing: &'a Timing,
}

/// The reply to a request, derived where it may be.
pub async fn serve(config: &Config, forward: &Forward, asked: &Asked<'_>) -> Result<Response> {
    let wanted = config.derive.wanted(&forward.request);
    let Some(wanted) = wanted.filter(|_| plan::is_judged_here(config, forward)) else {
        return plain(forward, asked).await;
    };
    let base = Base { config, forward, wanted };
    let newest = match base.newest_schema(asked).await? {
        Newest::Schema(schema) => schema,
        Newest::Unavailable(reply) => return Ok(reply),
        Newest::Unreadable => return plain(forward, asked).await,
    };
    if let Err(reason) = base.wanted.derive(&newest) {
        worker::console_log!("a shape of {} is the origin's to serve: {reason}", base.wanted.base().table());
        return plain(forward, asked).await;
    }
    base.serve(asked).await
}

/// The reply of the copy, the hub or the origin.
async fn plain(forward: &Forward, asked: &Asked<'_>) -> Result<Response> {
    serve::serve(asked.caller, forward, asked.request, asked.platform, asked.timing).await
}

/// The base's schema, or why there is none.
enum Newest {
    /// Its schema.
    Schema(String),
    /// It cannot be read now: a client that went on to the origin would follow another shape.
    Unavailable(Response),
    /// There is no such shape.
    Unreadable,
}

/// A request, and the shape that its reply is derived of.
struct Base<'a> {
    config: &'a Config,
    forward: &'a Forward,
    wanted: Wanted<'a>,
}

impl Base<'_> {
    /// The base's schema as it is now, or was moments ago.
    async fn newest_schema(&self, asked: &Asked<'_>) -> Result<Newest> {
        let start = self.request(asked, &[]).request.pointer();
        let pointer = plan::with_query(self.config, asked.url, self.forward, start.query().clone());
        let now_ms = now_ms();
        let known = KNOWN.with_borrow(|known| {
            let (handle, learnt_ms) = known.newest.get(&pointer.url)?;
            let is_fresh = now_ms.saturating_sub(*learnt_ms) < SCHEMA_FRESH_MS;
            known.schemas.get(handle).filter(|_| is_fresh).cloned()
        });
        if let Some(known) = known {
            return Ok(Newest::Schema(known));
        }
        let reply = self.ask(&pointer, asked).await?;
        let status = reply.status_code();
        if let (Some(handle), Some(schema)) =
            (said(reply.headers(), header::HANDLE), said(reply.headers(), header::SCHEMA))
        {
            learn(&handle, &schema);
            KNOWN.with_borrow_mut(|known| known.newest.insert(pointer.url, (handle, now_ms)));
            discard(reply);
            return Ok(Newest::Schema(schema));
        }
        worker::console_error!("the base {} was not read: status {status}", self.wanted.base().table());
        Ok(if status >= 500 { Newest::Unavailable(reply) } else { Newest::Unreadable })
    }

    /// Reads the base's replies until there is something to answer.
    async fn serve(&self, asked: &Asked<'_>) -> Result<Response> {
        let mut forward = self.request(asked, &[]);
        for _ in 0..READ_ON_MAX {
            let reply = self.ask(&forward, asked).await?;
            if reply.status_code() != 200 {
                return Ok(reply);
            }
            let Some(derivation) = self.derivation(&reply, asked).await? else {
                return made(
                    asked.caller,
                    Answer::misconfigured(asked.caller, "The base's schema has changed"),
                );
            };
            let headers = kept_headers(&reply, derivation.schema());
            if asked.caller.method == Method::Head {
                return rebuilt(200, ResponseBody::Empty, &headers);
            }
            let next = [
                said(reply.headers(), header::OFFSET),
                said(reply.headers(), header::HANDLE),
                said(reply.headers(), header::CURSOR),
            ];
            let mut body = Body::new(reply, derivation)?;
            if matches!(body.form, Form::Events(_)) {
                return stream(body, Vec::new(), &headers);
            }
            match body.next().await {
                Ok(Some(first)) => return stream(body, first, &headers),
                Ok(None) => {}
                Err(error) => {
                    worker::console_error!("a derived reply was not made: {error}");
                    return made(asked.caller, Answer::misconfigured(asked.caller, &error.to_string()));
                }
            }
            let [Some(offset), Some(handle), cursor] = next else { break };
            let cursor = cursor.as_deref();
            let mut changed =
                vec![(Parameter::Offset, Some(offset.as_str())), (Parameter::Handle, Some(&handle))];
            changed.extend(cursor.map(|cursor| (Parameter::Cursor, Some(cursor))));
            forward = self.request(asked, &changed);
        }
        let message = "The base's log is too long to be read for one reply";
        made(asked.caller, Answer::misconfigured(asked.caller, message))
    }

    /// The derivation of a reply's messages. Live replies do not tell the schema.
    async fn derivation(&self, reply: &Response, asked: &Asked<'_>) -> Result<Option<Derivation>> {
        let Some(handle) = said(reply.headers(), header::HANDLE) else { return Ok(None) };
        let schema = match said(reply.headers(), header::SCHEMA) {
            Some(schema) => {
                learn(&handle, &schema);
                Some(schema)
            }
            None => match KNOWN.with_borrow(|known| known.schemas.get(&handle).cloned()) {
                Some(schema) => Some(schema),
                None => self.schema_of(&handle, asked).await?,
            },
        };
        Ok(schema.and_then(|schema| self.wanted.derive(&schema).ok()))
    }

    /// The schema of a handle that no reply has told of yet.
    async fn schema_of(&self, handle: &str, asked: &Asked<'_>) -> Result<Option<String>> {
        let plain = LIVE.map(|parameter| (parameter, None));
        let head = Forward { method: "HEAD".to_owned(), copy_url: None, ..self.request(asked, &plain) };
        let reply = self.ask(&head, asked).await?;
        let schema = said(reply.headers(), header::SCHEMA)
            .filter(|_| said(reply.headers(), header::HANDLE).as_deref() == Some(handle));
        schema.iter().for_each(|schema| learn(handle, schema));
        Ok(schema)
    }

    /// The request to the base, with some of its parameters changed.
    fn request(&self, asked: &Asked<'_>, changed: &[(Parameter, Option<&str>)]) -> Forward {
        let mut query = self.wanted.base().query(self.forward.request.query());
        for (parameter, value) in changed {
            query.set(*parameter, value.map(|value| Value::Text(value.to_owned())));
        }
        plan::with_query(self.config, asked.url, self.forward, query)
    }

    async fn ask(&self, forward: &Forward, asked: &Asked<'_>) -> Result<Response> {
        // A derived reply has no version, so that no client can have the base's.
        let caller = Caller { if_none_match: None, ..asked.caller.clone() };
        plain(forward, &Asked { caller: &caller, ..*asked }).await
    }
}

fn learn(handle: &str, schema: &str) {
    KNOWN.with_borrow_mut(|known| {
        if known.schemas.len() >= SCHEMAS_MAX {
            *known = Known::default();
        }
        known.schemas.insert(handle.to_owned(), schema.to_owned());
    });
}

/// The base's headers, but for those of its bytes.
fn kept_headers(reply: &Response, schema: &str) -> HeaderList {
    const DROPPED: [&str; 3] = [header::ETAG, header::CONTENT_ENCODING, "content-length"];
    let mut headers: HeaderList = reply.headers().entries().collect();
    headers.retain(|(name, _)| !DROPPED.contains(&name.as_str()));
    for (name, value) in &mut headers {
        if name == header::SCHEMA {
            schema.clone_into(value);
        }
    }
    headers
}

/// A base's body on its way.
struct Body {
    reader: Option<ReadableStreamDefaultReader>,
    derivation: Derivation,
    form: Form,
}

enum Form {
    Array { messages: Messages, is_begun: bool, is_ended: bool },
    Events(Events),
}

impl Body {
    fn new(reply: Response, derivation: Derivation) -> Result<Self> {
        let is_stream = said(reply.headers(), header::CONTENT_TYPE)
            .is_some_and(|kind| kind.starts_with(header::EVENT_STREAM));
        let form = match is_stream {
            true => Form::Events(Events::default()),
            false => {
                Form::Array { messages: Messages::new(MESSAGE_BYTES_MAX), is_begun: false, is_ended: false }
            }
        };
        let reader = match reply.into_parts().1 {
            ResponseBody::Stream(stream) => Some(stream.get_reader().unchecked_into()),
            _ => None,
        };
        Ok(Self { reader, derivation, form })
    }

    /// The next bytes of the derived body; `None` at its end, and where there is nothing in it.
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let chunk = match &self.reader {
                Some(reader) => read(reader).await?,
                None => None,
            };
            let is_last = chunk.is_none();
            let out = match chunk {
                Some(chunk) => self.map(&chunk)?,
                None => self.end()?,
            };
            if is_last || !out.is_empty() {
                return Ok(Some(out).filter(|out| !out.is_empty()));
            }
        }
    }

    fn map(&mut self, chunk: &[u8]) -> Result<Vec<u8>> {
        let (mut out, mut failure) = (Vec::new(), None);
        match &mut self.form {
            Form::Events(events) => {
                failure = events.push(&mut self.derivation, chunk, MESSAGE_BYTES_MAX, &mut out).err();
            }
            Form::Array { messages, is_begun, .. } => {
                let mut push = |message: &[u8]| push_item(&mut out, is_begun, message);
                let split = messages.push(chunk, |message| {
                    if failure.is_none() {
                        failure = self.derivation.map(message, &mut push).err();
                    }
                });
                split.map_err(|error| Error::RustError(error.to_string()))?;
            }
        }
        failure.map_or(Ok(out), |error| Err(Error::RustError(error.to_string())))
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let Form::Array { messages, is_begun, is_ended } = &mut self.form else { return Ok(out) };
        if !messages.is_complete() {
            return Err(Error::RustError("the base's reply broke off".to_owned()));
        }
        if !std::mem::replace(is_ended, true) {
            self.derivation.end(&mut |message| push_item(&mut out, is_begun, message));
            if *is_begun {
                out.push(b']');
            }
        }
        Ok(out)
    }
}

fn push_item(out: &mut Vec<u8>, is_begun: &mut bool, message: &[u8]) {
    out.push(if std::mem::replace(is_begun, true) { b',' } else { b'[' });
    out.extend_from_slice(message);
}

async fn read(reader: &ReadableStreamDefaultReader) -> Result<Option<Vec<u8>>> {
    let next = JsFuture::from(reader.read()).await?;
    if Reflect::get(&next, &"done".into())?.is_truthy() {
        return Ok(None);
    }
    let chunk: Uint8Array = Reflect::get(&next, &"value".into())?.dyn_into().map_err(Error::from)?;
    Ok(Some(chunk.to_vec()))
}

/// Lets go of a body that nobody reads on. Where it is kept beside, that is only done when its copy has gone by, so nobody
/// waits for it.
fn discard(reply: Response) {
    if let ResponseBody::Stream(stream) = reply.into_parts().1 {
        let cancelled = JsFuture::from(stream.cancel());
        // It may be broken already, which is as good.
        spawn_local(async { drop(cancelled.await) });
    }
}

/// The reply, whose body is mapped while the client reads it.
fn stream(mut body: Body, first: Vec<u8>, headers: &HeaderList) -> Result<Response> {
    let through = crate::cache::passage()?;
    let writer = through.writable().get_writer().map_err(Error::from)?;
    let reply = rebuilt(200, ResponseBody::Stream(through.readable()), headers)?;
    spawn_local(async move {
        let outcome = pump(&mut body, &writer, first).await;
        if let Err(error) = outcome {
            worker::console_error!("a derived reply broke off: {error}");
            // The client sees a broken body, and no whole one; the base's is of no more use.
            let _ = JsFuture::from(writer.abort_with_reason(&error.to_string().into())).await;
            if let Some(reader) = body.reader {
                let _ = JsFuture::from(reader.cancel()).await;
            }
        }
    });
    Ok(reply)
}

async fn pump(body: &mut Body, writer: &WritableStreamDefaultWriter, first: Vec<u8>) -> Result<()> {
    let mut next = Some(first);
    while let Some(bytes) = next {
        if !bytes.is_empty() {
            JsFuture::from(writer.write_with_chunk(&Uint8Array::from(bytes.as_slice()))).await?;
        }
        next = body.next().await?;
    }
    JsFuture::from(writer.close()).await?;
    Ok(())
}
