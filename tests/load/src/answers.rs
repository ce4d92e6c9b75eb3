//! Reads answers from one blocking socket and finds, without decoding them, the two numbers a sender needs: code and
//! request number. An answer written in a way the scan does not know is decoded in full instead.

use std::io::{self, Read};
use std::net::TcpStream;

use memchr::memmem;
use waspmq_protocol::{Command, FRAME_BYTES_MAX, HeaderKind, frame};

const BUFFER_BYTES: usize = 256 * 1024;

/// Answers of one connection, as they come.
#[derive(Debug)]
pub struct AnswerReader {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Response code.
    pub code: i32,
    /// The request's number.
    pub opaque: i32,
    frame: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The answer, decoded in full.
    ///
    /// # Errors
    /// A header that cannot be decoded.
    pub fn command(&self) -> io::Result<Command<'a>> {
        decode(self.frame)
    }
}

impl AnswerReader {
    /// Reads from `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Waits for bytes and takes what is there.
    ///
    /// # Errors
    /// The socket's, or that the other side has closed.
    pub fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 4, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed the connection")),
            bytes => {
                self.end += bytes;
                Ok(())
            }
        }
    }

    /// The next complete answer that has been read. Requests of the broker to us are passed over.
    ///
    /// # Errors
    /// Bytes that are no frame.
    pub fn next_answer(&mut self) -> io::Result<Option<Answer<'_>>> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            let Some(bounds) = frame::split(bytes, 2 * FRAME_BYTES_MAX).map_err(io::Error::other)? else {
                return Ok(None);
            };
            let at = self.start;
            self.start += bounds.total;
            let header = at + bounds.header.start..at + bounds.header.end;
            let frame = at..self.start;
            let found = match bounds.kind {
                HeaderKind::Json => scan_json(&self.buffer[header]),
                HeaderKind::RocketMq => scan_binary(&self.buffer[header]),
            };
            if let Some((code, opaque)) = found {
                return Ok(Some(Answer { code, opaque, frame: &self.buffer[frame] }));
            }
            let command = decode(&self.buffer[frame.clone()])?;
            if command.flags.is_response() {
                let (code, opaque) = (command.code, command.opaque);
                return Ok(Some(Answer { code, opaque, frame: &self.buffer[frame] }));
            }
        }
    }
}

fn decode(bytes: &[u8]) -> io::Result<Command<'_>> {
    let bounds = frame::split(bytes, usize::MAX).map_err(io::Error::other)?;
    let bounds = bounds.ok_or_else(|| io::Error::other("half a frame"))?;
    Command::decode(bytes, &bounds).map_err(io::Error::other)
}

/// Code and number of an answer whose keys come in Java's order.
fn scan_json(header: &[u8]) -> Option<(i32, i32)> {
    let rest = header.strip_prefix(b"{\"code\":")?;
    let code = leading_number(rest)?;
    // Inside a text the quotes would be escaped, so the last one is the key.
    let at = memmem::rfind(header, b"\"opaque\":")?;
    let flag = memmem::rfind(&header[..at], b"\"flag\":")?;
    let is_answer = leading_number(&header[flag + 7..])? & 1 == 1;
    if is_answer { Some((code, leading_number(&header[at + 9..])?)) } else { None }
}

fn scan_binary(header: &[u8]) -> Option<(i32, i32)> {
    let code = i16::from_be_bytes(*header.first_chunk()?);
    let opaque = i32::from_be_bytes(*header.get(5..)?.first_chunk()?);
    let flag = i32::from_be_bytes(*header.get(9..)?.first_chunk()?);
    (flag & 1 == 1).then_some((code.into(), opaque))
}

fn leading_number(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=10).contains(&count) {
        return None;
    }
    let value = digits[..count].iter().fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    i32::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use waspmq_protocol::command::Flags;
    use waspmq_protocol::{RemotingCommand, ResponseCode};

    use super::*;

    fn header(command: &RemotingCommand) -> Vec<u8> {
        let bytes = command.encode();
        let bounds = frame::split(&bytes, usize::MAX).unwrap().unwrap();
        bytes[bounds.header].to_vec()
    }

    #[test]
    fn the_scan_finds_what_a_decoder_finds() {
        for (code, opaque) in [(0, 1_000_000_063), (-3, -1), (i16::MAX, i32::MIN), (17, 0)] {
            let mut answer = RemotingCommand::response(ResponseCode(code.into()))
                .with_remark("\"opaque\":5,\"flag\":0")
                .with_ext("opaque", "7")
                .with_ext("msgId", "\"opaque\":9");
            answer.opaque = opaque;
            assert_eq!(scan_json(&header(&answer)), Some((code.into(), opaque)));
            answer.kind = HeaderKind::RocketMq;
            assert_eq!(scan_binary(&header(&answer)), Some((code.into(), opaque)));
            answer.flags = Flags(0);
            assert_eq!(scan_binary(&header(&answer)), None);
            answer.kind = HeaderKind::Json;
            assert_eq!(scan_json(&header(&answer)), None);
        }
        assert_eq!(scan_json(b"{\"flag\":1,\"code\":0,\"opaque\":3}"), None);
    }
}
