//! What a user types: `namesrv` and its options. Reads arguments and files, nothing else.

use crate::config::{Keys, NamesrvConfig, read_file};
use crate::error::NamesrvError;
use clap::Parser;
use std::path::PathBuf;
use waspmq_settings::{Given, Loaded, Settings as _};

/// The name server: tells clients of RocketMQ which brokers have a topic.
///
/// Any number of them may run; brokers register with all, and none knows of another. Files lie in ~/namesrv.
#[derive(Debug, Parser)]
#[command(name = "namesrv", version, max_term_width = 110)]
pub struct Cli {
    /// Configuration file with RocketMQ's keys
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Port to listen on [default: 9876]
    #[arg(long, value_name = "PORT")]
    pub listen_port: Option<u16>,
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

/// A configuration and what there is to say about what was given.
#[derive(Debug)]
pub struct Prepared {
    /// As the nameserver takes it.
    pub config: NamesrvConfig,
    /// Unknown keys.
    pub notes: Vec<String>,
}

impl Cli {
    /// Reads the file and puts the options over it.
    ///
    /// # Errors
    /// A file that cannot be read, or the first value that cannot be used.
    pub fn prepare(&self) -> Result<Prepared, NamesrvError> {
        let mut given = match &self.config {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        let port = self.listen_port.map(|port| Given { name: "listenPort".to_owned(), value: port.to_string() });
        given.extend(port);
        for text in &self.set {
            let (name, value) = text.split_once('=').ok_or_else(|| NamesrvError::Set { text: text.clone() })?;
            given.push(Given { name: name.trim().to_owned(), value: value.to_owned() });
        }
        let Loaded { values: mut keys, warnings } = Keys::load(&given)?;
        if let Some(path) = &self.config {
            keys.config_store_path.clone_from(path);
        }
        let notes = warnings.iter().map(ToString::to_string).collect();
        Ok(Prepared { config: NamesrvConfig::from_keys(keys), notes })
    }
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
    fn an_option_wins_over_the_file_and_changes_go_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("namesrv.conf");
        std::fs::write(&file, "listenPort=1\nlistenPrt=2\nbindAddress=127.0.0.1\nconfigStorePath=/elsewhere\n")
            .unwrap();
        let path = file.display().to_string();
        let cli = Cli::parse_from(["namesrv", "-c", &path, "--listen-port", "3", "--set", "enableTopicList=false"]);
        let Prepared { config, notes } = cli.prepare().unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:3");
        assert_eq!((config.keys.enable_topic_list, config.keys.config_store_path), (false, file));
        assert_eq!(notes, ["unknown setting listenPrt, ignored; did you mean listenPort?"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (arguments, message) in [
            (["namesrv", "-c", "/nowhere/namesrv.conf"], "/nowhere/namesrv.conf"),
            (["namesrv", "--set", "listenPort"], "KEY=VALUE"),
            (["namesrv", "--set", "listenPort=x"], "listenPort=x"),
        ] {
            let error = Cli::parse_from(arguments).prepare().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
