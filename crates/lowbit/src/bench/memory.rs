//! How much memory this process has held.

/// The most bytes of memory that this process has had at once, where the system says (Linux).
pub(super) fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// The bytes of memory that this process has now, where the system says (Linux).
pub(super) fn current_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// A line of proc(5)'s `/proc/self/status`, in kilobytes there.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_counts() {
        // Other tests of this process come and go with their memory meanwhile.
        let touched = vec![1u8; 64 << 20];
        std::hint::black_box(&touched);
        assert!(current_bytes().unwrap() >= 64 << 20);
        assert!(peak_bytes().unwrap() >= 64 << 20);
        std::hint::black_box(&touched);
    }
}
