//! The broker as a whole: builds its parts in order, serves, and takes them down in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use waspmq_namesrv::{NamesrvConfig, NamesrvError, NamesrvServer};
use waspmq_plugin_host::{HostConfig, HostLimits, PluginHost, PluginStatus, StartError as PluginStartError};
use waspmq_remoting::{BindError, Metrics, Server, ServerConfig};
use waspmq_store::clock::{Clock, SystemClock};
use waspmq_store::persist::PersistError;
use waspmq_store::{DiskStatus, MessageStore, OpenError, OpenReport, ShutdownReport};

use crate::address::Advertised;
use crate::background::Background;
use crate::config::{Config, NameServers, VIP_PORT_BELOW};
use crate::consumers::Consumers;
use crate::data_identity::{IdentityError, OwnFolder};
use crate::filter::Filters;
use crate::long_polling::{HeldPull, LongPolling};
use crate::memory::memory_bytes;
use crate::metrics::{self, Exporter, StoreMetrics};
use crate::offset::OffsetTable;
use crate::own_topics::OwnTopics;
use crate::processor::Router;
use crate::processor::admin::group::GroupAdmin;
use crate::processor::admin::topic::TopicAdmin;
use crate::processor::client::Clients;
use crate::processor::consumer_offset::ConsumerOffsets;
use crate::processor::pull_checks::{PullChecks, PullSwitches};
use crate::processor::pull_message::{ASIDE_MAX, PullLimits, PullMessages};
use crate::processor::query_message::QueryMessages;
use crate::processor::send_message::SendMessages;
use crate::processor::send_properties::BrokerEntries;
use crate::processor::send_reply::ReplyMarks;
use crate::processor::send_target::SendTargets;
use crate::producers::Producers;
use crate::queue_locks::QueueLocks;
use crate::register::{BrokerIdentity, Registrar, Registration};
use crate::standard_plugins::STANDARD_PLUGINS;
use crate::subscription::SubscriptionTable;
use crate::tasks::{Tables, TaskParts, Tasks};
use crate::topic::TopicTable;
use crate::unique_id::UniqueIds;

/// Replication would be served on the port so far above the listening port.
const HA_PORT_ABOVE: u16 = 1;

/// A broker that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be listened on.
    #[error("{source}; listenPort={port} in the configuration or --listen-port moves the broker's ports")]
    Bind {
        /// The broker's main port.
        port: u16,
        /// Which address, and what the system says.
        source: BindError,
    },
    /// Metrics cannot be shown.
    #[error(
        "metrics cannot be shown at {address}: {source}; metricsPromExporterHost and metricsPromExporterPort move them"
    )]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("the threads that serve cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    /// The inner name server cannot start.
    #[error(transparent)]
    NameServer(#[from] NamesrvError),
    /// The data folder is another broker's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] PersistError),
    /// The plugins cannot be served.
    #[error(transparent)]
    Plugins(#[from] PluginStartError),
}

/// What a started broker says of itself.
pub struct StartReport {
    /// The address told to clients.
    pub advertised: Advertised,
    /// Where clients connect.
    pub listening: Vec<SocketAddr>,
    /// Where the inner name server listens.
    pub name_server: Option<SocketAddr>,
    /// Where metrics are shown.
    pub metrics: Option<SocketAddr>,
    /// What the store found.
    pub store: OpenReport,
    /// How full the disk is.
    pub disk: DiskStatus,
    /// The plugins that serve.
    pub plugins: Vec<PluginStatus>,
}

/// A running broker.
pub struct Broker {
    // In the order in which they are dropped.
    tasks: Tasks,
    exporter: Option<Exporter>,
    server: Server,
    background: Background,
    name_server: Option<NamesrvServer>,
    registrar: Arc<Registrar>,
    long_polling: Arc<LongPolling>,
    pull: Arc<PullMessages>,
    tables: Tables,
    plugins: Arc<PluginHost>,
    store: Arc<MessageStore>,
    report: StartReport,
}

/// The store and what was there before it.
struct Opened {
    folder: OwnFolder,
    store: Arc<MessageStore>,
    long_polling: Arc<LongPolling>,
    woken: mpsc::Receiver<Vec<HeldPull>>,
    clock: Arc<dyn Clock>,
    advertised: Advertised,
}

/// Tables and registers that several processors use.
struct Shared {
    clock: Arc<dyn Clock>,
    store: Arc<MessageStore>,
    topics: Arc<TopicTable>,
    groups: Arc<SubscriptionTable>,
    offsets: Arc<OffsetTable>,
    locks: Arc<QueueLocks>,
    filters: Arc<Filters>,
    consumers: Arc<Consumers>,
    producers: Arc<Producers>,
    registration: Arc<Registration>,
    long_polling: Arc<LongPolling>,
}

impl Broker {
    /// Starts everything; when this returns, clients are served.
    ///
    /// # Errors
    /// The first part that cannot start; the others are taken down again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let advertised = Advertised::find(config.advertised);
        let (long_polling, woken) = LongPolling::new();
        let mut store_config = config.store.clone();
        store_config.memory_bytes = memory_bytes();
        store_config.store_host = SocketAddr::new(advertised.ip, config.listen_port);
        let folder = OwnFolder::check(&config)?;
        let store = MessageStore::open(store_config, long_polling.clone(), clock.clone())?;
        let opened = Opened { folder, store: store.clone(), long_polling, woken, clock, advertised };
        let started = Self::start_on(opened, config).await;
        if started.is_err() {
            // The next start shall not have to check what this one never touched.
            store.shutdown();
        }
        started
    }

    async fn start_on(opened: Opened, config: Config) -> Result<Self, StartError> {
        let Opened { folder, store, long_polling, woken, clock, advertised } = opened;
        folder.claim()?;
        let plugins = PluginHost::start(plugin_config(&config), Arc::new(()))?;
        let shared = Shared::load(&config, clock, store.clone(), &plugins, long_polling.clone())?;
        let (name_server, name_servers) = start_name_server(&config).await?;
        let identity = identity(&config, &advertised);
        let (registrar, registration_watch) = Registrar::new(
            identity,
            shared.topics.clone(),
            shared.registration.clone(),
            &name_servers,
            (config.register_every, config.permission),
        );
        let registrar = Arc::new(registrar);
        let router = Arc::new(shared.router(&config, &advertised, registration_watch));
        let exporter = show_metrics(&config, &advertised, &shared).await?;
        let (pull, clients) = (router.pull.clone(), router.clients.clone());
        let background = Background::start().map_err(StartError::Threads)?;
        let server = listen(&config, router, &background)?;
        if name_server.is_some() {
            // The inner name server knows the broker before anybody can ask it.
            registrar.register().await;
        }
        let tasks = Tasks::start(TaskParts {
            long_polling: long_polling.clone(),
            woken,
            pull: pull.clone(),
            clients,
            tables: shared.tables(),
            persist_offsets_every: config.persist_offsets_every,
            registrar: registrar.clone(),
            clock: shared.clock.clone(),
        });
        let report = StartReport {
            advertised,
            listening: server.local_addrs().to_vec(),
            name_server: name_server.as_ref().map(NamesrvServer::local_addr),
            metrics: exporter.as_ref().map(Exporter::address),
            store: store.open_report().clone(),
            disk: store.disk(),
            plugins: plugins.plugins(),
        };
        let tables = shared.tables();
        Ok(Self {
            tasks,
            exporter,
            server,
            background,
            name_server,
            registrar,
            long_polling,
            pull,
            tables,
            plugins,
            store,
            report,
        })
    }

    /// What there is to tell after the start.
    pub fn report(&self) -> &StartReport {
        &self.report
    }

    /// Counters of the connections.
    pub fn connection_metrics(&self) -> &Arc<Metrics> {
        self.server.metrics()
    }

    /// Stops within about `within`: leaves the name servers, answers who waits, finishes what was begun, and puts
    /// everything on disk.
    pub async fn stop(self, within: Duration) -> ShutdownReport {
        drop((self.tasks, self.exporter));
        let leave = tokio::time::timeout(within / 4, self.registrar.unregister());
        if leave.await.is_err() {
            tracing::warn!("the name servers were not told of the shutdown in time; they will notice by themselves");
        }
        for held in self.long_polling.drain() {
            self.pull.answer_now(held);
        }
        let drained = self.server.drain(within / 2).await;
        drop(self.background);
        tracing::info!(open = drained.open, cut = drained.cut, "connections closed");
        self.tables.persist_all();
        self.plugins.shutdown();
        let report = self.store.shutdown();
        if let Some(name_server) = self.name_server {
            name_server.drain(within / 8).await;
        }
        report
    }
}

impl Shared {
    fn load(
        config: &Config,
        clock: Arc<dyn Clock>,
        store: Arc<MessageStore>,
        plugins: &Arc<PluginHost>,
        long_polling: Arc<LongPolling>,
    ) -> Result<Self, PersistError> {
        let topics = TopicTable::load(config.tables.join("topics.json"), config.auto_create_topic)?;
        let own = OwnTopics {
            cluster: &config.cluster,
            broker: &config.broker_name,
            auto_create: config.auto_create_topic,
            default_queues: config.default_topic_queues,
            cluster_topic: config.cluster_topic,
            broker_topic: config.broker_topic,
            trace_topic: config.trace_topic.as_deref(),
        };
        topics.add_own(own.configs());
        topics.bring_back(&store);
        let filters = Arc::new(Filters::new(plugins.clone()));
        Ok(Self {
            store,
            topics: Arc::new(topics),
            groups: Arc::new(SubscriptionTable::load(
                config.tables.join("subscriptionGroup.json"),
                config.auto_create_group,
            )?),
            offsets: Arc::new(OffsetTable::load(config.tables.join("consumerOffset.json"))?),
            locks: Arc::new(QueueLocks::new(clock.clone())),
            consumers: Arc::new(Consumers::new(filters.clone())),
            filters,
            producers: Arc::default(),
            registration: Arc::default(),
            long_polling,
            clock,
        })
    }

    fn tables(&self) -> Tables {
        Tables {
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            offsets: self.offsets.clone(),
            failing: Arc::default(),
        }
    }

    fn router(
        &self,
        config: &Config,
        advertised: &Advertised,
        registration: crate::register::RegistrationWatch,
    ) -> Router {
        Router {
            send: self.send_messages(config, advertised),
            pull: Arc::new(self.pull_messages(config)),
            clients: Arc::new(self.clients(config)),
            offsets: ConsumerOffsets {
                store: self.store.clone(),
                offsets: self.offsets.clone(),
                topics: self.topics.clone(),
                groups: self.groups.clone(),
                clock: self.clock.clone(),
                memory_bytes: memory_bytes(),
            },
            query: QueryMessages { store: self.store.clone() },
            locks: self.locks.clone(),
            topics: TopicAdmin {
                topics: self.topics.clone(),
                store: self.store.clone(),
                offsets: self.offsets.clone(),
                clock: self.clock.clone(),
                own_topics: vec![
                    config.cluster.clone(),
                    config.broker_name.clone(),
                    waspmq_protocol::name::reply_topic(&config.cluster),
                ],
            },
            groups: GroupAdmin {
                groups: self.groups.clone(),
                offsets: self.offsets.clone(),
                clock: self.clock.clone(),
            },
            registration,
        }
    }

    fn send_messages(&self, config: &Config, advertised: &Advertised) -> SendMessages {
        SendMessages {
            store: self.store.clone(),
            targets: SendTargets {
                store: self.store.clone(),
                topics: self.topics.clone(),
                groups: self.groups.clone(),
                locks: self.locks.clone(),
                registration: self.registration.clone(),
                clock: self.clock.clone(),
                broker_permission: config.permission,
                turn: AtomicU32::new(0),
            },
            entries: BrokerEntries::new(&config.region, config.trace_on, &config.cluster),
            unique_ids: UniqueIds::new(advertised.ip, self.clock.clone()),
            clock: self.clock.clone(),
            sync_flush_timeout: config.sync_flush_timeout,
            reply_marks: Arc::new(ReplyMarks {
                region: config.region.clone(),
                trace_on: if config.trace_on { "true" } else { "false" },
            }),
        }
    }

    fn pull_messages(&self, config: &Config) -> PullMessages {
        PullMessages {
            store: self.store.clone(),
            checks: PullChecks {
                store: self.store.clone(),
                topics: self.topics.clone(),
                groups: self.groups.clone(),
                consumers: self.consumers.clone(),
                filters: self.filters.clone(),
                clock: self.clock.clone(),
                switches: PullSwitches {
                    broker_permission: config.permission,
                    lite_pull: config.lite_pull,
                    property_filter: config.property_filter,
                    count_max: config.pull_count_max,
                },
            },
            offsets: self.offsets.clone(),
            long_polling: self.long_polling.clone(),
            clock: self.clock.clone(),
            aside: Arc::new(Semaphore::new(ASIDE_MAX)),
            limits: PullLimits {
                bytes_max: config.pull_bytes_max,
                long_polling: config.long_polling,
                short_polling_ms: config.short_polling_ms,
                held_max: config.held_pulls_max,
            },
        }
    }

    fn clients(&self, config: &Config) -> Clients {
        Clients {
            producers: self.producers.clone(),
            consumers: self.consumers.clone(),
            groups: self.groups.clone(),
            topics: self.topics.clone(),
            registration: self.registration.clone(),
            filters: self.filters.clone(),
            clock: self.clock.clone(),
            property_filter: config.property_filter,
            notify_changes: config.notify_changes,
        }
    }
}

fn plugin_config(config: &Config) -> HostConfig {
    HostConfig {
        folder: config.plugins.clone(),
        cache_folder: config.root.join("waspmq/plugin-cache"),
        standard: STANDARD_PLUGINS,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        limits: HostLimits::default(),
    }
}

/// The inner name server, if there is one, and the addresses to register with.
async fn start_name_server(config: &Config) -> Result<(Option<NamesrvServer>, Vec<String>), StartError> {
    match &config.name_servers {
        NameServers::Outside(addresses) => Ok((None, addresses.clone())),
        NameServers::Inside { port } => {
            let mut inner = NamesrvConfig::in_folder(config.root.join("waspmq/namesrv"));
            inner.listen = SocketAddr::new(config.bind, *port);
            let server = NamesrvServer::start(inner).await?;
            let reached = format!("127.0.0.1:{}", server.local_addr().port());
            Ok((Some(server), vec![reached]))
        }
    }
}

async fn show_metrics(
    config: &Config,
    advertised: &Advertised,
    shared: &Shared,
) -> Result<Option<Exporter>, StartError> {
    let Some(shown) = &config.metrics else { return Ok(None) };
    let mut registry = metrics::registry(&config.cluster, &config.broker_name, &shown.labels);
    registry.register_collector(Box::new(StoreMetrics { store: shared.store.clone(), clock: shared.clock.clone() }));
    let address = SocketAddr::new(shown.host.unwrap_or(advertised.ip), shown.port);
    let started = Exporter::start(address, registry).await;
    started.map(Some).map_err(|source| StartError::Metrics { address, source })
}

fn identity(config: &Config, advertised: &Advertised) -> BrokerIdentity {
    let address = |port: u16| SocketAddr::new(advertised.ip, port).to_string();
    BrokerIdentity {
        cluster: config.cluster.clone(),
        broker_name: config.broker_name.clone(),
        broker_id: config.broker_id,
        address: address(config.listen_port),
        ha_address: address(config.listen_port.saturating_add(HA_PORT_ABOVE)),
    }
}

fn listen(config: &Config, router: Arc<Router>, background: &Background) -> Result<Server, StartError> {
    let port = config.listen_port;
    let vip = port.saturating_sub(VIP_PORT_BELOW);
    let listen = [port, vip].map(|port| SocketAddr::new(config.bind, port)).to_vec();
    let server = ServerConfig { background: background.handle(), ..ServerConfig::new(listen) };
    Server::bind(server, router).map_err(|source| StartError::Bind { port, source })
}
