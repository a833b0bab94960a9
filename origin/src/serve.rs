//! A running server: everything put together, and taken apart again in order.

use crate::config::ServeConfig;
use crate::engine::{self, EngineHandle, EngineParts, Inbox, Link, Source};
use crate::health::{Phase, Reconciler, Status};
use crate::http::{self, Admission, Chunks, Server, Subsets};
use crate::observe::Metrics;
use crate::shapes::creation::{Creator, CreatorParts};
use crate::shapes::{Registry, expiry};
use crate::standby::Standby;
use crate::stopping::{Interrupts, Stopping};
use crate::store::{Folder, FolderLock, Scratch, size};
use crate::supervisor::Supervisor;
use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use limn_core::store::limits::TAIL_BYTES_MAX;
use limn_disk::Native;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What answers before the protocol does, such as the pages of `limn dev`. It gives the request back where it does not
/// want it.
pub type Beside =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response, Request<Body>>> + Send + Sync>;

/// A server that is ready to accept connections.
pub struct Running {
    server: Arc<Server>,
    engine: EngineHandle,
    engine_task: JoinHandle<Result<()>>,
    /// Tasks that run as long as the server.
    tasks: Supervisor,
    listener: TcpListener,
    _scratch: Option<Scratch>,
}

/// Opens the storage folder, starts to follow Postgres, and listens. Where another process writes to the
/// folder, that one's shapes are served until it ends.
///
/// # Errors
/// Where the folder or a port cannot be used.
pub async fn start(config: ServeConfig) -> Result<Running> {
    let listener = listen(config.address, "--port").await?;
    let (folder, lock) = open_folder(&config)?;
    let (engine, inbox) = EngineHandle::channel();
    let (registry, status, metrics) =
        (Arc::new(Registry::default()), Arc::new(Status::default()), Arc::new(Metrics::default()));
    let parts = CreatorParts {
        config: config.queries,
        publication: config.publication.clone(),
        folder: folder.clone(),
        registry: registry.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        chunk_bytes_max: config.chunk_bytes_max,
        snapshots_max: config.connections.snapshots,
    };
    let creator = Creator::new(parts, engine.clone());
    let writer = Writer {
        source: Source {
            config: config.replication,
            publication: config.publication,
            slot: config.slot.clone(),
            temporary_slot: config.temporary_slot,
            manual: config.manual,
            folder: folder.clone(),
        },
        folder: folder.clone(),
        creator: creator.clone(),
        registry: registry.clone(),
        status: status.clone(),
        metrics: metrics.clone(),
        chunk_bytes_max: config.chunk_bytes_max,
    };
    let engine_task = match lock {
        Some(lock) => writer.start(lock, inbox).await?,
        None => tokio::spawn(writer.stand_by(inbox)),
    };
    let unique = AtomicU64::new(registry.next_handle_us());
    let server = Arc::new(Server {
        settings: config.http,
        registry,
        status,
        stopping: Stopping::default(),
        metrics,
        admission: Admission::new(config.admission),
        creator,
        subsets: Subsets::new(config.connections.subsets),
        chunks: Chunks::default(),
        unique,
    });
    let mut tasks = supervise(&server, &engine, folder, config.slot, config.shapes_max);
    if let Some(address) = config.metrics_address {
        let listener = listen(address, "--metrics-port").await?;
        tasks.spawn("metrics", serve_metrics(listener, server.clone()));
    }
    Ok(Running { server, engine, engine_task, tasks, listener, _scratch: config.scratch })
}

/// Opens the storage folder; without a lock where another process writes to it, for the same slot.
fn open_folder(config: &ServeConfig) -> Result<(Arc<Folder>, Option<FolderLock>)> {
    let folder = Arc::new(Folder::open(&config.storage_dir)?);
    let lock = folder.try_lock()?;
    if lock.is_none() {
        folder.expect_slot(&config.slot)?;
    }
    Ok((folder, lock))
}

/// Starts what runs beside the engine and the requests for as long as the server does.
fn supervise(
    server: &Arc<Server>,
    engine: &EngineHandle,
    folder: Arc<Folder>,
    slot: String,
    shapes_max: Option<usize>,
) -> Supervisor {
    let mut tasks = Supervisor::default();
    let Server { creator, registry, status, metrics, .. } = &**server;
    let reconciler =
        Reconciler::new(creator.clone(), slot, registry.clone(), status.clone(), metrics.clone());
    tasks.spawn("reconciler", reconciler.run());
    tasks.spawn("storage_size", size::run(folder, metrics.clone()));
    if let Some(shapes_max) = shapes_max {
        let run = expiry::run(shapes_max, engine.clone(), registry.clone(), status.clone());
        tasks.spawn("expiry", run);
    }
    for deliverer in http::deliverers(server) {
        tasks.spawn("live_replies", deliverer);
    }
    let pool = creator.pool.clone();
    tasks.spawn("idle_sessions", async move { pool.watch().await });
    tasks
}

/// What it takes to write to the folder, once that is allowed.
struct Writer {
    source: Source,
    folder: Arc<Folder>,
    creator: Creator,
    registry: Arc<Registry>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    chunk_bytes_max: u64,
}

impl Writer {
    /// Takes up what the folder holds and follows Postgres from there.
    async fn start(self, lock: FolderLock, inbox: Inbox) -> Result<JoinHandle<Result<()>>> {
        let Self { source, folder, creator, registry, status, metrics, chunk_bytes_max } = self;
        // Postgres and the folder keep us waiting at the same time.
        let link = Link::connect(source);
        let layout = folder.layout();
        let recover = move || limn_disk::recover(&Native, &layout, chunk_bytes_max, TAIL_BYTES_MAX);
        let recovered = tokio::task::spawn_blocking(recover).await.context("recovery was cut off")??;
        let store = &recovered.store;
        tracing::info!(shapes = store.shapes.len(), "storage folder is open");
        creator.reserve_ids(store.next_id);
        registry.reserve_handles(store.last_handle_us);
        status.set_phase(Phase::Starting);
        let handle = creator.engine;
        let parts = EngineParts { link, inbox, handle, folder, lock, recovered, registry, status, metrics };
        engine::start(parts)
    }

    /// Serves another process's shapes until it ends, and then does its work.
    async fn stand_by(self, mut inbox: Inbox) -> Result<()> {
        let (registry, status) = (self.registry.clone(), self.status.clone());
        let standby = Standby::new(self.folder.clone(), registry, status, self.chunk_bytes_max);
        let Some((lock, retired)) = standby.wait(&mut inbox).await? else { return Ok(()) };
        let engine_task = self.start(lock, inbox).await?;
        drop(retired);
        engine_task.await.context("the engine was cut off")?
    }
}

impl Running {
    /// Where it listens.
    ///
    /// # Errors
    /// Where the listener has gone.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// The state that requests are answered from.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Serves until the first interrupt, or until the engine or another task of the server cannot go on; what is under way then ends, and
    /// everything is made durable. The second interrupt ends that too: the next start finds what a kill leaves.
    ///
    /// # Errors
    /// Why the server could not go on, or that there was a second interrupt.
    pub async fn run(self, beside: Option<Beside>, interrupts: &Interrupts) -> Result<()> {
        tokio::select! {
            ended = self.run_to_the_end(beside, interrupts.reach(1)) => ended,
            () = interrupts.reach(2) => bail!("interrupted twice: ended without waiting for what was under way"),
        }
    }

    async fn run_to_the_end(
        self,
        beside: Option<Beside>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let Self { server, engine, mut engine_task, mut tasks, listener, _scratch } = self;
        let (mut ended, mut failure) = (None, None);
        let over = async {
            tokio::select! {
                biased;
                result = &mut engine_task => ended = Some(result),
                task = tasks.ended() => {
                    tracing::error!(%task, "ending, since the server cannot go on without it");
                    failure = Some(task);
                }
                () = stop => {}
            }
        };
        serve_on(listener, server.clone(), beside, Box::pin(over)).await;
        if let Some(result) = ended {
            return result.context("the engine was cut off")?;
        }
        // What a client was told must be there after the next start.
        server.creator.settle().await;
        engine.stop().await;
        engine_task.await.context("the engine was cut off")??;
        failure.map_or(Ok(()), |task| Err(task.into()))
    }
}

/// Serves a listener until `stop` resolves. All of them have a handler of the same type, so that what HTTP takes is compiled
/// once.
async fn serve_on(
    listener: TcpListener,
    server: Arc<Server>,
    beside: Option<Beside>,
    stop: BoxFuture<'_, ()>,
) {
    let handler = move |request| {
        let beside = beside.clone();
        async move {
            match beside {
                Some(beside) => beside(request).await,
                None => Err(request),
            }
        }
    };
    http::serve(listener, server, handler, stop).await;
}

/// Serves the page of the metrics to whatever is asked.
async fn serve_metrics(listener: TcpListener, server: Arc<Server>) {
    let metrics = server.metrics.clone();
    let page: Beside = Arc::new(move |request| {
        let page = http::metrics_page(&metrics, &request);
        Box::pin(async { Ok(page) })
    });
    serve_on(listener, server, Some(page), Box::pin(pending())).await;
}

/// Listens on an address that `option` chooses.
///
/// # Errors
/// Where that is not possible.
pub(crate) async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on `{address}`: is another server running there? Choose another with `{option}`"
        )
    })
}
