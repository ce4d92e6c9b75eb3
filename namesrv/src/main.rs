//! The program `namesrv`: reads its arguments and its file, serves until a signal, ends in order.
//! What cannot start says why in one sentence and ends with code 1.

use clap::Parser as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use waspmq_namesrv::cli::{Cli, Prepared};
use waspmq_namesrv::{Keys, NamesrvConfig, NamesrvServer};
use waspmq_settings::Settings as _;

/// Connections have this long to end in order after a signal; nothing is held, so it takes no time.
const STOP_WITHIN: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    match serve(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say_error(&reason);
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli) -> Result<(), String> {
    if cli.list_settings {
        say(&waspmq_settings::describe(Keys::TABLE));
        return Ok(());
    }
    let Prepared { config, notes } = cli.prepare().map_err(|error| error.to_string())?;
    if cli.print_config {
        say(&waspmq_settings::dump(&config.keys));
        return Ok(());
    }
    for note in notes {
        say_error(&note);
    }
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the threads that serve cannot be started: {error}"))?;
    runtime.block_on(run(config))
}

async fn run(config: NamesrvConfig) -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let key_values = config.keys.kv_config_path.clone();
    let server = NamesrvServer::start(config).await.map_err(|error| error.to_string())?;
    let version = env!("CARGO_PKG_VERSION");
    say(&format!("WaspMQ {version}, name server, key-values in {}. Ctrl-C stops.\n", key_values.display()));
    // Scripts that start RocketMQ wait for the first words of this line.
    say(&format!("The Name Server boot success. serializeType=JSON, address {}\n", server.local_addr()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let report = server.drain(STOP_WITHIN).await;
    say(&format!("stopped; {} connections were open\n", report.open));
    Ok(())
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WASPMQ_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// A closed output is no reason to stop serving.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "namesrv: {text}");
}
