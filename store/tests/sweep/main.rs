//! The crash sweep: the real store runs on a simulated disk, all of it drawn from one number; at operations of the disk
//! the power is cut, or the process killed, and every disk so left is opened and compared with what was stored.
//! `WASPMQ_CUTS` says how many disks to look at, `WASPMQ_SEED` plays one number again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod any_bytes;
mod check;
mod damage;
mod faults;
mod life;
mod model;
mod random;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use life::Life;
use random::Random;

/// How many disks are looked at without `WASPMQ_CUTS`.
const CUTS: u64 = 800;
/// A long run says how far it is this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// So many lives follow each other on one disk, each but the first after a crash.
const LIVES_MAX: usize = 3;

/// What a variable of the environment says.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// What a sweep has seen: all of these must happen, or the sweep proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) cuts: u64,
    pub(crate) kills: u64,
    pub(crate) second_cuts: u64,
    /// Recoveries that cut something torn off the log's end.
    pub(crate) torn: u64,
    /// Recoveries that lost messages nobody had been promised.
    pub(crate) lost: u64,
    pub(crate) clean: u64,
    pub(crate) messages: u64,
    /// Files of the log were gone that the oldest messages lay in.
    pub(crate) shortened: u64,
    pub(crate) topics_deleted: u64,
    /// Disks whose checkpoint was made to lie.
    pub(crate) tampered: u64,
}

impl Seen {
    fn all(&self) -> u64 {
        self.cuts + self.kills + self.second_cuts
    }
}

/// Plays one number: a few lives, every crash of which is looked at, the last one leading into the next life.
fn play(seed: u64, chance: u64, seen: &mut Seen) -> Result<(), String> {
    let mut random = Random::new(seed);
    let life = Life::first(&mut random, chance);
    go_through(life, random, seen)
}

fn go_through(mut life: Life, mut random: Random, seen: &mut Seen) -> Result<(), String> {
    for _ in 0..1 + random.below(LIVES_MAX) {
        life.live(&mut random);
        let Some(next) = life.look_at_crashes(&mut random, seen)? else { break };
        life = next;
    }
    Ok(())
}

/// Plays a number and says which it was if that fails, in whatever way.
fn play_aloud(seed: u64, chance: u64, seen: &mut Seen) {
    let failed = match catch_unwind(AssertUnwindSafe(|| play(seed, chance, seen))) {
        Ok(Ok(())) => return,
        Ok(Err(message)) => Err(message),
        Err(panic) => Ok(panic),
    };
    eprintln!("the sweep fails with WASPMQ_SEED={seed}");
    match failed {
        Err(message) => panic!("WASPMQ_SEED={seed}: {message}"),
        Ok(panic) => resume_unwind(panic),
    }
}

#[test]
fn whatever_a_crash_leaves_holds_what_was_acknowledged() {
    let mut seen = Seen::default();
    if let Some(seed) = number("WASPMQ_SEED") {
        play_aloud(seed, 4, &mut seen);
        return;
    }
    let wanted = number("WASPMQ_CUTS").unwrap_or(CUTS);
    let (begun, mut told) = (Instant::now(), Instant::now());
    for seed in 0.. {
        if seen.all() >= wanted {
            break;
        }
        play_aloud(seed, 4, &mut seen);
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let a_second = seen.all() as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{} of {wanted} disks, {seed} seeds, {a_second:.0} a second", seen.all());
        }
    }
    eprintln!("{seen:?} in {:.1} s", begun.elapsed().as_secs_f64());
    let Seen { cuts, kills, second_cuts, torn, lost, clean, shortened, topics_deleted, tampered, .. } = seen;
    assert!(
        [cuts, kills, second_cuts, torn, lost, clean, shortened, topics_deleted, tampered]
            .iter()
            .all(|count| *count > 0),
        "some branch was never taken: {seen:?}"
    );
}

#[test]
fn every_operation_of_a_run_may_be_the_last() {
    let mut seen = Seen::default();
    for seed in [1 << 40, (1 << 40) + 1] {
        play_aloud(seed, 1, &mut seen);
    }
    assert!(seen.all() > 100, "{seen:?}");
}

/// The sweep is worth nothing if it would not notice.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let found_out = |seed| {
        let mut random = Random::new(seed);
        let life = Life::first(&mut random, 4);
        life.storage.lie_about_syncs();
        let played = catch_unwind(AssertUnwindSafe(|| go_through(life, random, &mut Seen::default())));
        !matches!(played, Ok(Ok(())))
    };
    assert!((0..10).filter(|seed| found_out(*seed)).count() > 5);
}

#[test]
fn the_same_number_plays_the_same() {
    let trace = |seed| {
        let mut seen = Seen::default();
        play(seed, 4, &mut seen).unwrap();
        format!("{seen:?}")
    };
    for seed in 0..3 {
        assert_eq!(trace(seed), trace(seed), "WASPMQ_SEED={seed}");
    }
}
