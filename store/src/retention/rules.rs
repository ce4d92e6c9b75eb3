//! What is decided about old files and full disks, and nothing that is done about it: numbers in, decisions out.
//! Set by the broker from RocketMQ's keys, asked by the retention thread. Must hold: a message that is younger than
//! `reserved` is given up only to a disk above `clean_above` with `clean_forcibly`, or to `log_bytes_kept`.

use std::time::Duration;

/// Hours of the day, each from 0 to 23.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoursOfDay(u32);

impl HoursOfDay {
    /// These hours; `None` if there is no such hour.
    pub fn new(hours: impl IntoIterator<Item = u8>) -> Option<Self> {
        let mut hours = hours.into_iter();
        hours.try_fold(0, |set, hour| (hour < 24).then(|| set | 1 << hour)).map(Self)
    }

    /// Whether it is one of them.
    pub fn contains(self, hour: u8) -> bool {
        self.0.checked_shr(hour.into()).is_some_and(|set| set & 1 == 1)
    }

    /// All of them, in order.
    pub fn each(self) -> impl Iterator<Item = u8> {
        (0..24).filter(move |hour| self.contains(*hour))
    }
}

/// When files of the log are deleted, and when messages are refused. A file's messages are as old as the record that
/// follows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRules {
    /// How long messages are kept (`fileReservedTime`).
    pub reserved: Duration,
    /// In which hours files with older messages are deleted (`deleteWhen`).
    pub delete_when: HoursOfDay,
    /// How much of the log is kept at least; files beyond it go, however young. `None`: no limit.
    pub log_bytes_kept: Option<u64>,
    /// With more of the disk used, in percent, old messages go at any hour (`diskMaxUsedSpaceRatio`).
    pub delete_above: u8,
    /// With more used, the oldest files go, however young (`diskSpaceCleanForciblyRatio`).
    pub clean_above: u8,
    /// With more used, messages are refused until no more than `clean_above` is (`diskSpaceWarningLevelRatio`).
    pub refuse_above: u8,
    /// Whether young files may go at all (`cleanFileForciblyEnable`).
    pub clean_forcibly: bool,
    /// How often all this is looked at (`cleanResourceInterval`).
    pub every: Duration,
    /// A rest between two files (`deleteCommitLogFilesInterval`).
    pub pause: Duration,
    /// The most files at one look (`deleteFileBatchMax`).
    pub files_max: usize,
}

impl Default for RetentionRules {
    fn default() -> Self {
        RetentionRules {
            reserved: Duration::from_secs(72 * 3600),
            delete_when: HoursOfDay(1 << 4),
            log_bytes_kept: None,
            delete_above: 75,
            clean_above: 85,
            refuse_above: 90,
            clean_forcibly: true,
            every: Duration::from_secs(10),
            pause: Duration::from_millis(100),
            files_max: 10,
        }
    }
}

/// How full the disk is, against the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    /// There is room.
    #[default]
    Roomy,
    /// Old messages go at any hour.
    Scarce,
    /// The oldest files go, however young.
    Cleaning,
    /// Messages are refused.
    Full,
}

/// The moment of a decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now_ms: i64,
    pub(super) local_hour: u8,
    pub(super) level: DiskLevel,
    /// Some file did not get its blocks since the last look, however full the disk says it is.
    pub(super) no_room: bool,
}

/// The oldest file of the log, behind which there are others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    /// Its newest message was stored at this time or before, ms.
    pub(super) newest_ms: i64,
    /// What is left of the log without it.
    pub(super) bytes_behind: u64,
}

/// Why a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Old,
    LogTooLong,
    DiskTooFull,
}

impl RetentionRules {
    /// What so many percent used mean.
    pub(super) fn level(&self, used_percent: u8) -> DiskLevel {
        match used_percent {
            used if used > self.refuse_above => DiskLevel::Full,
            used if used > self.clean_above => DiskLevel::Cleaning,
            used if used > self.delete_above => DiskLevel::Scarce,
            _ => DiskLevel::Roomy,
        }
    }

    /// At how much messages are taken again, in percent.
    pub(super) fn take_again_at(&self) -> u8 {
        self.clean_above.min(self.refuse_above)
    }

    /// Whether messages are refused with so many percent used, if they `were` before.
    pub(super) fn refuses(&self, used_percent: u8, were: bool) -> bool {
        used_percent > if were { self.take_again_at() } else { self.refuse_above }
    }

    /// Why the oldest file goes now, if it does.
    pub(super) fn reason(&self, oldest: Oldest, now: Moment) -> Option<Reason> {
        let reserved = i64::try_from(self.reserved.as_millis()).unwrap_or(i64::MAX);
        let old = oldest.newest_ms.saturating_add(reserved) <= now.now_ms;
        let due = self.delete_when.contains(now.local_hour) || now.level >= DiskLevel::Scarce || now.no_room;
        if old && due {
            return Some(Reason::Old);
        }
        if self.log_bytes_kept.is_some_and(|kept| oldest.bytes_behind >= kept) {
            return Some(Reason::LogTooLong);
        }
        (self.clean_forcibly && now.level >= DiskLevel::Cleaning).then_some(Reason::DiskTooFull)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn moment(now_ms: i64, local_hour: u8, level: DiskLevel) -> Moment {
        Moment { now_ms, local_hour, level, no_room: false }
    }

    #[test]
    fn hours_of_the_day() {
        let hours = HoursOfDay::new([4, 16, 4]).unwrap();
        assert_eq!(hours.each().collect::<Vec<_>>(), [4, 16]);
        assert!(hours.contains(4) && !hours.contains(5) && !hours.contains(36) && !hours.contains(200));
        assert_eq!(HoursOfDay::new([4, 24]), None);
    }

    #[test]
    fn levels_begin_above_their_percentage_and_refusing_ends_lower_than_it_begins() {
        let rules = RetentionRules::default();
        let levels = [75, 76, 85, 86, 90, 91, 100].map(|used| rules.level(used));
        use DiskLevel::{Cleaning, Full, Roomy, Scarce};
        assert_eq!(levels, [Roomy, Scarce, Scarce, Cleaning, Cleaning, Full, Full]);
        assert!(!rules.refuses(90, false) && rules.refuses(91, false));
        assert!(rules.refuses(90, true) && rules.refuses(86, true) && !rules.refuses(85, true));
        // Whoever mixes the two up is not refused for ever.
        let mixed_up = RetentionRules { clean_above: 85, refuse_above: 50, ..rules };
        assert!(mixed_up.refuses(51, false) && mixed_up.refuses(51, true) && !mixed_up.refuses(50, true));
    }

    #[test]
    fn old_files_go_in_their_hour_or_when_space_is_scarce() {
        let rules = RetentionRules::default();
        let old = Oldest { newest_ms: 0, bytes_behind: 1 };
        let just = 72 * HOUR_MS;
        let reason = |now_ms, hour, level| rules.reason(old, moment(now_ms, hour, level));
        assert_eq!(reason(just, 4, DiskLevel::Roomy), Some(Reason::Old));
        assert_eq!(reason(just - 1, 4, DiskLevel::Roomy), None, "not old");
        assert_eq!(reason(just, 5, DiskLevel::Roomy), None, "not now");
        assert_eq!(reason(just, 5, DiskLevel::Scarce), Some(Reason::Old));
        assert_eq!(reason(just - 1, 5, DiskLevel::Scarce), None);
        assert_eq!(reason(just - 1, 5, DiskLevel::Cleaning), Some(Reason::DiskTooFull));
        let starved = Moment { no_room: true, ..moment(just, 5, DiskLevel::Roomy) };
        assert_eq!(rules.reason(old, starved), Some(Reason::Old));
        let careful = RetentionRules { clean_forcibly: false, ..rules };
        assert_eq!(careful.reason(old, moment(just - 1, 4, DiskLevel::Full)), None);
    }

    #[test]
    fn a_log_that_is_too_long_keeps_at_least_what_it_shall() {
        let rules = RetentionRules { log_bytes_kept: Some(1000), ..RetentionRules::default() };
        let now = moment(1, 5, DiskLevel::Roomy);
        let reason = |bytes_behind| rules.reason(Oldest { newest_ms: 1, bytes_behind }, now);
        assert_eq!((reason(999), reason(1000)), (None, Some(Reason::LogTooLong)));
    }

    fn any_rules() -> impl Strategy<Value = RetentionRules> {
        let percents = (0..=100u8, 0..=100u8, 0..=100u8);
        (0..100u64, 0..1u32 << 24, percents, any::<bool>()).prop_map(|(hours, when, percents, clean_forcibly)| {
            RetentionRules {
                reserved: Duration::from_secs(hours * 3600),
                delete_when: HoursOfDay(when),
                delete_above: percents.0,
                clean_above: percents.1,
                refuse_above: percents.2,
                clean_forcibly,
                ..RetentionRules::default()
            }
        })
    }

    proptest! {
        /// Said again in other words: who loses a young message had a disk above the limit and allowed it.
        #[test]
        fn young_messages_go_only_by_force(
            rules in any_rules(), used in 0..=100u8, hour in 0..24u8, age_hours in 0..120i64, no_room: bool,
        ) {
            let newest_ms = 1_700_000_000_000;
            let now_ms = newest_ms + age_hours * HOUR_MS;
            let now = Moment { no_room, ..moment(now_ms, hour, rules.level(used)) };
            let reason = rules.reason(Oldest { newest_ms, bytes_behind: u64::MAX }, now);
            let young = (age_hours as u64) < rules.reserved.as_secs() / 3600;
            let forced = rules.clean_forcibly && used > rules.clean_above.min(rules.refuse_above);
            prop_assert!(reason != Some(Reason::LogTooLong));
            if young {
                prop_assert_eq!(reason.is_some(), forced);
            } else {
                let due = rules.delete_when.each().any(|when| when == hour)
                    || used > rules.delete_above.min(rules.clean_above).min(rules.refuse_above) || no_room;
                prop_assert_eq!(reason.is_some(), due || forced);
            }
        }

        /// However the disk fills and empties: refused above the one, taken below the other, unchanged in between.
        #[test]
        fn refusing_has_no_flutter(rules in any_rules(), walk in proptest::collection::vec(0..=100u8, 1..50)) {
            let mut refused = false;
            for used in walk {
                let now = rules.refuses(used, refused);
                if used > rules.refuse_above {
                    prop_assert!(now);
                } else if used <= rules.clean_above.min(rules.refuse_above) {
                    prop_assert!(!now);
                } else {
                    prop_assert_eq!(now, refused);
                }
                refused = now;
            }
        }
    }
}
