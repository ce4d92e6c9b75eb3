//! A nameserver over real sockets: the recorded exchanges with Java's nameserver, and what the recording does not show.
#![expect(clippy::unwrap_used, reason = "a test: what fails here shall fail loudly")]

mod bench;
mod recording;
mod replay;
mod requests;
