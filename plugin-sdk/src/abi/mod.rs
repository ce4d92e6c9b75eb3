//! The contract between a plugin (guest) and the broker (host): names, numbers, byte layouts, control messages.
//! Used by both sides: the SDK's guest runtime and the broker's `plugin-host`. Every integer is little endian.
//!
//! One call of a plugin, seen from the host:
//! 1. once per instance: call [`export::ARENAS`], read the 16 bytes it points to as [`Arenas`], check them with
//!    [`Arenas::fits`]. The arenas never move; memory may grow, never shrink.
//! 2. `control`: put the request at `in_ptr`, call `control(op, request_len)`, read the answer at `out_ptr`.
//! 3. `filter`: fill the IN arena with a [`BatchWriter`], call `filter(total_len)`, read OUT with [`Verdicts::read`].

mod batch;
mod control;
mod manifest;
mod verdicts;
mod view;

pub use batch::{BatchError, BatchHead, BatchWriter, Record, Token, TokenBytes, split_properties};
pub use control::{
    Answer, ControlError, Decides, Description, Done, Op, PrepareRequest, Prepared, Refuse, ReleaseRequest, Tested,
    decode, encode, split_wasm_expression,
};
pub use manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError, encode_manifest};
pub use verdicts::{VerdictError, Verdicts, verdict_bytes, write_verdicts};
pub use view::{BatchView, RecordBytes};

/// Major version of this contract. A change that an old plugin could notice raises it, and the marker export is renamed.
pub const ABI_MAJOR: u16 = 1;
/// Minor version: new fields at the end of records (see the strides in the batch header), new hooks, new imports.
pub const ABI_MINOR: u16 = 0;

/// Name of the custom section that holds the [`Manifest`].
pub const MANIFEST_SECTION: &str = "wq.manifest";

/// Names a plugin exports.
pub mod export {
    /// The guest's linear memory.
    pub const MEMORY: &str = "memory";
    /// `() -> ()`. Marks the ABI major; never called.
    pub const MARKER: &str = "wq_abi_1";
    /// `() -> i32`: address of four u32: in_ptr, in_cap, out_ptr, out_cap. The first call into a fresh instance.
    pub const ARENAS: &str = "wq_arenas";
    /// `() -> i32`: address of the panic buffer, read after a trap with [`super::panic_text`]. It cannot trap.
    pub const PANIC: &str = "wq_panic";
    /// `(total_len: i32) -> i32`: decides the batch in IN; 0, or the number of a [`super::Fault`].
    pub const FILTER: &str = "filter";
    /// `(op: i32, request_len: i32) -> i32`: length of the answer in OUT; below 0: minus the number of a [`super::Fault`].
    pub const CONTROL: &str = "control";
}

/// What a plugin may import; anything else is refused before compiling.
pub mod import {
    /// The only module name.
    pub const MODULE: &str = "wq";
    /// `log(level: i32, ptr: i32, len: i32)`: one line of UTF-8, cut at [`super::LOG_LINE_BYTES_MAX`].
    pub const LOG: &str = "log";
}

/// Bytes of the IN arena of plugins built with this SDK. The host takes the figure from the arena table.
pub const IN_BYTES: usize = 256 * 1024;
/// Bytes of the OUT arena of plugins built with this SDK.
pub const OUT_BYTES: usize = 8 * 1024;
/// Alignment of both arenas, in bytes.
pub const ARENA_ALIGN: u32 = 16;
/// Bytes of the arena table.
pub const ARENA_TABLE_BYTES: usize = 16;
/// Bytes of the panic buffer: its length as u32, then UTF-8 text.
pub const PANIC_BYTES: usize = 512;
/// A log line is cut here.
pub const LOG_LINE_BYTES_MAX: usize = 1024;
/// What the host asks in one batch unless the messages are too big; a plugin takes as many as fit its arenas.
pub const BATCH_RECORDS: usize = 32;
/// Longest subscription text the broker hands to a plugin.
pub const EXPRESSION_BYTES_MAX: usize = 64 * 1024;

/// First four bytes of a batch: "WQB1".
pub const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"WQB1");
/// Bytes of the batch header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of one record in a batch of [`Hook::Records`].
pub const RECORD_BYTES: usize = 80;
/// Bytes of one record in a batch of [`Hook::Entries`]: the first five fields of a record, at the same places.
pub const ENTRY_BYTES: usize = 40;
/// Bytes of one token: where a property's name and value stand in its property block.
pub const TOKEN_BYTES: usize = 8;
/// Longest property block: RocketMQ stores its length as a signed 16-bit number.
pub const PROPERTIES_BYTES_MAX: usize = i16::MAX as usize;

/// Offsets in the batch header.
pub mod header_at {
    /// u32: [`super::BATCH_MAGIC`]
    pub const MAGIC: usize = 0;
    /// u16: minor version the host speaks
    pub const ABI_MINOR: usize = 4;
    /// u16: [`super::Hook`]
    pub const HOOK: usize = 6;
    /// u32: records in this batch
    pub const COUNT: usize = 8;
    /// u16: bytes from one record to the next; may be more than the guest knows of
    pub const RECORD_STRIDE: usize = 12;
    /// u16: bytes from one token to the next
    pub const TOKEN_STRIDE: usize = 14;
    /// u64: wall clock of this batch, ms since 1970; the guest's only clock
    pub const NOW_MS: usize = 16;
    /// u32: first record
    pub const RECORDS_OFF: usize = 24;
    /// u32: end of the records; tokens, property blocks and bodies follow
    pub const HEAP_OFF: usize = 28;
    /// u32: bytes in use, as passed to `filter`
    pub const TOTAL_LEN: usize = 32;
    /// u32: handle of the prepared subscription
    pub const BINDING_ID: usize = 36;
    /// u32: topic name
    pub const TOPIC_OFF: usize = 40;
    /// u32: bytes of the topic name
    pub const TOPIC_LEN: usize = 44;
    /// u64: generation of the broker's plugin set
    pub const PLUGIN_EPOCH: usize = 48;
}

/// Offsets in a record. An offset of 0 for tokens, properties or body means "not shown".
pub mod record_at {
    /// u64
    pub const QUEUE_OFFSET: usize = 0;
    /// u64
    pub const PHYSICAL_OFFSET: usize = 8;
    /// u64: ms since 1970; 0 in a batch of entries
    pub const BORN_MS: usize = 16;
    /// u64: ms since 1970; 0 in a batch of entries
    pub const STORE_MS: usize = 24;
    /// i64: Java hash of the TAGS property as the consume queue holds it, 0 without tag
    pub const TAGS_CODE: usize = 32;
    /// u32
    pub const SYS_FLAG: usize = 40;
    /// u32
    pub const QUEUE_ID: usize = 44;
    /// u32: times consumed before
    pub const RECONSUME: usize = 48;
    /// u32: the producer's own flag
    pub const FLAGS: usize = 52;
    /// u32: property block, as stored: name 0x01 value 0x02
    pub const PROPS_OFF: usize = 56;
    /// u32
    pub const PROPS_LEN: usize = 60;
    /// u32: tokens, 8-aligned
    pub const TOKENS_OFF: usize = 64;
    /// u32
    pub const N_TOKENS: usize = 68;
    /// u32: body, of which min(body_len, the manifest's body_bytes_max) bytes are shown
    pub const BODY_OFF: usize = 72;
    /// u32: true length of the body
    pub const BODY_LEN: usize = 76;
}

/// What a batch asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Hook {
    /// Decide by consume-queue entries: offsets and tags code, no properties. Records are [`ENTRY_BYTES`] long.
    /// An error bit asks for the record (see [`Decides::EntriesThenTokens`]).
    Entries = 1,
    /// Decide by records: properties as tokens, body if the manifest asks. An error bit says "I cannot say".
    Records = 2,
}

impl Hook {
    /// The hook of a batch header, if this version knows it.
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Entries),
            2 => Some(Self::Records),
            _ => None,
        }
    }
}

/// Why a plugin could not take a call. After one of these the instance is sound; after a trap it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(i32)]
pub enum Fault {
    /// Magic, lengths or offsets of the batch contradict one another.
    #[error("the batch is malformed")]
    BadBatch = 1,
    /// `header.hook` is not one this plugin serves.
    #[error("the hook is unknown to the plugin")]
    UnknownHook = 2,
    /// `header.binding_id` was never prepared, or is released.
    #[error("the subscription handle is not prepared")]
    UnknownBinding = 3,
    /// `configure` did not succeed yet.
    #[error("the plugin is not configured")]
    NotConfigured = 4,
    /// The answer does not fit the OUT arena.
    #[error("the answer does not fit the OUT arena")]
    AnswerTooLong = 5,
    /// `control` got an operation this plugin does not know.
    #[error("the control operation is unknown to the plugin")]
    UnknownOp = 6,
    /// A length argument is below 0 or above the IN arena.
    #[error("the length lies outside the IN arena")]
    BadLength = 7,
    /// A call came while another one runs: only possible after a trap, when the instance should have been dropped.
    #[error("the instance is in use or was left by a trap")]
    Reentered = 8,
}

impl Fault {
    /// Number on the wire, above 0.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The fault of an answer of `filter`, or of a negated answer of `control`; `None` for numbers of later versions.
    pub fn from_number(number: i32) -> Option<Self> {
        const ALL: [Fault; 8] = [
            Fault::BadBatch,
            Fault::UnknownHook,
            Fault::UnknownBinding,
            Fault::NotConfigured,
            Fault::AnswerTooLong,
            Fault::UnknownOp,
            Fault::BadLength,
            Fault::Reentered,
        ];
        ALL.into_iter().find(|fault| fault.number() == number)
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum LogLevel {
    /// Something is wrong and needs an operator.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// Worth a line in normal operation; never per message.
    Info = 3,
    /// For the plugin's author.
    Debug = 4,
}

impl LogLevel {
    /// The level of a `log` call; unknown numbers count as debug.
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// The arena table: addresses and sizes in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arenas {
    /// Address of IN, where the host writes.
    pub in_ptr: u32,
    /// Bytes of IN.
    pub in_cap: u32,
    /// Address of OUT, where the guest answers.
    pub out_ptr: u32,
    /// Bytes of OUT.
    pub out_cap: u32,
}

impl Arenas {
    /// Reads the table that [`export::ARENAS`] points to.
    pub fn from_bytes(bytes: &[u8; ARENA_TABLE_BYTES]) -> Self {
        Self {
            in_ptr: u32_at(bytes, 0),
            in_cap: u32_at(bytes, 4),
            out_ptr: u32_at(bytes, 8),
            out_cap: u32_at(bytes, 12),
        }
    }

    /// The table as the guest stores it.
    pub fn to_bytes(self) -> [u8; ARENA_TABLE_BYTES] {
        let mut bytes = [0; ARENA_TABLE_BYTES];
        for (at, word) in [self.in_ptr, self.in_cap, self.out_ptr, self.out_cap].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Whether both arenas are usable: inside `memory_len` bytes, aligned, apart from one another, big enough for one
    /// record and one verdict. Checked once, as memory only grows.
    pub fn fits(&self, memory_len: usize) -> bool {
        let span = |ptr: u32, cap: u32| (u64::from(ptr), u64::from(ptr) + u64::from(cap));
        let (input, output) = (span(self.in_ptr, self.in_cap), span(self.out_ptr, self.out_cap));
        let inside = input.1 <= memory_len as u64 && output.1 <= memory_len as u64;
        let aligned = self.in_ptr.is_multiple_of(ARENA_ALIGN) && self.out_ptr.is_multiple_of(ARENA_ALIGN);
        let apart = input.1 <= output.0 || output.1 <= input.0;
        inside && aligned && apart && self.in_cap as usize >= 2 * HEADER_BYTES + RECORD_BYTES && self.out_cap >= 64
    }
}

/// The text in a panic buffer; `None` when the guest did not panic (the length is 0) or the buffer makes no sense.
pub fn panic_text(buffer: &[u8]) -> Option<String> {
    let len = u32::from_le_bytes(*buffer.first_chunk::<4>()?) as usize;
    let text = buffer.get(4..4 + len.min(PANIC_BYTES - 4))?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Reads a little-endian u32. `at + 4` lies inside `bytes`, as callers have checked.
#[inline(always)] // Left to itself, the compiler makes a call of it in guests: for every field of every record.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word))
}

/// Reads a little-endian u64. `at + 8` lies inside `bytes`, as callers have checked.
#[inline(always)]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Reads a little-endian u16. `at + 2` lies inside `bytes`, as callers have checked.
#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..].first_chunk::<2>().map_or(0, |word| u16::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arena_table_survives_and_is_checked() {
        let good = Arenas { in_ptr: 1024, in_cap: IN_BYTES as u32, out_ptr: 1024 + IN_BYTES as u32, out_cap: 8192 };
        assert_eq!(Arenas::from_bytes(&good.to_bytes()), good);
        let end = 1024 + IN_BYTES + 8192;
        assert!(good.fits(end));
        assert!(!good.fits(end - 1), "ends outside memory");
        assert!(!Arenas { in_ptr: 1028, ..good }.fits(end), "not aligned");
        assert!(!Arenas { out_ptr: 2048, ..good }.fits(end), "OUT inside IN");
        assert!(!Arenas { in_ptr: u32::MAX - 15, ..good }.fits(end), "address and size wrap");
        assert!(!Arenas { in_cap: 100, ..good }.fits(end), "too small for a record");
    }

    #[test]
    fn panic_text_is_bounded() {
        assert_eq!(panic_text(&[0; PANIC_BYTES]), None);
        assert_eq!(panic_text(&[1, 0]), None);
        let mut buffer = [b'x'; PANIC_BYTES];
        buffer[..4].copy_from_slice(&3u32.to_le_bytes());
        assert_eq!(panic_text(&buffer).as_deref(), Some("xxx"));
        buffer[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(panic_text(&buffer).map(|text| text.len()), Some(PANIC_BYTES - 4));
    }

    #[test]
    fn faults_have_stable_numbers() {
        for number in 1..=8 {
            assert_eq!(Fault::from_number(number).map(Fault::number), Some(number));
        }
        assert_eq!(Fault::from_number(0), None);
        assert_eq!(Fault::from_number(9), None);
    }
}
