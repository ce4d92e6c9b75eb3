//! What a power cut leaves of what was not synced. One number decides all of it, so that a cut can be made again.

/// SplitMix64: enough randomness to choose sectors, without a dependency.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Which of the sectors that were written and not synced are on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    /// None: the disk had not begun to write.
    None,
    /// All: the disk had just finished.
    All,
    /// Each with the same chance: the disk wrote in whatever order.
    Some,
    /// Stretches, as a disk that wrote several files at once leaves them torn.
    Runs {
        /// Whether the stretch at hand is kept.
        keeping: bool,
    },
}

impl Keep {
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Keep::None,
            1 => Keep::All,
            2..5 => Keep::Some,
            _ => Keep::Runs { keeping: random.below(2) == 0 },
        }
    }

    /// Whether the next sector is kept.
    pub(super) fn one(&mut self, random: &mut Random) -> bool {
        match self {
            Keep::None => false,
            Keep::All => true,
            Keep::Some => random.below(2) == 0,
            Keep::Runs { keeping } => {
                *keeping ^= random.below(4) == 0;
                *keeping
            }
        }
    }
}

/// How many of `pending` changes of names are on the disk: a file system brings them there in the order in which they
/// were made, whoever asked for them.
pub(super) fn names_kept(random: &mut Random, pending: usize) -> usize {
    match random.below(4) {
        0 => 0,
        1 => pending,
        _ => random.below(pending + 1),
    }
}
