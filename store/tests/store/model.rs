//! Any sequence of appends, batches, restarts, kills and power cuts, against plain vectors.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use waspmq_store::{Durability, MessageStore};

use crate::rig::{Rig, append_all, bodies, settle, wait_durable};

const QUEUES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Append { queue: usize, lengths: Vec<usize> },
    Flush,
    Restart,
    Kill,
    PowerCut { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop_oneof![
        6 => proptest::collection::vec(0..300usize, 1..2),
        2 => proptest::collection::vec(0..300usize, 1..6),
        1 => proptest::collection::vec(3800..4100usize, 1..2),
    ];
    prop_oneof![
        20 => (0..QUEUES, lengths).prop_map(|(queue, lengths)| Step::Append { queue, lengths }),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
    ]
}

/// What the store must hold: per queue the bodies, and how many of them are on the disk for certain.
#[derive(Default)]
struct Model {
    queues: [Vec<Vec<u8>>; QUEUES],
    durable: [usize; QUEUES],
    next: u8,
}

impl Model {
    fn append(&mut self, store: &MessageStore, queue: usize, lengths: &[usize]) {
        let new: Vec<Vec<u8>> = lengths
            .iter()
            .map(|length| {
                self.next = self.next.wrapping_add(1);
                vec![self.next; *length]
            })
            .collect();
        let slices: Vec<&[u8]> = new.iter().map(|body| &body[..]).collect();
        let record_bytes: usize = lengths.iter().map(|length| length + 91 + 5 + 10).sum();
        let stored = append_all(store, "Model", queue as i32, &slices);
        assert_eq!(stored.is_ok(), record_bytes + 8 <= 4096, "{record_bytes} bytes: {stored:?}");
        if let Ok(stored) = stored {
            assert_eq!(
                stored.first_queue_offset.0 as usize,
                self.queues[queue].len(),
                "queue {queue} {:?} report {:?}",
                store.find_queue("Model", queue as i32),
                store.open_report()
            );
            self.queues[queue].extend(new);
        }
    }

    fn all_durable(&mut self) {
        self.durable = std::array::from_fn(|queue| self.queues[queue].len());
    }

    fn check(&self, store: &MessageStore) {
        settle(store);
        for (queue, expected) in self.queues.iter().enumerate() {
            assert_eq!(&bodies(store, "Model", queue as i32), expected, "queue {queue}");
        }
        assert_eq!(store.stats().messages as usize, self.queues.iter().map(Vec::len).sum::<usize>());
    }

    /// A power cut may take what was not on the disk, newest first.
    fn check_after_power_cut(&mut self, store: &MessageStore) {
        for queue in 0..QUEUES {
            let left = bodies(store, "Model", queue as i32);
            assert!(left.len() >= self.durable[queue], "queue {queue} lost what was synced");
            self.queues[queue].truncate(left.len());
            assert_eq!(left, self.queues[queue], "queue {queue}");
        }
    }
}

fn play(steps: &[Step]) {
    let mut rig = Rig::new();
    let mut model = Model::default();
    let mut store = rig.open();
    for step in steps {
        match step {
            Step::Append { queue, lengths } => model.append(&store, *queue, lengths),
            Step::Flush => {
                assert_eq!(wait_durable(&store, Duration::from_secs(10)), Durability::Durable);
                model.all_durable();
            }
            Step::Restart => {
                assert!(store.shutdown().clean);
                model.all_durable();
                store = reopen(store, &rig);
                assert!(store.open_report().clean);
                model.check(&store);
            }
            Step::Kill => {
                store = reopen(store, &rig);
                model.check(&store);
            }
            Step::PowerCut { seed } => {
                rig = rig.power_cut(*seed);
                store = reopen(store, &rig);
                model.check_after_power_cut(&store);
            }
        }
    }
    model.check(&store);
}

fn reopen(store: Arc<MessageStore>, rig: &Rig) -> Arc<MessageStore> {
    drop(store);
    rig.open()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_stored_is_found_again(steps in proptest::collection::vec(step(), 1..60)) {
        play(&steps);
    }
}
