//! The program `namesrv`: reads its arguments and its file, serves until a signal, ends in order.
//! What cannot start says why in one sentence and ends with code 1.

use clap::Parser;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use waspmq_namesrv::{NamesrvConfig, NamesrvServer};

/// The nameserver: tells clients where the brokers are.
#[derive(Debug, Parser)]
#[command(name = "namesrv", version, max_term_width = 110)]
struct Arguments {
    /// Configuration file with RocketMQ's keys
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 0.0.0.0:9876]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Print all settings with their values and meanings, and end
    #[arg(short, long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Nothing better can be done when this output is closed too.
            let _ = writeln!(std::io::stderr(), "namesrv: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), String> {
    let config = configure(arguments)?;
    if arguments.print_config {
        say(&waspmq_settings::dump(&config.keys));
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("WASPMQ_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the threads that serve cannot be started: {error}"))?;
    runtime.block_on(run(config))
}

fn configure(arguments: &Arguments) -> Result<NamesrvConfig, String> {
    let mut config = match &arguments.config {
        None => NamesrvConfig::usual(),
        Some(path) => {
            let (config, warnings) = NamesrvConfig::from_file(path).map_err(|error| error.to_string())?;
            for warning in warnings {
                let _ = writeln!(std::io::stderr(), "namesrv: {}: {warning}", path.display());
            }
            config
        }
    };
    if let Some(listen) = arguments.listen {
        config.listen = listen;
        (config.keys.bind_address, config.keys.listen_port) = (listen.ip(), listen.port());
    }
    Ok(config)
}

async fn run(config: NamesrvConfig) -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let within = Duration::from_secs(config.keys.shutdown_wait_time_seconds);
    let server = NamesrvServer::start(config).await.map_err(|error| error.to_string())?;
    say(&format!("The nameserver listens on {}\n", server.local_addr()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let report = server.drain(within).await;
    say(&format!("The nameserver has stopped; {} connections were open\n", report.open));
    Ok(())
}

/// A closed output is no reason to stop serving.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
