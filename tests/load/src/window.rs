//! The closed loop of one connection: a fixed number of requests in flight, each slot with its own prebuilt frame. What
//! one read answered is sent anew with one vectored write. A lost connection is counted and made again.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::answers::{Answer, AnswerReader};
use crate::frames::{SendFrame, index_of};
use crate::report::Signals;
use crate::tally::{LOST_CONNECTION, SharedTally};

/// Slices of one vectored write; Linux takes no more.
const SLICES_MAX: usize = 1024;

/// A connection on which nothing comes for this long, with requests in flight, is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What goes through a window.
pub trait Traffic {
    /// Patches the frame of `slot` for the next send; false: there is nothing more to send.
    fn prepare(&mut self, slot: usize, frame: &mut SendFrame) -> bool;

    /// The answer to what `slot` sent.
    ///
    /// # Errors
    /// An answer that cannot be read; the connection is given up.
    fn answered(&mut self, slot: usize, answer: &Answer<'_>) -> io::Result<()>;

    /// The connection broke before `slot` had its answer.
    fn lost(&mut self, slot: usize);
}

/// One connection's window.
pub struct Window<'a> {
    /// The broker.
    pub address: &'a str,
    /// One frame for each request in flight.
    pub frames: Vec<SendFrame>,
    /// Where to count.
    pub tally: SharedTally,
    /// When to stop.
    pub signals: &'a Signals,
}

struct Slots {
    free: Vec<usize>,
    sent: Vec<Option<Instant>>,
}

impl Window<'_> {
    /// Runs until told to stop or until there is nothing more to send and every answer is there.
    pub fn run(mut self, traffic: &mut impl Traffic) {
        for (slot, frame) in self.frames.iter_mut().enumerate() {
            frame.set_index(slot as u32);
        }
        let mut last_error = String::new();
        while !self.signals.stopped() {
            let count = self.frames.len();
            let mut slots = Slots { free: (0..count).rev().collect(), sent: vec![None; count] };
            let ended = connect(self.address).and_then(|stream| self.connected(&stream, &mut slots, traffic));
            let lost: Vec<_> = (0..count).filter(|slot| slots.sent[*slot].is_some()).collect();
            let Err(error) = ended else { return };
            lost.iter().for_each(|slot| traffic.lost(*slot));
            if self.signals.stopped() {
                return;
            }
            // The same error ten times a second, while a broker is down, is said once.
            let error = error.to_string();
            if error != last_error {
                eprintln!("{}: {error}; connecting again", self.address);
                last_error = error;
            }
            self.tally.lock().failure(LOST_CONNECTION, lost.len() as u64);
            std::thread::sleep(RECONNECT_PAUSE);
        }
    }

    fn connected(&mut self, stream: &TcpStream, slots: &mut Slots, traffic: &mut impl Traffic) -> io::Result<()> {
        let mut reader = AnswerReader::new(stream.try_clone()?);
        let mut ready = Vec::with_capacity(slots.free.len());
        let mut more = true;
        loop {
            more &= !self.signals.stopped();
            while more && let Some(slot) = slots.free.pop() {
                more = traffic.prepare(slot, &mut self.frames[slot]);
                if more {
                    ready.push(slot);
                }
            }
            if ready.is_empty() && slots.sent.iter().all(Option::is_none) {
                return Ok(());
            }
            let now = Instant::now();
            ready.iter().for_each(|slot| slots.sent[*slot] = Some(now));
            self.write(stream, &ready)?;
            ready.clear();
            reader.fill()?;
            self.take_answers(&mut reader, slots, traffic)?;
        }
    }

    fn write(&self, mut stream: &TcpStream, ready: &[usize]) -> io::Result<()> {
        for some in ready.chunks(SLICES_MAX) {
            let mut slices: Vec<_> = some.iter().map(|slot| IoSlice::new(self.frames[*slot].bytes())).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                let written = stream.write_vectored(rest)?;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    fn take_answers(&self, reader: &mut AnswerReader, slots: &mut Slots, traffic: &mut impl Traffic) -> io::Result<()> {
        let now = Instant::now();
        let mut tally = self.tally.lock();
        while let Some(answer) = reader.next_answer()? {
            let slot = index_of(answer.opaque).filter(|slot| *slot < self.frames.len());
            let Some((slot, sent)) = slot.and_then(|slot| Some((slot, slots.sent[slot].take()?))) else {
                return Err(io::Error::other(format!(
                    "an answer to request {}, which is not in flight",
                    answer.opaque
                )));
            };
            if answer.code == 0 {
                let frame = &self.frames[slot];
                tally.success(frame.messages() as u64, frame.body_bytes() as u64, now - sent);
            } else {
                tally.failure(answer.code, 1);
            }
            traffic.answered(slot, &answer)?;
            slots.free.push(slot);
        }
        Ok(())
    }
}

/// Connects as every connection of this tool does.
///
/// # Errors
/// The system's.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}
