//! The client conformance suite: unmodified clients of five kinds run what their users run, and every row is judged
//! here. One test per client and scenario, named `CLIENT::SCENARIO`; all share one broker, except scenarios that stop
//! theirs. `cargo test` runs the quick part; `WASPMQ_CONFORMANCE=full` everything, and `WASPMQ_REQUIRE_CLIENTS=1`
//! makes a missing tool or network a failure instead of a skip. `WASPMQ_TEST_BROKER=java` tests the tests.

mod consuming;
mod filtering;
mod messages;
mod plugins;
mod pulling;
mod querying;
mod sending;
mod sharing;
mod together;

use std::collections::HashMap;
use std::fs::File;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;
use waspmq_tests::broker::{BrokerUnderTest, Maker, maker};
use waspmq_tests::cache::{Unready, verdict};
use waspmq_tests::client::{Client, Header, JavaVersion};
use waspmq_tests::driver::Driver;
use waspmq_tests::scene::Scene;

/// The suite waits far more than it works, so it runs more tests at once than there are cores.
const TESTS_AT_ONCE: usize = 10;

/// One scenario, and which clients can play it.
struct Scenario {
    name: &'static str,
    clients: fn(Client) -> bool,
    /// Also with the binary header encoding.
    binary: bool,
    run: Run,
}

#[derive(Clone, Copy)]
enum Run {
    /// On the broker that all share.
    Shared(fn(&Scene) -> Result<()>),
    /// On a broker of its own, to stop and start.
    Alone(fn(&Scene, &mut BrokerUnderTest) -> Result<()>),
    /// On a broker of its own with a folder of plugins. Ours only.
    Plugins(fn(&Scene, &mut BrokerUnderTest) -> Result<()>),
    /// Needs no driver: the programs of `examples/`.
    Example(fn(&World, Client) -> Result<(), Unready>),
}

fn any(_: Client) -> bool {
    true
}

fn java_4_9_or_later(client: Client) -> bool {
    matches!(client, Client::Java(JavaVersion::V4_9 | JavaVersion::V5, _))
}

/// 4.4.0 is left out for time only.
fn java_4_9_or_later_of_ours(client: Client) -> bool {
    maker() == Maker::WaspMq && java_4_9_or_later(client)
}

fn java_or_go(client: Client) -> bool {
    client.is_java() || client == Client::Go
}

/// All scenarios, the slow ones first.
const SCENARIOS: &[Scenario] = &[
    shared(
        "ordered_messages_stay_in_order_when_a_consumer_joins",
        Client::is_java,
        false,
        consuming::ordered_with_join,
    ),
    shared("queues_are_shared_averagely", any, false, sharing::averagely),
    shared("queues_are_shared_by_circle", java_or_go, false, sharing::by_circle),
    alone("scheduled_pull_goes_on_after_a_restart", Client::is_java, pulling::scheduled),
    alone("lite_pull_goes_on_after_a_restart", java_4_9_or_later, pulling::lite),
    plugins("own_filter_comes_late", plugins::plugin_comes_late),
    plugins("own_filter", plugins::own_filter),
    alone("send_to_a_stopped_broker_fails", any, sending::to_a_stopped_broker),
    shared("quickstart", any, true, sending::quickstart),
    shared("ordered_messages_stay_in_order", |client| client != Client::Node, true, consuming::ordered),
    shared("ordered_message_refused_blocks_its_queue", java_or_go, false, consuming::ordered_refusal),
    shared("broadcast", any, false, consuming::broadcast),
    shared("broadcast_offsets_stay_at_the_client", Client::is_java, false, consuming::broadcast_restart),
    shared("pull_by_hand", Client::is_java, true, pulling::by_hand),
    shared("pull_from_offset", |client| client == Client::Go, false, pulling::from_offset),
    shared("pull_all", |client| client == Client::Python, false, pulling::all),
    shared("async_send", any, true, sending::asynchronous),
    shared("one_way_send", |client| client != Client::Node, true, sending::one_way),
    shared("batch_send", java_or_go, true, sending::batch),
    shared("ordered_send", any, true, sending::ordered),
    shared("explicit_queue", java_or_go, true, sending::explicit_queue),
    shared("create_topic", java_or_go, true, sending::create_topic),
    shared("two_groups", any, false, consuming::two_groups),
    shared("tag_filter", any, true, filtering::tags),
    shared("sql_filter", |client| client != Client::Python, true, filtering::sql),
    shared("sql_refused_when_malformed", Client::is_java, true, filtering::sql_malformed),
    shared("bodies", any, true, messages::bodies),
    shared("unicode", any, true, messages::unicode),
    shared("query_by_key_and_id", Client::is_java, true, querying::by_key_and_id),
    shared("query_offsets_and_time", Client::is_java, true, querying::offsets_and_time),
    Scenario { name: "example", clients: any, binary: false, run: Run::Example(together::example) },
];

const fn shared(
    name: &'static str,
    clients: fn(Client) -> bool,
    binary: bool,
    run: fn(&Scene) -> Result<()>,
) -> Scenario {
    Scenario { name, clients, binary, run: Run::Shared(run) }
}

const fn alone(
    name: &'static str,
    clients: fn(Client) -> bool,
    run: fn(&Scene, &mut BrokerUnderTest) -> Result<()>,
) -> Scenario {
    Scenario { name, clients, binary: false, run: Run::Alone(run) }
}

const fn plugins(name: &'static str, run: fn(&Scene, &mut BrokerUnderTest) -> Result<()>) -> Scenario {
    Scenario { name, clients: java_4_9_or_later_of_ours, binary: false, run: Run::Plugins(run) }
}

impl Scenario {
    fn is_played_by(&self, client: Client) -> bool {
        (self.clients)(client) && (self.binary || !matches!(client, Client::Java(_, Header::Binary)))
    }

    /// What a plain `cargo test` runs: one scenario for the newest client of each language.
    fn is_quick_for(&self, client: Client) -> bool {
        let newest = !client.is_java() || client == Client::Java(JavaVersion::V5, Header::Json);
        newest && self.name == "quickstart"
    }
}

type Started = OnceLock<Result<Arc<Driver>, Unready>>;

/// What the tests share: the broker, one driver per client, and a folder for logs and the clients' homes.
struct World {
    broker: OnceLock<Result<BrokerUnderTest, String>>,
    drivers: Mutex<HashMap<Client, Arc<Started>>>,
    home: TempDir,
}

impl World {
    fn new() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("waspmq-clients-").tempdir()?;
        Ok(Self { broker: OnceLock::new(), drivers: Mutex::default(), home })
    }

    fn broker(&self) -> Result<&BrokerUnderTest> {
        let start = || BrokerUnderTest::start("shared", &[]).map_err(|error| format!("{error:#}"));
        self.broker.get_or_init(start).as_ref().map_err(|error| anyhow!("no broker to test: {error}"))
    }

    fn driver(&self, client: Client) -> Result<Arc<Driver>, Unready> {
        let started = {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(drivers.entry(client).or_default())
        };
        match started.get_or_init(|| self.start_driver(client)) {
            Ok(driver) => Ok(Arc::clone(driver)),
            Err(Unready::Missing(what)) => Err(Unready::Missing(what.clone())),
            Err(Unready::Broken(error)) => Err(Unready::Broken(anyhow!("{error:#}"))),
        }
    }

    fn start_driver(&self, client: Client) -> Result<Arc<Driver>, Unready> {
        let home = self.client_home(&client.name())?;
        let log = File::create(home.join("driver.log")).context("cannot make the driver's log")?;
        Ok(Arc::new(Driver::start(client.prepare(&home)?, log)?))
    }

    /// A folder that stands in for a user's home.
    fn client_home(&self, name: &str) -> Result<std::path::PathBuf> {
        let home = self.home.path().join(name);
        std::fs::create_dir_all(&home).context("cannot make a client's home")?;
        Ok(home)
    }

    fn play(&self, scenario: &Scenario, client: Client) -> Result<(), Unready> {
        let scene = |driver: Arc<Driver>, broker: &BrokerUnderTest| {
            Scene::new(client, driver, scenario.name, broker.namesrv(), broker.address())
        };
        // The driver first: a client that is missing needs no broker.
        match scenario.run {
            Run::Shared(run) => {
                let driver = self.driver(client)?;
                Ok(run(&scene(driver, self.broker()?))?)
            }
            Run::Alone(run) => {
                let driver = self.driver(client)?;
                let mut broker = BrokerUnderTest::start(scenario.name, &[])?;
                run(&scene(driver, &broker), &mut broker)?;
                Ok(broker.finish()?)
            }
            Run::Plugins(run) => {
                let driver = self.driver(client)?;
                let mut broker = BrokerUnderTest::start_with_plugins(scenario.name)?;
                run(&scene(driver, &broker), &mut broker)?;
                Ok(broker.finish()?)
            }
            Run::Example(run) => run(self, client),
        }
    }

    /// Ends all processes. Logs and stores stay behind a failure.
    fn finish(self, failed: bool) -> Result<()> {
        drop(self.drivers);
        if failed {
            eprintln!("the clients' logs are kept in {}", self.home.keep().display());
            return Ok(());
        }
        match self.broker.into_inner() {
            Some(Ok(broker)) => broker.finish(),
            _ => Ok(()),
        }
    }
}

fn trials(world: &Arc<World>, full: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for scenario in SCENARIOS {
        for client in Client::ALL {
            if scenario.is_played_by(client) && (full || scenario.is_quick_for(client)) {
                let name = format!("{}::{}", client.name(), scenario.name);
                let world = Arc::clone(world);
                let title = name.clone();
                trials.push(Trial::test(name, move || Ok(verdict(&title, world.play(scenario, client))?)));
            }
        }
    }
    if full {
        let world = Arc::clone(world);
        let name = "all::every_client_reads_every_other";
        trials.push(Trial::test(name, move || Ok(verdict(name, together::everyone(&world))?)));
    }
    trials
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    let full = std::env::var("WASPMQ_CONFORMANCE").is_ok_and(|value| value == "full");
    let world = match World::new() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("cannot begin: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(&world, full));
    let finished = Arc::into_inner(world).map_or(Ok(()), |world| world.finish(conclusion.has_failed()));
    if let Err(error) = &finished {
        eprintln!("the end of the suite failed: {error:#}");
    }
    if conclusion.has_failed() || finished.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
