//! The store as its users see it: what is stored is found again, byte for byte where RocketMQ has it, through restarts,
//! kills, power cuts and failing disks. One file per theme; `rig.rs` holds what they share.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod derived;
mod durability;
mod flips;
mod folder;
mod layout;
mod model;
mod restart;
mod retention;
mod rig;
