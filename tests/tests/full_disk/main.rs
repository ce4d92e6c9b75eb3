//! The whole broker on a disk that is full, again and again: a small tmpfs with a balloon beside the data. Sends are
//! refused with a code and the reason, reads and administration go on, sends are taken again within ten seconds of room,
//! and every acknowledged message is there. Mounting needs root: elsewhere the tests say so and do nothing.
#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

#[expect(dead_code, reason = "shared with the tests of the whole broker, which ask more")]
#[path = "../whole_broker/asking.rs"]
mod asking;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use waspmq_tests::metrics::{self, SHOWN, scrape, value};
use waspmq_tests::standalone::{Signal, Standalone};
use waspmq_tests::wire::Connection;

use asking::{PULL_MESSAGE, SEND_MESSAGE, SUCCESS, bodies, create_topic, pull_fields, read_queue, send_fields};

const DISK_BYTES: u64 = 128 << 20;
const ROUNDS: usize = 20;
const SERVICE_NOT_AVAILABLE: i64 = 14;
const PULL_OFFSET_MOVED: i64 = 21;
/// From room on the disk to the first send that is taken.
const WITHIN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(30);

/// A file system of its own, unmounted with the value: make it before the broker that uses it.
struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// `None`, with the reason printed, where nothing may be mounted.
    fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path());
        succeeds(test, &mut mount).then_some(Mount { dir })
    }

    /// The file system of this image, which turns read-only when it finds itself damaged.
    fn ext4(test: &str, image: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        File::create(image).unwrap().set_len(DISK_BYTES).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(image).arg(dir.path());
        let made = succeeds(test, Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
        (made && succeeds(test, &mut mount)).then_some(Mount { dir })
    }

    /// Lets an ext4 find itself damaged; false, with the reason printed, where the kernel offers no way to.
    fn damage(&self, test: &str) -> bool {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let place = self.dir.path().display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&place)).unwrap();
        let device = Path::new(line.split(' ').next().unwrap()).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        let damaged = fs::write(&trigger, "1");
        if let Err(error) = &damaged {
            eprintln!("{test} skipped: {}: {error}", trigger.display());
        }
        damaged.is_ok()
    }

    /// Takes all the room.
    fn inflate(&self) {
        let mut file = File::options().create(true).append(true).open(self.dir.path().join("balloon")).unwrap();
        let piece = vec![1; 4096];
        while file.write_all(&piece).is_ok() {}
    }

    fn deflate(&self) {
        fs::remove_file(self.dir.path().join("balloon")).unwrap();
    }
}

/// Whether the command succeeds; if not, the test is told to be skipped for it.
fn succeeds(test: &str, command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => eprintln!("{test} skipped: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => eprintln!("{test} skipped: {:?}: {error}", command.get_program()),
    }
    false
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.dir.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.dir.path().display());
        }
    }
}

const OPTIONS: [&str; 10] = [
    "--set",
    "cleanFileForciblyEnable=false",
    "--set",
    "cleanResourceInterval=1000",
    "--set",
    "mappedFileSizeConsumeQueue=200000",
    "--set",
    "maxHashSlotNum=1000",
    "--set",
    "maxIndexNum=20000",
];

/// A broker whose data lies on the mount.
fn broker_on(mount: &Mount, name: &str) -> Standalone {
    let broker = Standalone::prepare(name).unwrap();
    symlink(mount.dir.path(), broker.data()).unwrap();
    broker
}

/// One sender, and what was acknowledged.
struct Sender {
    connection: Connection,
    acknowledged: Vec<Vec<u8>>,
    attempts: usize,
}

impl Sender {
    fn new(broker: &Standalone) -> Self {
        let connection = Connection::open(&broker.address()).unwrap();
        Sender { connection, acknowledged: Vec::new(), attempts: 0 }
    }

    /// The refusal's code and remark, if it is one.
    fn send(&mut self) -> Result<(), (i64, String)> {
        self.attempts += 1;
        let mut body = format!("message {} ", self.attempts).into_bytes();
        body.resize(3_000, b'x');
        let reply = self.connection.call(SEND_MESSAGE, &send_fields("Full", 0), &body).unwrap();
        if reply.code != SUCCESS {
            return Err((reply.code, reply.remark));
        }
        assert_eq!(reply.number("queueOffset").unwrap(), self.acknowledged.len() as i64);
        self.acknowledged.push(body);
        Ok(())
    }

    fn until_refused(&mut self) -> String {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < SOON, "sends are taken on a full disk");
            match self.send() {
                // Not so fast that the messages fill the disk by themselves.
                Ok(()) => std::thread::sleep(Duration::from_millis(2)),
                Err((SERVICE_NOT_AVAILABLE, remark)) => return remark,
                Err(other) => panic!("refused with {other:?}"),
            }
        }
    }

    fn until_taken(&mut self) {
        let begun = Instant::now();
        while let Err((code, remark)) = self.send() {
            assert_eq!(code, SERVICE_NOT_AVAILABLE, "{remark}");
            assert!(begun.elapsed() < WITHIN, "still refused {WITHIN:?} after there was room: {remark}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything acknowledged is there, in order, and nothing else. It can be read a moment after it is acknowledged.
    fn check(&mut self) {
        let begun = Instant::now();
        loop {
            let found = read_queue(&mut self.connection, "Full", 0).unwrap();
            if found.len() == self.acknowledged.len() || begun.elapsed() > SOON {
                assert!(found == self.acknowledged, "{} of {}", found.len(), self.acknowledged.len());
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_sends_with_the_reason_and_they_go_on_by_themselves() {
    let Some(mount) = Mount::new("a_full_disk_refuses_sends_with_the_reason_and_they_go_on_by_themselves") else {
        return;
    };
    let mut broker = broker_on(&mount, "full");
    let page = broker.start(&[&OPTIONS[..], &SHOWN].concat()).unwrap();
    let metrics = metrics::address(&page).unwrap();
    let mut sender = Sender::new(&broker);
    create_topic(&mut sender.connection, "Full", 1).unwrap();
    let mut checked = 0;
    for round in 0..ROUNDS {
        (0..20).for_each(|_| sender.send().unwrap());
        mount.inflate();
        let first = sender.until_refused();
        assert!(first.contains("the disk is full"), "{first}");
        // Reads and administration go on.
        assert!(read_queue(&mut sender.connection, "Full", 0).unwrap().len() >= checked);
        create_topic(&mut sender.connection, &format!("Made-{round}"), 1).unwrap();
        let (_, remark) = sender.send().unwrap_err();
        let told = ["% full (", " GiB)", "refused above 90% and taken again at 85%"];
        assert!(told.iter().all(|told| remark.contains(told)), "{remark}");
        let scraped = scrape(&metrics).unwrap();
        assert_eq!(value(&scraped, "waspmq_messages_refused", &["% full (", told[2]]).unwrap(), 1.0);
        assert_eq!(value(&scraped, "waspmq_disk_level", &["level=\"full\""]).unwrap(), 1.0);
        assert!(value(&scraped, "waspmq_disk_available_bytes", &[]).unwrap() < DISK_BYTES as f64 / 10.0);
        mount.deflate();
        sender.until_taken();
        assert_eq!(value(&scrape(&metrics).unwrap(), "waspmq_messages_refused", &[]).unwrap(), 0.0);
        sender.check();
        checked = sender.acknowledged.len();
    }
    let log = broker.log();
    let lines = |text| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("messages are taken again"), ROUNDS, "{log}");
    assert!(lines("messages are refused from now on") <= 2 * ROUNDS && log.lines().count() < 12 * ROUNDS, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    // Stopped, it is as it was; killed on a full disk, too.
    assert!(broker.end(Signal::TERM, SOON).unwrap().status.success());
    broker.start(&OPTIONS).unwrap();
    sender.connection = Connection::open(&broker.address()).unwrap();
    sender.check();
    mount.inflate();
    sender.until_refused();
    broker.end(Signal::KILL, SOON).unwrap();
    mount.deflate();
    broker.start(&OPTIONS).unwrap();
    sender.connection = Connection::open(&broker.address()).unwrap();
    sender.until_taken();
    sender.check();
}

#[test]
fn by_force_the_oldest_messages_go_and_their_readers_are_told_where_to_go_on() {
    let test = "by_force_the_oldest_messages_go_and_their_readers_are_told_where_to_go_on";
    let Some(mount) = Mount::new(test) else { return };
    let mut broker = broker_on(&mount, "full-forced");
    let options = ["mappedFileSizeCommitLog=4194304", "cleanResourceInterval=100", "maxIndexNum=20000"];
    let options = options.map(|option| ["--set", option]).concat();
    broker.start(&[&options[..], &["--set", "maxHashSlotNum=1000"]].concat()).unwrap();
    let mut connection = Connection::open(&broker.address()).unwrap();
    create_topic(&mut connection, "Full", 1).unwrap();
    let (body, fields) = (vec![7; 100_000], send_fields("Full", 0));
    let (mut taken, begun) = (0, Instant::now());
    // More than the disk holds.
    while taken < 2 * DISK_BYTES / 100_000 {
        match connection.call(SEND_MESSAGE, &fields, &body).unwrap().code {
            SUCCESS => taken += 1,
            SERVICE_NOT_AVAILABLE => std::thread::sleep(Duration::from_millis(5)),
            code => panic!("code {code}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{taken} messages in two minutes");
    }
    let reply = connection.call(PULL_MESSAGE, &pull_fields("Full", 0, 0), &[]).unwrap();
    let (next, min) = (reply.number("nextBeginOffset").unwrap(), reply.number("minOffset").unwrap());
    assert_eq!((reply.code, next), (PULL_OFFSET_MOVED, min), "{}", reply.remark);
    assert!(min > taken as i64 / 2, "only {min} of {taken} messages are gone");
    let reply = connection.call(PULL_MESSAGE, &pull_fields("Full", 0, next), &[]).unwrap();
    assert_eq!(bodies(&reply.expect_success("pulling").unwrap()).unwrap()[0], body);
}

#[test]
fn a_file_system_that_turns_read_only_ends_sends_and_neither_reads_nor_the_broker() {
    let test = "a_file_system_that_turns_read_only_ends_sends_and_neither_reads_nor_the_broker";
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::ext4(test, &folder.path().join("image")) else { return };
    let mut broker = broker_on(&mount, "read-only");
    broker.start(&[&OPTIONS[..], &["--set", "flushDiskType=SYNC_FLUSH"]].concat()).unwrap();
    let mut sender = Sender::new(&broker);
    create_topic(&mut sender.connection, "Full", 1).unwrap();
    (0..100).for_each(|_| sender.send().unwrap());
    sender.check();
    if !mount.damage(test) {
        return;
    }
    let begun = Instant::now();
    let remark = loop {
        assert!(begun.elapsed() < SOON, "sends are taken on a disk that cannot be written");
        match sender.send() {
            Ok(()) => {}
            Err((SERVICE_NOT_AVAILABLE, remark)) => break remark,
            Err(other) => panic!("refused with {other:?}"),
        }
    };
    assert!(remark.contains("restart the broker") || remark.contains("put on the disk"), "{remark}");
    for _ in 0..100 {
        assert_eq!(sender.send().unwrap_err().0, SERVICE_NOT_AVAILABLE);
    }
    sender.check();
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
    broker.end(Signal::TERM, SOON).unwrap();
}

#[test]
fn a_broker_starts_on_a_full_disk_and_serves_what_is_there() {
    let Some(mount) = Mount::new("a_broker_starts_on_a_full_disk_and_serves_what_is_there") else { return };
    let mut broker = broker_on(&mount, "full-start");
    broker.start(&OPTIONS).unwrap();
    let mut sender = Sender::new(&broker);
    create_topic(&mut sender.connection, "Full", 1).unwrap();
    (0..20).for_each(|_| sender.send().unwrap());
    sender.check();
    broker.end(Signal::TERM, SOON).unwrap();
    mount.inflate();
    let page = broker.start(&OPTIONS).unwrap();
    assert!(page.contains("the disk is full"), "{page}");
    sender.connection = Connection::open(&broker.address()).unwrap();
    sender.check();
    assert!(sender.send().is_err());
    mount.deflate();
    sender.until_taken();
    sender.check();
}
