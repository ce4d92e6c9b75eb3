//! The broker under test: a nameserver and a broker as processes of their own, in a temporary folder, on free ports.
//! Ours by default; with `WASPMQ_TEST_BROKER=java` Apache RocketMQ's own, which is how the tests themselves are tested.
//! [`BrokerUnderTest::hand_over`] lets another maker's broker go on with the same folder.
//! `WASPMQ_BROKER_BIN` names the `broker` binary to test (`namesrv` and `mqbench` lie beside it); without it cargo builds
//! them.
//! Dropping a [`BrokerUnderTest`] kills what still runs and leaves its folder for whoever looks for the reason.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cache::{self, Unready};
use crate::client::{fetch, need};
use crate::wire;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// A topic every broker that creates topics by itself announces as soon as it is up.
const TOPIC_OF_A_RUNNING_BROKER: &str = "TBW102";

/// Whose broker is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// This repository's.
    WaspMq,
    /// Apache RocketMQ in Java, the version that `WASPMQ_PEER_VERSION` names, else 5.3.3.
    Java,
    /// Apache RocketMQ in Java, the last 4.9 that was published with its broker.
    Java49,
}

impl Maker {
    /// Fetches what its programs need, if it is not in the cache yet.
    pub fn prepare(self) -> Result<(), Unready> {
        if self == Self::WaspMq {
            return Ok(());
        }
        need("java")?;
        if !cache::root()?.join(format!("peer-{}", self.peer_version())).is_dir() {
            need("mvn")?;
            let home = tempfile::tempdir().context("cannot make a folder")?;
            let mut command = self.peer("fetch", home.path());
            command.stdin(Stdio::null());
            fetch(command)?;
        }
        Ok(())
    }

    /// Of the Java broker.
    fn peer_version(self) -> String {
        match self {
            Self::Java49 => "4.9.7".to_owned(),
            _ => std::env::var("WASPMQ_PEER_VERSION").unwrap_or_else(|_| "5.3.3".to_owned()),
        }
    }

    /// A command line for one of the Java programs.
    fn peer(self, program: &str, home: &Path) -> Command {
        let mut command = Command::new("bash");
        command.env("WASPMQ_PEER_VERSION", self.peer_version());
        command.arg(clients_folder().join("peer.sh")).arg(program).arg(home);
        command
    }
}

/// Whose broker this run tests.
pub fn maker() -> Maker {
    match std::env::var("WASPMQ_TEST_BROKER").as_deref() {
        Ok("java") => Maker::Java,
        _ => Maker::WaspMq,
    }
}

/// A nameserver and a broker, both serving.
pub struct BrokerUnderTest {
    maker: Maker,
    /// Added to broker.conf.
    settings: Vec<(String, String)>,
    /// The nameserver runs inside the broker, as it does for who starts ours without more ado.
    embedded: bool,
    folder: PathBuf,
    plugins: Option<PathBuf>,
    names_port: u16,
    broker_port: u16,
    namesrv: Option<Child>,
    broker: Option<Child>,
}

impl BrokerUnderTest {
    /// Starts both with `settings` added to broker.conf and waits until they serve. `name` is for the folder's name.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut this = Self::prepare(maker(), name, settings, false)?;
        this.namesrv = Some(this.spawn("namesrv")?);
        this.start_broker()?;
        Ok(this)
    }

    /// This maker's broker, whatever the environment says, with a nameserver of ours.
    pub fn start_by(maker: Maker, name: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut this = Self::prepare(Maker::WaspMq, name, settings, false)?;
        this.namesrv = Some(this.spawn("namesrv")?);
        this.hand_over(maker)?;
        Ok(this)
    }

    /// Starts this maker's broker on the folder and port of the one that was stopped or killed. The nameserver stays.
    pub fn hand_over(&mut self, maker: Maker) -> Result<()> {
        ensure!(self.broker.is_none(), "the folder is in use");
        self.maker = maker;
        self.write_settings()?;
        self.start_broker()
    }

    /// As [`BrokerUnderTest::start`], with the nameserver inside the broker where it can be (not in Java's).
    pub fn start_embedded(name: &str) -> Result<Self> {
        if maker() == Maker::Java {
            return Self::start(name, &[]);
        }
        let mut this = Self::prepare(Maker::WaspMq, name, &[], true)?;
        this.start_broker()?;
        Ok(this)
    }

    /// As [`BrokerUnderTest::start_embedded`], with a folder of plugins, empty at first. Ours only.
    pub fn start_with_plugins(name: &str) -> Result<Self> {
        let mut this = Self::prepare(Maker::WaspMq, name, &[], true)?;
        let plugins = this.folder.join("plugins");
        fs::create_dir(&plugins)?;
        this.plugins = Some(plugins);
        this.start_broker()?;
        Ok(this)
    }

    /// The folder of plugins that this broker watches.
    pub fn plugins(&self) -> Result<&Path> {
        self.plugins.as_deref().context("this broker was started without a folder of plugins")
    }

    /// What the broker has printed and logged so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log("broker")).unwrap_or_default()
    }

    fn prepare(maker: Maker, name: &str, settings: &[(&str, &str)], embedded: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("waspmq-{name}-")).tempdir()?.keep();
        let (names_port, broker_port) = free_ports()?;
        let settings = settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let this = Self {
            maker,
            settings,
            embedded,
            folder,
            plugins: None,
            names_port,
            broker_port,
            namesrv: None,
            broker: None,
        };
        this.write_settings()?;
        Ok(this)
    }

    /// Where clients find the nameserver.
    pub fn namesrv(&self) -> String {
        format!("127.0.0.1:{}", self.names_port)
    }

    /// Where clients find the broker.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    /// Starts the broker (again, on the same store and ports) and waits until it serves.
    pub fn start_broker(&mut self) -> Result<()> {
        // One at a time: a Java broker's start keeps every core of a small machine busy.
        static STARTING: Mutex<()> = Mutex::new(());
        let _turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broker = self.spawn("broker")?;
        let ready = self.wait_until_ready(&mut broker);
        self.broker = Some(broker);
        ready
    }

    /// Stops the broker as an operator would, by SIGTERM, and waits for its end. The nameserver stays.
    pub fn stop_broker(&mut self) -> Result<()> {
        self.broker.take().map_or(Ok(()), |broker| stop(broker, "broker"))
    }

    /// Ends the broker by SIGKILL.
    pub fn kill_broker(&mut self) -> Result<()> {
        let mut broker = self.broker.take().context("the broker does not run")?;
        broker.kill()?;
        broker.wait()?;
        Ok(())
    }

    /// The data folder.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Stops both cleanly and removes the folder.
    pub fn finish(mut self) -> Result<()> {
        self.stop_broker()?;
        self.namesrv.take().map_or(Ok(()), |namesrv| stop(namesrv, "namesrv"))?;
        fs::remove_dir_all(&self.folder).context("cannot remove the folder of the broker under test")
    }

    fn write_settings(&self) -> Result<()> {
        let store = self.store();
        let mut text = format!(
            "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbrokerIP1=127.0.0.1\n\
             listenPort={}\nhaListenPort={}\nstorePathRootDir={}\nstorePathCommitLog={}\n\
             enablePropertyFilter=true\n",
            self.broker_port,
            self.broker_port + 1,
            store.display(),
            store.join("commitlog").display(),
        );
        if self.maker != Maker::WaspMq {
            // Cold and on a busy machine it refuses sends that waited 200 ms. Ours gets no such help.
            text.push_str("waitTimeMillsInSendQueue=15000\n");
        }
        if !self.embedded {
            text.push_str(&format!("namesrvAddr={}\n", self.namesrv()));
        }
        for (key, value) in &self.settings {
            text.push_str(&format!("{key}={value}\n"));
        }
        fs::write(self.folder.join("broker.conf"), text)?;
        fs::write(self.folder.join("namesrv.conf"), format!("listenPort={}\n", self.names_port))?;
        Ok(())
    }

    fn spawn(&self, program: &str) -> Result<Child> {
        let home = self.folder.join(program);
        fs::create_dir_all(&home)?;
        let mut command = match self.maker {
            Maker::WaspMq => {
                let mut command = Command::new(binary(program)?);
                command.env("HOME", &home); // What no setting places elsewhere goes there.
                command
            }
            Maker::Java | Maker::Java49 => self.maker.peer(program, &home),
        };
        let log = File::options().create(true).append(true).open(self.log(program))?;
        command.arg("-c").arg(self.folder.join(format!("{program}.conf"))).current_dir(&home);
        if self.embedded {
            command.arg("--namesrv-port").arg(self.names_port.to_string());
        }
        if let Some(plugins) = self.plugins.as_ref().filter(|_| program == "broker") {
            command.arg("--plugins").arg(plugins);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    }

    fn log(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }

    fn wait_until_ready(&self, broker: &mut Child) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !wire::has_route(&self.namesrv(), TOPIC_OF_A_RUNNING_BROKER).unwrap_or(false) || !self.broker_answers() {
            if let Some(status) = broker.try_wait()? {
                bail!("the broker ended at once ({status}); its log:\n{}", tail(&self.log("broker")));
            }
            ensure!(
                Instant::now() < deadline,
                "not serving after {START_TIMEOUT:?}; logs of namesrv and broker:\n{}\n{}",
                tail(&self.log("namesrv")),
                tail(&self.log("broker"))
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The nameserver may still hold the route of a broker that has just gone, so the broker is asked too.
    fn broker_answers(&self) -> bool {
        wire::stored_offset(&self.address(), "TOOLS_CONSUMER", TOPIC_OF_A_RUNNING_BROKER, 0).is_ok()
    }
}

impl Drop for BrokerUnderTest {
    fn drop(&mut self) {
        for child in [self.broker.as_mut(), self.namesrv.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.folder.exists() {
            eprintln!("logs and store of this broker are kept in {}", self.folder.display());
        }
    }
}

/// The folder `tests/clients` of this repository.
pub fn clients_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn stop(mut child: Child, what: &str) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot ask the {what} to stop"))?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("the {what} did not stop within {STOP_TIMEOUT:?} of SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The last lines of a log, for error messages.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Our program of that name: beside `WASPMQ_BROKER_BIN`, else built once by the cargo that runs the tests.
pub(crate) fn binary(program: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(broker) = std::env::var_os("WASPMQ_BROKER_BIN") {
        return Ok(PathBuf::from(broker).with_file_name(program));
    }
    match BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(folder) => Ok(folder.join(program)),
        Err(error) => bail!("{error}"),
    }
}

fn build() -> Result<PathBuf> {
    // The test binary is TARGET/PROFILE/deps/NAME: its profile is the one to build.
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("the test binary is in no target folder")?.to_owned();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "-p", "waspmq-broker", "-p", "waspmq-namesrv", "-p", "waspmq-load", "--bins"]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    command.env("CARGO_TARGET_DIR", folder.parent().context("no target folder")?);
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("cannot run cargo")?;
    ensure!(status.success(), "building broker, namesrv and mqbench failed");
    Ok(folder)
}

/// A port for the nameserver, and one for the broker with its neighbours free: two below (the port of older clients)
/// and one above (replication). Below the range the system itself gives out.
pub(crate) fn free_ports() -> Result<(u16, u16)> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..500 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 1000)?;
        let base = 20_000 + (start * 7 + step * 10) % 12_000;
        let ports = [base, base + 3, base + 5, base + 6];
        let held: Vec<_> = ports.iter().filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).collect();
        if held.len() == ports.len() {
            return Ok((base, base + 5));
        }
    }
    bail!("no free ports between 20000 and 32000")
}
