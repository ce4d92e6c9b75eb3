//! How much memory this broker may count on: what the machine has, or its container may take. Asked at the start.

use std::{fs, path::Path};

/// Where the limit of a container's own control group stands (version 2).
const CONTAINER_LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// Bytes of memory.
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = info.totalram.saturating_mul(u64::from(info.mem_unit));
    container_limit(Path::new(CONTAINER_LIMIT)).map_or(machine, |limit| limit.min(machine))
}

/// The limit in the file, if there is one: it may say `max`, or not be there.
fn container_limit(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_what_its_limit_says_and_the_machine_has_some() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.max");
        assert_eq!(container_limit(&file), None);
        fs::write(&file, "max\n").unwrap();
        assert_eq!(container_limit(&file), None);
        fs::write(&file, "536870912\n").unwrap();
        assert_eq!(container_limit(&file), Some(512 << 20));
        assert!(memory_bytes() > 1 << 20);
    }
}
