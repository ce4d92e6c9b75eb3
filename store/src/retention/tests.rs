//! What the watch tells the log, look by look.

use super::*;
use crate::error::AppendError;
use crate::storage::Storage;
use crate::test_rig::Rig;

fn watch(rig: &Rig) -> DiskWatch {
    let dirs = vec!["/store/commitlog".into(), "/store/consumequeue".into()];
    DiskWatch::new(Arc::clone(&rig.storage) as Arc<dyn Storage>, dirs, RetentionRules::default())
}

#[test]
fn a_full_disk_refuses_with_numbers_until_there_is_room_again() {
    let rig = Rig::new();
    let watch = watch(&rig);
    assert_eq!(watch.look(&rig.log, None), DiskLevel::Roomy);
    let gib = 1 << 30;
    rig.storage.set_size(100 * gib, 93 * gib);
    assert_eq!(watch.look(&rig.log, None), DiskLevel::Full);
    let Some(AppendError::DiskFull { reason }) = rig.log.refusal() else { panic!("taken") };
    assert!(reason.starts_with("/store/commitlog is 93% full (93.00 of 100.00 GiB)"), "{reason}");
    assert!(reason.contains("refused above 90% and taken again at 85%"), "{reason}");
    rig.storage.set_size(100 * gib, 88 * gib);
    assert_eq!(watch.look(&rig.log, None), DiskLevel::Cleaning);
    let Some(AppendError::DiskFull { reason }) = rig.log.refusal() else { panic!("taken too early") };
    assert!(reason.contains("88% full"), "the numbers are of the last look: {reason}");
    rig.storage.set_size(100 * gib, 84 * gib);
    assert_eq!(watch.look(&rig.log, None), DiskLevel::Scarce);
    assert!(rig.log.refusal().is_none() && watch.status().refused.is_none());
}

#[test]
fn room_on_the_disk_opens_neither_a_closed_nor_a_poisoned_log() {
    for reason in [AppendError::ShuttingDown, AppendError::Poisoned { reason: "the disk broke".into() }] {
        let rig = Rig::new();
        let watch = watch(&rig);
        rig.storage.set_size(100, 99);
        watch.look(&rig.log, None);
        rig.log.refuse(Some(reason.clone()));
        watch.look(&rig.log, None);
        rig.storage.set_size(100, 0);
        watch.look(&rig.log, None);
        assert_eq!(rig.log.refusal().map(|refusal| refusal.to_string()), Some(reason.to_string()));
    }
}

#[test]
fn what_cannot_be_made_readable_is_refused_for_as_long() {
    let rig = Rig::new();
    let watch = watch(&rig);
    let broken = AppendError::ReadOnly { reason: "queues cannot be written".into() };
    watch.look(&rig.log, Some(broken.clone()));
    assert_eq!(rig.log.refusal().map(|refusal| refusal.to_string()), Some(broken.to_string()));
    watch.look(&rig.log, None);
    assert!(rig.log.refusal().is_none());
}
