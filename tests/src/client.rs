//! The users' clients, unmodified, at pinned versions: how each is fetched from its registry, how its driver is built,
//! and how it is started. Fetching needs the network once; what it brings stays in the cache folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::broker::clients_folder;
use crate::cache::{self, Unready};

/// One client at one version. Java comes three times, and each also with the binary header encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// `org.apache.rocketmq:rocketmq-client`.
    Java(JavaVersion, Header),
    /// `github.com/apache/rocketmq-client-go/v2`.
    Go,
    /// `ali-ons`.
    Node,
    /// `rocketmq`, a binding of the C++ client that lies inside its wheel.
    Python,
}

/// The Java clients users run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JavaVersion {
    /// 4.4.0
    V4_4,
    /// 4.9.8
    V4_9,
    /// 5.3.3
    V5,
}

/// How a Java client encodes its request headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// The default.
    Json,
    /// `-Drocketmq.serialize.type=ROCKETMQ`.
    Binary,
}

impl JavaVersion {
    fn number(self) -> &'static str {
        match self {
            Self::V4_4 => "4.4.0",
            Self::V4_9 => "4.9.8",
            Self::V5 => "5.3.3",
        }
    }

    /// The folder with what this version spells otherwise.
    fn sources(self) -> &'static str {
        match self {
            Self::V4_4 => "v4.4",
            Self::V4_9 => "v4.9",
            Self::V5 => "v5",
        }
    }
}

impl Client {
    /// Every client, in the order in which tests are listed.
    pub const ALL: [Self; 9] = [
        Self::Java(JavaVersion::V4_4, Header::Json),
        Self::Java(JavaVersion::V4_4, Header::Binary),
        Self::Java(JavaVersion::V4_9, Header::Json),
        Self::Java(JavaVersion::V4_9, Header::Binary),
        Self::Java(JavaVersion::V5, Header::Json),
        Self::Java(JavaVersion::V5, Header::Binary),
        Self::Go,
        Self::Node,
        Self::Python,
    ];

    /// The client's part of a test's name.
    pub fn name(self) -> String {
        match self {
            Self::Java(version, Header::Json) => format!("java_{}", version.number().replace('.', "_")),
            Self::Java(version, Header::Binary) => format!("java_{}_binary", version.number().replace('.', "_")),
            Self::Go => "go".to_owned(),
            Self::Node => "node".to_owned(),
            Self::Python => "python".to_owned(),
        }
    }

    /// Whether this is a Java client, of any version and header encoding.
    pub fn is_java(self) -> bool {
        matches!(self, Self::Java(..))
    }

    /// Fetches and builds what is not in the cache yet, and returns the command that starts the driver.
    /// `home` becomes the driver's home folder: clients write logs and broadcast offsets there.
    pub fn prepare(self, home: &Path) -> Result<Command, Unready> {
        let mut command = match self {
            Self::Java(version, header) => prepare_java(version, header, home)?,
            Self::Go => prepare_go()?,
            Self::Node => prepare_node()?,
            Self::Python => prepare_python()?,
        };
        command.env("HOME", home).current_dir(home);
        Ok(command)
    }

    /// The command that runs one program of `examples/`, given by the name of its file without extension.
    pub fn example(self, program: &str, home: &Path) -> Result<Command, Unready> {
        let examples = clients_folder().join("../../examples");
        let mut command = match self {
            Self::Java(version, _) => {
                let sources = cache::files(&examples.join("java/src/main/java/quickstart"), "java")?;
                let classes = compile_java(version, &sources)?;
                let mut command = java(version, &classes, home)?;
                command.arg(format!("quickstart.{program}"));
                command
            }
            Self::Go => {
                let folder = examples.join("go");
                let sources = [folder.join("go.sum"), folder.join(program).join("main.go")];
                Command::new(build_go(&folder, &format!("./{program}"), &sources)?)
            }
            Self::Node => node(&examples.join("node").join(format!("{program}.js")))?,
            Self::Python => python(&examples.join("python").join(format!("{program}.py")))?,
        };
        command.env("HOME", home).current_dir(home);
        Ok(command)
    }
}

fn prepare_java(version: JavaVersion, header: Header, home: &Path) -> Result<Command, Unready> {
    let folder = clients_folder().join("java");
    let mut sources = cache::files(&folder.join("src/driver"), "java")?;
    sources.extend(cache::files(&folder.join(version.sources()).join("driver"), "java")?);
    let classes = compile_java(version, &sources)?;
    let encoding = match header {
        Header::Json => "JSON",
        Header::Binary => "ROCKETMQ",
    };
    let mut command = java(version, &classes, home)?;
    command.arg(format!("-Drocketmq.serialize.type={encoding}")).arg("driver.Driver");
    Ok(command)
}

fn java_libraries(version: JavaVersion) -> Result<PathBuf, Unready> {
    cache::entry(&format!("java-{}", version.number()), |libraries| {
        need("mvn")?;
        let mut mvn = Command::new("mvn");
        mvn.args(["-q", "-B", "dependency:copy-dependencies"])
            .arg("-f")
            .arg(clients_folder().join("java/pom.xml"))
            .arg(format!("-Dclient.version={}", version.number()))
            .arg(format!("-DoutputDirectory={}", libraries.display()));
        fetch(mvn)
    })
}

fn compile_java(version: JavaVersion, sources: &[PathBuf]) -> Result<PathBuf, Unready> {
    let libraries = java_libraries(version)?;
    let name = format!("java-{}-classes-{}", version.number(), cache::fingerprint(sources)?);
    cache::entry(&name, |classes| {
        need("javac")?;
        let mut javac = Command::new("javac");
        // Deprecated calls are the point: they are what users' programs make.
        javac.args(["-nowarn", "-encoding", "UTF-8", "-d"]).arg(classes);
        javac.arg("-cp").arg(format!("{}/*", libraries.display())).args(sources);
        Ok(run(javac)?)
    })
}

/// A Java command line that only lacks the main class.
fn java(version: JavaVersion, classes: &Path, home: &Path) -> Result<Command, Unready> {
    need("java")?;
    let mut command = Command::new("java");
    command
        .arg("--add-opens=java.base/java.nio=ALL-UNNAMED") // Client 4.4's Netty does not start on Java 17 without.
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"])
        .arg("-Drocketmq.client.unlockDelayTimeMills=1000") // 20 s by default: how long a lost ordered queue stays locked.
        .arg(format!("-Duser.home={}", home.display()))
        .arg("-cp")
        .arg(format!("{}:{}/*", classes.display(), java_libraries(version)?.display()));
    Ok(command)
}

fn prepare_go() -> Result<Command, Unready> {
    let folder = clients_folder().join("go");
    let mut sources = cache::files(&folder, "go")?;
    sources.push(folder.join("go.sum"));
    Ok(Command::new(build_go(&folder, ".", &sources)?))
}

/// Builds the main package `package` of the module in `folder`.
fn build_go(folder: &Path, package: &str, sources: &[PathBuf]) -> Result<PathBuf, Unready> {
    let entry = cache::entry(&format!("go-{}", cache::fingerprint(sources)?), |built| {
        need("go")?;
        let mut download = Command::new("go");
        download.args(["mod", "download"]).current_dir(folder);
        fetch(download)?;
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(built.join("program")).arg(package).current_dir(folder);
        Ok(run(build)?)
    })?;
    Ok(entry.join("program"))
}

fn prepare_node() -> Result<Command, Unready> {
    node(&clients_folder().join("node/driver.js"))
}

fn node(program: &Path) -> Result<Command, Unready> {
    need("node")?;
    let folder = clients_folder().join("node");
    let wanted = [folder.join("package.json"), folder.join("package-lock.json")];
    let modules = cache::entry(&format!("node-{}", cache::fingerprint(&wanted)?), |installed| {
        need("npm")?;
        for file in &wanted {
            let name = file.file_name().unwrap_or_default();
            fs::copy(file, installed.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(installed);
        fetch(npm)
    })?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules.join("node_modules")).arg(program);
    Ok(command)
}

fn prepare_python() -> Result<Command, Unready> {
    python(&clients_folder().join("python/driver.py"))
}

fn python(program: &Path) -> Result<Command, Unready> {
    need("python3")?;
    let wanted = clients_folder().join("python/requirements.txt");
    let packages =
        cache::entry(&format!("python-{}", cache::fingerprint(std::slice::from_ref(&wanted))?), |packages| {
            let mut pip = Command::new("python3");
            // A folder of its own: Debian's Python refuses packages in its own place, and we want none there.
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
                "--target",
            ]);
            fetch({
                pip.arg(packages).arg("-r").arg(&wanted);
                pip
            })
        })?;
    // The real interpreter: a version manager's stand-in looks for it in the home folder, which is another one here.
    let mut which = Command::new("python3");
    let output = which.args(["-c", "import sys; print(sys.executable)"]).output().context("cannot run python3")?;
    let mut command = Command::new(String::from_utf8_lossy(&output.stdout).trim());
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").arg(program);
    Ok(command)
}

/// Refuses where `tool` is not on the path.
pub(crate) fn need(tool: &str) -> Result<(), Unready> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()) {
        true => Ok(()),
        false => Err(Unready::Missing(format!("{tool} not found"))),
    }
}

/// Runs a command that needs the network.
pub(crate) fn fetch(command: Command) -> Result<(), Unready> {
    let what = command.get_program().to_owned();
    run(command).map_err(|error| Unready::Missing(format!("{} could not fetch: {error:#}", OsStr::display(&what))))
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(12)).copied().collect::<Vec<_>>().join("\n");
    match last.is_empty() {
        true => bail!("{command:?} ended with {}", output.status),
        false => Err(anyhow!("{command:?} ended with {}:\n{last}", output.status)),
    }
}
