//! Brokers of different makers taking turns on one folder. A broker first has to tell what the ones before it told; then
//! it stores more and ends, by SIGTERM or in the midst of its work.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use waspmq_tests::broker::{BrokerUnderTest, Maker};
use waspmq_tests::wire::Connection;

use crate::asking;
use crate::ledger::Ledger;
use crate::load::{self, Numbers, Outcome};
use crate::lookups::{self, Kept};

/// Small files, so that every kind of file rolls many times.
pub const SETTINGS: [(&str, &str); 4] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("maxHashSlotNum", "1000"),
    ("maxIndexNum", "4000"),
];
/// With these, queue entries say where the tags are instead of what they are.
const EXT_SETTINGS: [(&str, &str); 2] = [("enableConsumeQueueExt", "true"), ("mappedFileSizeConsumeQueueExt", "4096")];
const SENDERS: usize = 3;

/// Whose broker works on the folder, and how it ends.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    Stopped(Maker),
    Killed(Maker),
}

impl Turn {
    fn maker(self) -> Maker {
        let (Self::Stopped(maker) | Self::Killed(maker)) = self;
        maker
    }
}

/// A folder, and what must be in it.
pub struct Exchange {
    name: String,
    /// Each turn stores so many more.
    messages: usize,
    /// How long a broker that will be killed is under load.
    load: Duration,
    pub numbers: Numbers,
    pub ledger: Ledger,
    kept: Option<Kept>,
    settings: Vec<(&'static str, &'static str)>,
    /// Of the broker that was opened last.
    maker: Maker,
    broker: Option<BrokerUnderTest>,
}

impl Exchange {
    fn new(name: &str, messages: usize, load: Duration) -> Self {
        let name = name.replace("::", "-");
        let (numbers, ledger) = Default::default();
        let settings = SETTINGS.to_vec();
        Self { name, messages, load, numbers, ledger, kept: None, settings, maker: Maker::WaspMq, broker: None }
    }

    /// Of about a thousand messages a turn.
    pub fn small(name: &str) -> Self {
        Self::new(name, 1000, Duration::from_millis(400))
    }

    /// Of several thousand messages a turn.
    pub fn large(name: &str) -> Self {
        Self::new(name, 4000, Duration::from_secs(2))
    }

    /// Tags are kept in files of their own, by the broker that can.
    pub fn with_ext(mut self) -> Self {
        self.settings.extend(EXT_SETTINGS);
        self
    }

    /// Plays all turns and compares once more after the last.
    pub fn play(mut self, turns: &[Turn]) -> Result<()> {
        for (number, turn) in turns.iter().enumerate() {
            self.play_turn(number, *turn).with_context(|| format!("turn {number} of {turns:?}"))?;
        }
        let makers: Vec<Maker> = turns.iter().map(|turn| turn.maker()).collect();
        let first_other = makers.iter().find(|maker| Some(*maker) != makers.last());
        self.open(*first_other.context("one maker alone exchanges nothing")?)?;
        self.compare().context("after the last turn")?;
        self.finish()
    }

    fn play_turn(&mut self, number: usize, turn: Turn) -> Result<()> {
        self.open(turn.maker())?;
        let mut connection = self.connection()?;
        if number == 0 {
            lookups::change_kept(&mut connection, &self.ledger, number)?;
        } else {
            self.compare()?;
        }
        let outcome = self.send(self.messages)?;
        ensure!(outcome.in_doubt.is_empty(), "{} sends were not answered", outcome.in_doubt.len());
        self.ledger.note(outcome);
        if let Turn::Killed(_) = turn {
            // Offsets are kept on the disk every few seconds only, so they stay as they are.
            self.kept = Some(self.ask_kept()?);
            return self.kill_under_load();
        }
        self.ledger.compare(&mut connection)?;
        lookups::change_kept(&mut connection, &self.ledger, number)?;
        self.kept = None;
        self.compare()?;
        self.kept = Some(self.ask_kept()?);
        self.broker()?.stop_broker()
    }

    /// Starts a broker of that maker on the folder.
    pub fn open(&mut self, maker: Maker) -> Result<()> {
        self.maker = maker;
        match &mut self.broker {
            Some(broker) => broker.hand_over(maker),
            None => {
                self.broker = Some(BrokerUnderTest::start_by(maker, &self.name, &self.settings)?);
                Ok(())
            }
        }
    }

    /// The broker must tell everything that is known.
    pub fn compare(&mut self) -> Result<()> {
        let mut connection = self.connection()?;
        self.ledger.compare(&mut connection)?;
        lookups::compare_messages(&mut connection, &self.ledger)?;
        lookups::compare_tags(&mut connection, &self.ledger)?;
        if self.maker != Maker::Java49 {
            lookups::compare_times(&mut connection, &self.ledger)?;
        }
        if let Some(kept) = &self.kept {
            let found = self.ask_kept()?;
            ensure!(found == *kept, "topics, groups or offsets differ: they were {kept:?} and are {found:?}");
        }
        Ok(())
    }

    /// As [`Exchange::compare`], without look-ups.
    pub fn compare_queues(&mut self) -> Result<()> {
        self.ledger.compare(&mut self.connection()?)
    }

    /// What it keeps about this test's topics and groups.
    fn ask_kept(&self) -> Result<Kept> {
        Kept::ask(&mut self.connection()?, &self.address()?)
    }

    fn send(&self, count: usize) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        load::send(&self.address()?, load::mixed(&self.numbers, count), &mut outcome)?;
        Ok(outcome)
    }

    /// Kills the broker while several connections send; returns when all of them have noticed.
    fn kill_under_load(&mut self) -> Result<()> {
        let (address, load) = (self.address()?, self.load);
        let numbers = &self.numbers;
        let broker = self.broker.as_mut().context("no broker")?;
        let outcomes = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| send_until_the_end(&address, numbers))).collect();
            std::thread::sleep(load);
            let killed = broker.kill_broker();
            let outcomes: Vec<Outcome> = senders.into_iter().map(|sender| sender.join().unwrap_or_default()).collect();
            killed.map(|()| outcomes)
        })?;
        let acknowledged: usize = outcomes.iter().map(|outcome| outcome.acknowledged.len()).sum();
        ensure!(acknowledged > 0, "nothing was acknowledged before the kill");
        println!("{acknowledged} messages acknowledged under load before the kill");
        outcomes.into_iter().for_each(|outcome| self.ledger.note(outcome));
        Ok(())
    }

    /// The broker, running or not.
    pub fn broker(&mut self) -> Result<&mut BrokerUnderTest> {
        self.broker.as_mut().context("no broker")
    }

    /// Where it listens.
    pub fn address(&self) -> Result<String> {
        Ok(self.broker.as_ref().context("no broker")?.address())
    }

    /// A new connection to it.
    pub fn connection(&self) -> Result<Connection> {
        asking::connect(&self.address()?)
    }

    /// Stops the broker and removes the folder.
    pub fn finish(self) -> Result<()> {
        self.broker.context("no broker")?.finish()
    }
}

/// Sends until the connection ends, which is no error here.
fn send_until_the_end(address: &str, numbers: &Numbers) -> Outcome {
    let mut outcome = Outcome::default();
    while load::send(address, load::mixed(numbers, 200), &mut outcome).is_ok() {}
    outcome
}
