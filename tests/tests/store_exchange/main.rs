//! Apache's Java broker opens a folder that ours wrote, and ours one of Java's, in turns on the same folder, after clean
//! stops and after `kill -9`; each must tell what the other told. Needs Java, and Maven and the network once; without
//! them the tests say so and pass, unless `WASPMQ_REQUIRE_CLIENTS` is 1. `cargo test` plays one short exchange,
//! `WASPMQ_EXCHANGE=full` all of them.

mod asking;
mod ledger;
mod load;
mod lookups;
mod record;
mod stale;
mod turns;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use waspmq_tests::broker::Maker;
use waspmq_tests::cache::{Unready, verdict};

use crate::turns::{Exchange, Turn};

use Maker::{Java, Java49, WaspMq};
use Turn::{Killed, Stopped};

/// One test: which Java it needs, and whether it belongs to the quick part.
struct Plan {
    name: &'static str,
    java: Maker,
    quick: bool,
    run: fn(name: &str) -> Result<()>,
}

const PLANS: [Plan; 8] = [
    Plan {
        name: "java_5::opens_ours_and_ours_opens_it_again",
        java: Java,
        quick: true,
        run: |name| Exchange::small(name).play(&[Stopped(WaspMq), Stopped(Java)]),
    },
    Plan {
        name: "java_5::began_the_folder",
        java: Java,
        quick: false,
        run: |name| Exchange::large(name).play(&[Stopped(Java), Stopped(WaspMq), Stopped(Java), Stopped(WaspMq)]),
    },
    Plan {
        name: "java_5::kills_of_both",
        java: Java,
        quick: false,
        run: |name| {
            let turns = [Stopped(WaspMq), Killed(WaspMq), Killed(Java), Killed(WaspMq), Killed(Java), Stopped(WaspMq)];
            Exchange::large(name).play(&turns)
        },
    },
    Plan {
        name: "java_5::keeps_tags_in_files_of_their_own",
        java: Java,
        quick: false,
        run: |name| {
            let turns = [Stopped(Java), Stopped(WaspMq), Killed(Java), Killed(WaspMq), Stopped(Java), Stopped(WaspMq)];
            Exchange::small(name).with_ext().play(&turns)
        },
    },
    Plan {
        name: "java_4_9::began_the_folder",
        java: Java49,
        quick: false,
        run: |name| Exchange::large(name).play(&[Stopped(Java49), Stopped(WaspMq), Stopped(Java49), Stopped(WaspMq)]),
    },
    Plan {
        name: "java_4_9::kills_of_both",
        java: Java49,
        quick: false,
        run: |name| Exchange::large(name).play(&[Killed(Java49), Killed(WaspMq), Killed(Java49), Stopped(WaspMq)]),
    },
    Plan {
        name: "java_5::what_java_cut_stays_cut_after_a_stop",
        java: Java,
        quick: false,
        run: |name| stale::what_java_cut_stays_cut(name, Stopped(Java)),
    },
    Plan {
        name: "java_5::what_java_cut_stays_cut_after_a_kill",
        java: Java,
        quick: false,
        run: |name| stale::what_java_cut_stays_cut(name, Killed(Java)),
    },
];

fn run(plan: &Plan) -> Result<(), Unready> {
    plan.java.prepare()?;
    Ok((plan.run)(plan.name)?)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A Java broker keeps the machine busy: one after the other.
    arguments.test_threads = Some(1);
    let full = std::env::var("WASPMQ_EXCHANGE").is_ok_and(|value| value == "full");
    let chosen = PLANS.iter().filter(|plan| full || plan.quick);
    let trials = chosen.map(|plan| Trial::test(plan.name, || Ok(verdict(plan.name, run(plan))?)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
