//! The page a broker prints when it serves: where, told to whom, with which data and plugins.

use std::fmt::{self, Write as _};
use std::time::Duration;

use waspmq_store::OpenReport;

use crate::broker::StartReport;
use crate::config::Config;

/// The page; print it.
pub struct StartPage<'a> {
    /// What was asked for.
    pub config: &'a Config,
    /// What became of it.
    pub report: &'a StartReport,
    /// Oddities of the configuration.
    pub notes: &'a [String],
    /// Time since the process began.
    pub took: Duration,
}

impl fmt::Display for StartPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, report, notes, took } = self;
        writeln!(f, "WaspMQ {}, broker {} of {}", env!("CARGO_PKG_VERSION"), config.broker_name, config.cluster)?;
        writeln!(f)?;
        if let Some(address) = report.name_server {
            writeln!(f, "  name server  {address} (inside this process)")?;
        }
        if let crate::config::NameServers::Outside(addresses) = &config.name_servers {
            writeln!(f, "  name servers {}", addresses.join(", "))?;
        }
        let listening: Vec<String> = report.listening.iter().map(ToString::to_string).collect();
        writeln!(f, "  clients      {}", listening.join(", "))?;
        writeln!(f, "  advertised   {}:{} ({})", report.advertised.ip, config.listen_port, report.advertised.reason)?;
        if let Some(address) = report.metrics {
            writeln!(f, "  metrics      http://{address}/metrics")?;
        }
        writeln!(
            f,
            "  data         {}, {} messages{}",
            config.root.display(),
            report.store.messages,
            repaired(&report.store)
        )?;
        match &config.plugins {
            Some(folder) => writeln!(f, "  plugins      {} (watched)", folder.display())?,
            None => writeln!(f, "  plugins      the standard ones; --plugins DIR adds yours")?,
        }
        for plugin in &report.plugins {
            writeln!(
                f,
                "    {:<16} {:<8} {:<8} {}  {}  {}  {}",
                plugin.name,
                plugin.version,
                plugin.hooks.join(","),
                plugin.sha256,
                plugin.state,
                plugin.origin,
                plugin.bindings.join(" "),
            )?;
            if let Some(error) = &plugin.last_error {
                writeln!(f, "      {error}")?;
            }
        }
        if let Some(reason) = &report.disk.refused {
            writeln!(f, "  note         no message is taken at the moment: {reason}")?;
        }
        for note in *notes {
            writeln!(f, "  note         {note}")?;
        }
        writeln!(f)?;
        write!(f, "ready after {:.3} s. Ctrl-C stops.", took.as_secs_f64())
    }
}

/// What a start after a crash had to do, and what of the log cannot be read.
fn repaired(report: &OpenReport) -> String {
    let mut text = String::new();
    if !report.clean {
        text = format!(
            " (not closed properly: {} records checked, {} bytes of a half-written end cut off)",
            report.recovered_records, report.truncated_bytes
        );
    }
    for fence in &report.fences {
        let _ = write!(
            text,
            "\n  damaged      the log from {} to {}: {}; passed over, the rest is served",
            fence.from.0, fence.to.0, fence.reason
        );
    }
    text
}
