//! A wire between two programs that can be cut and held.

use crate::scratch::free_port;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes on what comes to its port, both ways.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    wire: watch::Sender<Wire>,
}

/// The state of every connection through a proxy.
#[derive(Debug, Clone, Copy, Default)]
struct Wire {
    /// Connections of an earlier number have been cut.
    cuts: u64,
    /// Nothing is passed on.
    held: bool,
}

/// Bytes that are passed on at one time.
const PIECE_BYTES: usize = 16 << 10;

impl Proxy {
    /// A proxy for a server at `port` of the loopback interface. It ends with the process.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn start(port: u16) -> Self {
        let own = free_port();
        let listener = TcpListener::bind(("127.0.0.1", own)).await.expect("the port is free");
        let (wire, state) = watch::channel(Wire::default());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, port, state.clone()));
            }
        });
        Self { port: own, wire }
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.wire.send_modify(|wire| wire.cuts += 1);
    }

    /// Holds back what comes, or passes it on again.
    pub fn hold(&self, held: bool) {
        self.wire.send_modify(|wire| wire.held = held);
    }
}

async fn connect(client: TcpStream, port: u16, wire: watch::Receiver<Wire>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let there = tokio::spawn(pass(client_reads, server_writes, wire.clone()));
    let back = tokio::spawn(pass(server_reads, client_writes, wire));
    let (there, back) = tokio::join!(there, back);
    there.map_err(io::Error::other)??;
    back.map_err(io::Error::other)?
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    let cuts = wire.borrow().cuts;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = tokio::select! {
            read = from.read(&mut piece) => read?,
            cut = wire.wait_for(|wire| wire.cuts != cuts) => { drop(cut); 0 }
        };
        let whole = wire.wait_for(|wire| !wire.held || wire.cuts != cuts).await;
        let cut = whole.is_ok_and(|wire| wire.cuts != cuts);
        if length == 0 || cut {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}
