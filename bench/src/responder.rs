//! A server that knows beforehand what it answers: what waking clients costs at least on this machine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

/// Threads that write, as Limn has on two processors.
const THREADS: usize = 2;
/// Room for a request.
const REQUEST_BYTES: usize = 4096;

/// Answers one request of each of many connections, all at once.
#[derive(Debug)]
pub struct Responder {
    port: u16,
    parked: Receiver<()>,
    writers: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Responder {
    /// Listens for that many connections, which get this reply.
    pub fn start(clients: usize, reply: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let (told, parked) = channel();
        let writer = |number: usize| {
            let (listener, reply, told) =
                (listener.try_clone().expect("a socket"), reply.to_owned(), told.clone());
            let (answer, is_due) = channel();
            let count = clients / THREADS + usize::from(number < clients % THREADS);
            let thread = thread::spawn(move || {
                let mut parked = Vec::with_capacity(count);
                for _ in 0..count {
                    parked.push(listener.accept().expect("a client connects").0);
                }
                parked.iter_mut().for_each(read_request);
                told.send(()).expect("somebody waits");
                is_due.recv().expect("somebody waits");
                for client in &mut parked {
                    client.write_all(reply.as_bytes()).expect("the connection is open");
                }
                // The sockets are closed once nobody measures any more.
                let _ended = is_due.recv();
            });
            (answer, thread)
        };
        let writers = (0..THREADS).map(writer).collect();
        Self { port, parked, writers }
    }

    /// The port that it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Blocks until every client waits.
    pub fn wait_parked(&self) {
        for _ in 0..THREADS {
            self.parked.recv().expect("its threads run");
        }
    }

    /// Answers all of them.
    pub fn answer(&self) {
        self.writers.iter().for_each(|(answer, _)| answer.send(()).expect("its threads run"));
    }

    /// Closes the connections.
    pub fn end(self) {
        for (answer, thread) in self.writers {
            drop(answer);
            thread.join().expect("it ends");
        }
    }
}

fn read_request(client: &mut TcpStream) {
    let mut request = Vec::new();
    let mut piece = [0; REQUEST_BYTES];
    while !request.ends_with(b"\r\n\r\n") {
        let length = client.read(&mut piece).expect("the connection is open");
        assert_ne!(length, 0, "a client asks");
        request.extend_from_slice(&piece[..length]);
    }
}
