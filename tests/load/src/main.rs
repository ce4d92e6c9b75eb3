//! `mqbench`: arguments in, one sub-command run, exit code out (0: done and nothing found wrong).

use std::process::ExitCode;

use clap::Parser;
use waspmq_load::args::{Command, Options, VerifyCommand};
use waspmq_load::{consume, latency, null_server, produce, verify};

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    let done = match &options.command {
        Command::Produce(args) => produce::run(args, json),
        Command::Consume(args) => consume::run(args, json),
        Command::Latency(args) => latency::run(args, json),
        Command::Verify(VerifyCommand::Send(args)) => verify::send::run(args, json),
        Command::Verify(VerifyCommand::Check(args)) => verify::run_check(args, json),
        Command::Verify(VerifyCommand::Run(args)) => verify::run_both(args, json),
        Command::Verify(VerifyCommand::Filtered(args)) => verify::filtered::run(args, json),
        Command::NullServer(args) => null_server::run(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mqbench: {error}");
            ExitCode::from(2)
        }
    }
}
