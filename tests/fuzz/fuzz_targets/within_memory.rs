//! What a reader of the store's files may take of memory, however large a number in a file claims to be.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// For what does not depend on the file: the disk of memory it lies on, the tables of a store of its size.
const FIXED_BYTES: usize = 32 << 10;

/// Calls `read` and insists that what it had allocated at any moment is less than twice the content, apart from what any
/// content takes.
pub fn check(content: &[u8], read: impl FnOnce(&[u8])) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    read(content);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let allowed = FIXED_BYTES + 2 * content.len();
    assert!(taken <= allowed, "{taken} bytes taken for a content of {}, {allowed} would do", content.len());
}
