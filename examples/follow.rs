//! Follows a shape from Rust: the core says which request comes next and what a reply means; this file only sends.
//! While `cargo x demo` runs: `cargo run -p limn-core --example follow -- http://127.0.0.1:3000 limn_demo`.
#![allow(clippy::print_stdout, reason = "an example talks to its terminal")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core's owner has the clock, and waits"
)]

use limn_core::client::{ChangeSet, Moment, Poll, Request, Response, Rows, ShapeStream, StreamOptions};
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(table)) = (arguments.next(), arguments.next()) else {
        return Err("expected the server's address and a table".into());
    };
    // Statuses are the machine's business: none is an error of the transport.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let (mut stream, mut rows) = (ShapeStream::new(StreamOptions::new(&table)), Rows::new());
    loop {
        match stream.poll_request(moment().now_ms) {
            Poll::Request(request) => exchange(&agent, &server, &request, &mut stream, &mut rows)?,
            Poll::WaitUntil(until_ms) => {
                thread::sleep(Duration::from_millis(until_ms.saturating_sub(moment().now_ms)));
            }
            Poll::Idle | Poll::Done | Poll::Failed => return Ok(()),
        }
    }
}

/// Sends one request, and shows what its reply made visible.
fn exchange(
    agent: &ureq::Agent,
    server: &str,
    request: &Request,
    stream: &mut ShapeStream,
    rows: &mut Rows,
) -> Result<(), Box<dyn Error>> {
    let url = format!("{server}/v1/shape?{}", request.query_string());
    let timeout = request.timeout_ms.map(Duration::from_millis);
    let reply = agent.get(&url).config().timeout_global(timeout).build().call();
    let received = reply.and_then(|mut reply| {
        // A chunk has a limit of the server's; what this program holds is the whole shape anyway.
        let body = reply.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
        Ok((reply, body))
    });
    let Ok((reply, body)) = received else {
        stream.handle_network_error(moment());
        return Ok(());
    };
    let header = |name: &str| Some(reply.headers().get(name)?.to_str().ok()?.to_owned());
    let response = Response { status: reply.status().as_u16(), header: &header, body: &body };
    for event in stream.handle_response(&response, moment())? {
        if let Some(changes) = rows.handle_event(event)? {
            show(rows, &changes);
        }
    }
    Ok(())
}

fn show(rows: &Rows, changes: &ChangeSet) {
    if changes.is_reload {
        println!("{} rows", rows.len());
    }
    for key in changes.inserted.iter().chain(&changes.updated) {
        let columns = rows.row(key).into_iter().flat_map(|row| row.columns());
        let shown: Vec<_> =
            columns.map(|(name, value)| format!("{name}={}", value.unwrap_or("NULL"))).collect();
        println!("{key}: {}", shown.join(" "));
    }
    for key in &changes.deleted {
        println!("{key}: deleted");
    }
}

/// Now, with a random number for the machine's pauses.
fn moment() -> Moment {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    Moment { now_ms, random: RandomState::new().hash_one(now_ms) }
}
