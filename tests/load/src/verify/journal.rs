//! The journal: one line of text for each message that was sent, in the order in which their fate became known.
//! Written by `verify send` while the broker may be killed at any moment, read by `verify check`. A last line without its
//! end (this tool was killed) is left out.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use waspmq_protocol::message::id::OffsetMessageId;

use crate::error::LoadError;

const FIRST_WORD: &str = "mqbench-journal-2";

/// How long an acknowledgement may stay out of the file.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Index of the queue in the journal's list.
    pub queue: u32,
    /// Queue offset the broker named.
    pub offset: i64,
    /// Physical offset in the message id the broker named.
    pub physical: i64,
    /// The producer's count of sends and answers when it was sent, and when it was answered.
    pub sent: u64,
    /// See `sent`.
    pub acked: u64,
    /// Checksum of the body.
    pub crc: u32,
    /// When it was answered, ms since 1970.
    pub acked_ms: u64,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Sent, perhaps stored: no answer came, or one that leaves it open.
    #[default]
    Unknown,
    /// The broker refused it.
    Refused,
    /// The broker acknowledged it.
    Acknowledged(Ack),
}

/// A journal that was read.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Names the run in bodies.
    pub run: u64,
    /// The topic.
    pub topic: String,
    /// Broker name and queue id of each queue.
    pub queues: Vec<(String, i32)>,
    /// By producer and sequence number.
    pub fates: Vec<Vec<Fate>>,
}

impl Journal {
    /// Reads a journal.
    ///
    /// # Errors
    /// No file, or one that is not a journal.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::File { path: path.to_owned(), source };
        let mut lines = BufReader::new(File::open(path).map_err(failed)?);
        let (mut journal, mut line, mut number) = (Self::default(), String::new(), 0);
        loop {
            line.clear();
            lines.read_line(&mut line).map_err(failed)?;
            let Some(text) = line.strip_suffix('\n') else { break };
            number += 1;
            let understood = if number == 1 { journal.take_head(text) } else { journal.take_line(text) };
            if understood.is_none() {
                let reason = "not a line of this tool's journal".to_owned();
                return Err(LoadError::Journal { path: path.to_owned(), line: number, reason });
            }
        }
        if number == 0 {
            let reason = "the journal is empty".to_owned();
            return Err(LoadError::Journal { path: path.to_owned(), line: 1, reason });
        }
        Ok(journal)
    }

    fn take_head(&mut self, text: &str) -> Option<()> {
        let mut words = text.split(' ');
        (words.next()? == FIRST_WORD).then_some(())?;
        self.run = u64::from_str_radix(words.next()?, 16).ok()?;
        self.topic = words.next()?.to_owned();
        Some(())
    }

    fn take_line(&mut self, text: &str) -> Option<()> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        if kind == "Q" {
            self.queues.push((words.next()?.to_owned(), words.next()?.parse().ok()?));
            return Some(());
        }
        let (producer, sequence): (usize, usize) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let fate = match kind {
            "U" => Fate::Unknown,
            "R" => Fate::Refused,
            "A" => Fate::Acknowledged(Ack {
                queue: words.next()?.parse().ok().filter(|queue| (*queue as usize) < self.queues.len())?,
                offset: words.next()?.parse().ok()?,
                physical: words.next()?.parse().ok()?,
                sent: words.next()?.parse().ok()?,
                acked: words.next()?.parse().ok()?,
                crc: u32::from_str_radix(words.next()?, 16).ok()?,
                acked_ms: words.next()?.parse().ok()?,
            }),
            _ => return None,
        };
        if self.fates.len() <= producer {
            self.fates.resize_with(producer + 1, Vec::new);
        }
        let fates = &mut self.fates[producer];
        if fates.len() <= sequence {
            fates.resize(sequence + 1, Fate::Unknown);
        }
        fates[sequence] = fate;
        Some(())
    }
}

/// A journal being written.
#[derive(Debug)]
pub struct JournalWriter {
    path: PathBuf,
    out: BufWriter<File>,
    flushed: Instant,
}

impl JournalWriter {
    /// Starts a journal at `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, run: u64, topic: &str, queues: &[(String, i32)]) -> Result<Self, LoadError> {
        let failed = |source| LoadError::File { path: path.to_owned(), source };
        let out = BufWriter::new(File::create(path).map_err(failed)?);
        let mut writer = Self { path: path.to_owned(), out, flushed: Instant::now() };
        let mut head = format!("{FIRST_WORD} {run:x} {topic}\n");
        for (broker, queue) in queues {
            head += &format!("Q {broker} {queue}\n");
        }
        writer.out.write_all(head.as_bytes()).map_err(failed)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Notes the fate of one message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&mut self, producer: u32, sequence: u64, fate: Fate) -> Result<(), LoadError> {
        let written = match fate {
            Fate::Unknown => writeln!(self.out, "U {producer} {sequence}"),
            Fate::Refused => writeln!(self.out, "R {producer} {sequence}"),
            Fate::Acknowledged(Ack { queue, offset, physical, sent, acked, crc, acked_ms }) => {
                let place = format_args!("{queue} {offset} {physical}");
                writeln!(self.out, "A {producer} {sequence} {place} {sent} {acked} {crc:x} {acked_ms}")
            }
        };
        written.map_err(|source| LoadError::File { path: self.path.clone(), source })?;
        if self.flushed.elapsed() > FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<(), LoadError> {
        self.flushed = Instant::now();
        self.out.flush().map_err(|source| LoadError::File { path: self.path.clone(), source })
    }
}

/// The physical offset in a message id of the broker.
pub fn physical_offset(message_id: &str) -> Option<i64> {
    message_id.parse::<OffsetMessageId>().ok().map(|id| id.physical_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_torn_last_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let queues = [("broker-a".to_owned(), 0), ("broker-a".to_owned(), 1)];
        let ack =
            Ack { queue: 1, offset: 5, physical: 1 << 40, sent: 7, acked: 9, crc: 0xABC, acked_ms: 1_700_000_000_000 };
        let mut writer = JournalWriter::create(&path, 0xFEED, "T", &queues).unwrap();
        writer.note(1, 2, Fate::Acknowledged(ack)).unwrap();
        writer.note(0, 0, Fate::Refused).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}A 1 3 0 5")).unwrap();
        let journal = Journal::read(&path).unwrap();
        assert_eq!((journal.run, journal.topic.as_str(), journal.queues.as_slice()), (0xFEED, "T", &queues[..]));
        assert_eq!(journal.fates[0], [Fate::Refused]);
        assert_eq!(journal.fates[1], [Fate::Unknown, Fate::Unknown, Fate::Acknowledged(ack)]);
        std::fs::write(&path, format!("{whole}A 1 3 9 5 5 5 5 5 5\n")).unwrap();
        assert!(Journal::read(&path).unwrap_err().to_string().contains("line 6"));
        std::fs::write(&path, "").unwrap();
        assert!(Journal::read(&path).is_err());
    }
}
