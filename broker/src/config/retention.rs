//! The settings of retention and full disks, as the store takes them. Percentages have RocketMQ's bounds: a value beyond
//! one acts as the bound, and the start page says so.

use std::ops::RangeInclusive;
use std::time::Duration;

use waspmq_settings::Given;
use waspmq_store::RetentionRules;

use super::keys::Keys;

const DELETE_ABOVE: (&str, RangeInclusive<u8>) = ("diskMaxUsedSpaceRatio", 10..=95);
const CLEAN_ABOVE: (&str, RangeInclusive<u8>) = ("diskSpaceCleanForciblyRatio", 30..=85);
const REFUSE_ABOVE: (&str, RangeInclusive<u8>) = ("diskSpaceWarningLevelRatio", 35..=90);

/// What the keys say of it.
pub(super) fn rules(keys: &Keys) -> RetentionRules {
    RetentionRules {
        reserved: Duration::from_secs(keys.reserved_hours.saturating_mul(3600)),
        delete_when: keys.delete_when.0,
        log_bytes_kept: (keys.log_bytes_kept > 0).then_some(keys.log_bytes_kept),
        delete_above: within(keys.disk_delete_above, &DELETE_ABOVE.1),
        clean_above: within(keys.disk_clean_above, &CLEAN_ABOVE.1),
        refuse_above: within(keys.disk_refuse_above, &REFUSE_ABOVE.1),
        clean_forcibly: keys.clean_forcibly,
        every: Duration::from_millis(keys.clean_interval_ms.max(10)),
        pause: Duration::from_millis(keys.delete_pause_ms),
        files_max: keys.delete_files_max.max(1),
    }
}

fn within(percent: u8, bounds: &RangeInclusive<u8>) -> u8 {
    percent.clamp(*bounds.start(), *bounds.end())
}

/// Says of each percentage beyond its bounds how it acts.
pub(super) fn clamped(given: &[Given]) -> impl Iterator<Item = String> {
    let bounds = [DELETE_ABOVE, CLEAN_ABOVE, REFUSE_ABOVE];
    given.iter().filter_map(move |given| {
        let (name, bounds) = bounds.iter().find(|(name, _)| *name == given.name)?;
        let percent = given.value.trim().parse().ok()?;
        let acts = within(percent, bounds);
        (acts != percent).then(|| format!("{name}={percent} acts as {acts}, as in RocketMQ"))
    })
}

#[cfg(test)]
mod tests {
    use waspmq_settings::{Properties, Settings as _};

    use super::*;

    fn given(text: &str) -> Vec<Given> {
        Properties::parse(text).unwrap().into_given()
    }

    fn of(text: &str) -> RetentionRules {
        rules(&Keys::load(&given(text)).unwrap().values)
    }

    #[test]
    fn without_a_word_the_defaults_are_the_stores() {
        assert_eq!(of(""), RetentionRules::default());
    }

    #[test]
    fn rocketmqs_own_file_and_ours_beside() {
        let rules =
            of("deleteWhen=04;16\nfileReservedTime=48\ncommitLogRetentionBytes=1000\ncleanFileForciblyEnable=false");
        assert_eq!(rules.reserved, Duration::from_secs(48 * 3600));
        assert_eq!(rules.delete_when.each().collect::<Vec<_>>(), [4, 16]);
        assert_eq!((rules.log_bytes_kept, rules.clean_forcibly), (Some(1000), false));
    }

    #[test]
    fn percentages_beyond_their_bounds_act_as_the_bound_and_that_is_said() {
        let text = "diskSpaceWarningLevelRatio=97\ndiskSpaceCleanForciblyRatio=20\ndiskMaxUsedSpaceRatio=95";
        let rules = of(text);
        assert_eq!((rules.refuse_above, rules.clean_above, rules.delete_above), (90, 30, 95));
        let notes: Vec<_> = clamped(&given(text)).collect();
        let warning = "diskSpaceWarningLevelRatio=97 acts as 90, as in RocketMQ";
        assert_eq!(notes, [warning, "diskSpaceCleanForciblyRatio=20 acts as 30, as in RocketMQ"]);
    }
}
