//! One broker process as a user starts it, name server inside, and everything the operating system can tell about it:
//! output, exit code, memory. Used by `tests/whole_broker`, which starts, stops and kills brokers and looks at what is left.
//! Dropping a [`Standalone`] kills its process; its folder goes with it, unless the test is panicking.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::broker::{binary, free_ports, tail};

/// Generous: the machine may be busy with other tests.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A process that has ended, and all it said.
#[derive(Debug)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Time from the last signal to the end.
    pub took: Duration,
}

/// A broker with a folder and ports of its own, running or not.
pub struct Standalone {
    folder: PathBuf,
    names_port: u16,
    port: u16,
    child: Option<Child>,
    /// Each start has its own output files.
    starts: u32,
}

impl Standalone {
    /// A folder and ports; nothing runs yet. `name` is for the folder's name.
    pub fn prepare(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("waspmq-{name}-")).tempdir()?.keep();
        let (names_port, port) = free_ports()?;
        Ok(Self { folder, names_port, port, child: None, starts: 0 })
    }

    /// [`Standalone::prepare`] and [`Standalone::start`].
    pub fn serving(name: &str, options: &[&str]) -> Result<Self> {
        let mut this = Self::prepare(name)?;
        this.start(options)?;
        Ok(this)
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the name server inside listens.
    pub fn namesrv(&self) -> String {
        format!("127.0.0.1:{}", self.names_port)
    }

    /// The folder that everything of this broker is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// `broker` with this one's folder and ports, small files and `options`; `WASPMQ_LOG` is not inherited.
    pub fn command(&self, options: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("broker")?);
        command.env("HOME", &self.folder).env_remove("WASPMQ_LOG").current_dir(&self.folder).stdin(Stdio::null());
        command.arg("--data").arg(self.data());
        command.args(["--listen-port", &self.port.to_string(), "--namesrv-port", &self.names_port.to_string()]);
        command.args(["--advertise", "127.0.0.1", "--set", "bindAddress=127.0.0.1"]);
        command.args(["--set", "mappedFileSizeCommitLog=16777216"]).args(options);
        Ok(command)
    }

    /// Starts it and waits until it serves; returns the page it prints.
    pub fn start(&mut self, options: &[&str]) -> Result<String> {
        self.launch(options)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let page = fs::read_to_string(self.output("out"))?;
            if page.contains("\nready after ") {
                return Ok(page);
            }
            if let Some(status) = self.running()?.try_wait()? {
                bail!("the broker ended at once ({status}):\n{}", tail(&self.output("err")));
            }
            ensure!(Instant::now() < deadline, "not serving after {START_TIMEOUT:?}:\n{}", tail(&self.output("err")));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self, options: &[&str]) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let mut command = self.command(options)?;
        command.stdout(File::create(self.output("out"))?).stderr(File::create(self.output("err"))?);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    }

    /// Sends a signal and waits until the process has ended.
    pub fn end(&mut self, signal: Signal, within: Duration) -> Result<Ended> {
        let sent = Instant::now();
        let pid = i32::try_from(self.running()?.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).context("cannot send the signal")?;
        self.ended(sent, within).with_context(|| format!("after {signal:?}"))
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self, within: Duration) -> Result<Ended> {
        self.ended(Instant::now(), within)
    }

    fn ended(&mut self, since: Instant, within: Duration) -> Result<Ended> {
        let status = loop {
            if let Some(status) = self.running()?.try_wait()? {
                break status;
            }
            ensure!(since.elapsed() < within, "still running after {within:?}:\n{}", tail(&self.output("err")));
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = since.elapsed();
        self.child = None;
        let (out, err) = (fs::read_to_string(self.output("out"))?, fs::read_to_string(self.output("err"))?);
        Ok(Ended { status, out, err, took })
    }

    /// Bytes of its memory that only it uses, page cache of the data not counted.
    pub fn memory(&mut self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running()?.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Processor time of all its threads of this name.
    pub fn thread_time(&mut self, name: &str) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.running()?.id()))? {
            let task = task?.path();
            // A thread may end meanwhile.
            let Ok(its_name) = fs::read_to_string(task.join("comm")) else { continue };
            if its_name.trim_end() == name {
                let times = fs::read_to_string(task.join("schedstat"))?;
                total += Duration::from_nanos(times.split(' ').next().context("no times")?.parse()?);
            }
        }
        Ok(total)
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.output("err")).unwrap_or_default()
    }

    fn running(&mut self) -> Result<&mut Child> {
        self.child.as_mut().context("the broker does not run")
    }

    fn output(&self, which: &str) -> PathBuf {
        self.folder.join(format!("start-{}.{which}", self.starts))
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("output and data of this broker are kept in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The load tool, with these arguments.
pub fn mqbench(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("mqbench")?);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}
