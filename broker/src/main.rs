//! The program `broker`: reads its arguments, serves until a signal, ends with what it stored.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use waspmq_broker::cli::{Cli, Command, PluginCommand, Prepared, StoreCommand};
use waspmq_broker::config::Keys;
use waspmq_broker::{BLOCKING_THREADS_MAX, Broker, StartPage, store_tool};
use waspmq_plugin_host::{CheckedPlugin, SdkSource};
use waspmq_settings::Settings as _;

/// Everything is put away within this time after a signal.
const STOP_WITHIN: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Plugin(command)) => work_on_plugins(command),
        Some(Command::Store(command)) => work_on_store(command),
        None => serve(&cli, started),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            say_error(&reason);
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli, started: Instant) -> Result<(), String> {
    if cli.serve.list_settings {
        return say(&waspmq_settings::describe(Keys::TABLE));
    }
    let prepared = cli.serve.prepare().map_err(|error| error.to_string())?;
    if cli.serve.print_config {
        return say(&waspmq_settings::dump(&prepared.keys));
    }
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|error| format!("the threads that serve cannot be started: {error}"))?;
    runtime.block_on(run(prepared, started))
}

async fn run(prepared: Prepared, started: Instant) -> Result<(), String> {
    let Prepared { config, notes, .. } = prepared;
    let handler = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let broker = Broker::start(config.clone()).await.map_err(|error| error.to_string())?;
    let page = StartPage { config: &config, report: broker.report(), notes: &notes, took: started.elapsed() };
    say(&format!("{page}\n"))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say("stopping\n")?;
    let report = broker.stop(STOP_WITHIN).await;
    say(&format!(
        "{} messages stored{}\n",
        report.messages,
        if report.clean { "" } else { "; the next start checks them" }
    ))
}

fn work_on_store(command: &StoreCommand) -> Result<(), String> {
    log_to_stderr();
    let whole = match command {
        StoreCommand::Check { folder } => store_tool::check(folder)?,
        StoreCommand::Repair { folder } => store_tool::repair(folder)?,
        StoreCommand::Dump { folder, options } => return store_tool::dump(folder, options),
    };
    if whole { Ok(()) } else { Err("the store is damaged, see above".into()) }
}

fn work_on_plugins(command: &PluginCommand) -> Result<(), String> {
    match command {
        PluginCommand::New { name, sdk } => {
            let text = |error: waspmq_plugin_host::CrateError| error.to_string();
            waspmq_plugin_host::new_crate(Path::new(name), name, &SdkSource::Path(sdk.clone())).map_err(text)?;
            say(&format!("wrote {name}; edit {name}/src/lib.rs, then: broker plugin build {name}\n"))
        }
        PluginCommand::Build { folder, sdk } => {
            let pointed = waspmq_plugin_host::point_at_sdk(folder, sdk).map_err(|error| error.to_string())?;
            if let Some(sdk) = pointed {
                say(&format!("{} now takes the SDK from {}\n", folder.join("Cargo.toml").display(), sdk.display()))?;
            }
            let built = waspmq_plugin_host::build_crate(folder).map_err(|error| error.to_string())?;
            let beside = folder.join(format!("{}.wasm", built.name));
            std::fs::copy(&built.file, &beside)
                .map_err(|error| format!("{} cannot be written: {error}", beside.display()))?;
            say(&describe(&built))?;
            say(&format!("copy {} into the plugins folder of a broker, and it is live\n", beside.display()))
        }
        PluginCommand::Check { file } => {
            let checked = waspmq_plugin_host::check_file(file).map_err(|error| error.to_string())?;
            say(&describe(&checked))
        }
    }
}

fn describe(plugin: &CheckedPlugin) -> String {
    let CheckedPlugin { name, version, hooks, bytes, sha256, .. } = plugin;
    format!("{name} {version}: hooks {}, {bytes} bytes, sha256 {sha256}; a broker would take it\n", hooks.join(", "))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WASPMQ_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,waspmq_plugin_host=info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// A closed output is no reason to stop serving.
fn say(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

fn say_error(reason: &str) {
    let _ = writeln!(std::io::stderr().lock(), "broker: {reason}");
}
