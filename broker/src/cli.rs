//! What a user types: `broker` and its options, `broker plugin …`. Reads arguments and files, nothing else.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use waspmq_settings::{Given, Loaded, Properties, Settings as _};

use crate::config::{self, Config, ConfigError, Keys};
use crate::store_tool::DumpOptions;

/// A message broker that speaks Apache RocketMQ's protocols and lets WebAssembly plugins decide.
///
/// Without options it is a whole system: clients connect to the name server on port 9876, messages are kept in
/// ~/store, and the standard plugins filter by tag and SQL92.
#[derive(Debug, Parser)]
#[command(name = "broker", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeOptions,
}

const EXAMPLES: &str = "\
Examples:
  broker --plugins ./plugins             a whole system on this machine
  broker -c conf/broker.conf             with a configuration file, RocketMQ's keys
  broker -n 10.0.0.1:9876;10.0.0.2:9876  a member of a cluster with these name servers
  broker plugin new my-filter            start a plugin of your own
  broker store check ~/store             what a data folder holds, and whether it is whole";

/// Options of the serving broker. An option wins over the same key in the file.
#[derive(Debug, Args)]
pub struct ServeOptions {
    /// Configuration file with RocketMQ's keys
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name servers to register with, joined by semicolons. Without: one runs inside the broker
    #[arg(short, long = "namesrv", value_name = "HOST:PORT")]
    pub namesrv: Option<String>,
    /// Folder of plugins: *.wasm, *.wat and plugins.toml directly in it; watched while serving
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Data folder [default: ~/store]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Port for clients [default: 10911]; the port two below is used too
    #[arg(long, value_name = "PORT")]
    pub listen_port: Option<u16>,
    /// Port of the name server inside the broker [default: 9876]
    #[arg(long, value_name = "PORT")]
    pub namesrv_port: Option<u16>,
    /// Address that clients are told [default: the first one of this machine that others reach]
    #[arg(long, value_name = "IP")]
    pub advertise: Option<IpAddr>,
    /// Any other setting, as in the file; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print all settings with their values and meanings, and end
    #[arg(short, long)]
    pub print_config: bool,
    /// Describe every setting a configuration file may have, and end
    #[arg(long)]
    pub list_settings: bool,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write, build and check plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at the data folder of a broker that is not running, and repair it
    #[command(subcommand)]
    Store(StoreCommand),
}

/// Work on a data folder.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Say what is there and what is damaged; changes nothing, exit code 1 if something is
    Check {
        /// The data folder
        #[arg(value_name = "PATH")]
        folder: PathBuf,
    },
    /// Make consume queues, index and sums anew from the messages, and cut off a half-written end
    Repair {
        /// The data folder
        #[arg(value_name = "PATH")]
        folder: PathBuf,
    },
    /// Print messages in the order they were stored, a JSON object a line
    Dump {
        /// The data folder
        #[arg(value_name = "PATH")]
        folder: PathBuf,
        /// Which of them
        #[command(flatten)]
        options: DumpOptions,
    },
}

/// Work on plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin crate of one screen
    New {
        /// Name of the plugin and of its folder
        name: String,
        /// Path of the plugin SDK's source, for the new crate's dependency
        #[arg(long, value_name = "DIR", default_value = "plugin-sdk")]
        sdk: PathBuf,
    },
    /// Compile a plugin crate for WebAssembly and check it
    Build {
        /// The crate's folder
        #[arg(value_name = "DIR", default_value = ".")]
        folder: PathBuf,
        /// Path of the plugin SDK's source, for a crate that was copied and does not find it any more
        #[arg(long, value_name = "DIR", default_value = "plugin-sdk")]
        sdk: PathBuf,
    },
    /// Check a .wasm or .wat file as the broker would before serving it
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// A checked configuration and what there is to say about what was given.
pub struct Prepared {
    /// As the parts of the broker take it.
    pub config: Config,
    /// As a file would say it.
    pub keys: Keys,
    /// Unknown and idle keys.
    pub notes: Vec<String>,
}

impl ServeOptions {
    /// Reads the file, puts the options over it and checks everything.
    ///
    /// # Errors
    /// A file that cannot be read, or the first value that cannot be used.
    pub fn prepare(&self) -> Result<Prepared, ConfigError> {
        let mut given = match &self.config {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        given.extend(self.given()?);
        let Loaded { values: keys, warnings } = Keys::load(&given)?;
        let mut config = Config::from_keys(keys.clone())?;
        config.plugins = self.plugins.clone();
        Ok(Prepared { config, keys, notes: config::notes(&given, &warnings) })
    }

    fn given(&self) -> Result<Vec<Given>, ConfigError> {
        let mut given = Vec::new();
        let mut put = |name: &str, value: Option<String>| {
            given.extend(value.map(|value| Given { name: name.to_owned(), value }));
        };
        put("namesrvAddr", self.namesrv.clone());
        put("storePathRootDir", self.data.as_ref().map(|path| path.display().to_string()));
        put("listenPort", self.listen_port.map(|port| port.to_string()));
        put("innerNamesrvPort", self.namesrv_port.map(|port| port.to_string()));
        put("brokerIP1", self.advertise.map(|ip| ip.to_string()));
        for text in &self.set {
            let (name, value) = text.split_once('=').ok_or_else(|| ConfigError::Value {
                key: "--set".into(),
                value: text.clone(),
                reason: "KEY=VALUE is expected".into(),
            })?;
            put(name.trim(), Some(value.to_owned()));
        }
        Ok(given)
    }
}

fn read_file(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let properties =
        Properties::parse(&text).map_err(|source| ConfigError::NoProperties { path: path.to_owned(), source })?;
    Ok(properties.into_given())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_option_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.conf");
        std::fs::write(&file, "listenPort=20911\nbrokerName=broker-x\nstorePathRootDir=/data\n").unwrap();
        let path = file.display().to_string();
        let cli = Cli::parse_from(["broker", "-c", &path, "--listen-port", "30911", "--set", "brokerIP1=10.1.2.3"]);
        let prepared = cli.serve.prepare().unwrap();
        assert_eq!(prepared.config.listen_port, 30911);
        assert_eq!(prepared.config.broker_name, "broker-x");
        assert_eq!(prepared.config.advertised, Some("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let cli = Cli::parse_from(["broker", "-c", "/nowhere/broker.conf"]);
        let Err(error) = cli.serve.prepare() else { panic!("it was read") };
        assert!(error.to_string().contains("/nowhere/broker.conf"), "{error}");
    }
}
