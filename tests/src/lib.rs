//! The harness of the tests that need whole processes: a broker under test, and the users' own clients driving it.
//! The test binaries in `tests/tests/` hold the scenarios; the drivers they speak to are in `tests/clients/`.
//! Nothing here links the broker's crates: what is tested is what a client sees on the socket.

pub mod broker;
pub mod cache;
pub mod client;
pub mod driver;
pub mod metrics;
pub mod region_filter;
pub mod scene;
pub mod standalone;
pub mod wire;
