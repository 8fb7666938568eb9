//! What only the system can do: memory given back after a bundle was loaded, some 40 MB of a small bundle's 155, and a
//! thread that lets others go first and knows how long it ran.
//!
//! The only unsafe code of the crate. Where the platform lacks a call, nothing happens.
#![allow(unsafe_code)]

use std::time::Duration;
#[cfg(test)]
use std::time::Instant;

/// Returns freed heap pages to the system; glibc keeps them for later otherwise.
pub fn give_back_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has large blocks live in mappings of their own, which go back to the system when they are freed. glibc would raise the
/// size that counts as large with each of them, put the weights of the next bundle among small blocks that stay, and
/// never return them: some 45 MB after a few exchanges of a small bundle.
pub fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// glibc's own size at the start.
        const LARGE_BYTES: libc::c_int = 128 << 10;
        // SAFETY: mallopt takes no pointer; setting a threshold changes where later blocks are put, and nothing else.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}

/// Drops the resident pages of bytes that are part of the executable's file; a later read fetches
/// them from there again.
pub fn give_back_embedded(bytes: &'static [u8]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = (bytes.as_ptr() as usize).next_multiple_of(PAGE);
        let end = (bytes.as_ptr() as usize + bytes.len()) / PAGE * PAGE;
        if start < end {
            // SAFETY: whole pages within a 'static slice of the read-only data segment, which is a
            // private, unmodified mapping of the executable: dropping them loses nothing.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Gives every other thread more of the processor than the calling one, from now on: a thread that loads takes a
/// tenth of what a thread that serves takes where both want all of it.
pub fn let_others_go_first() {
    #[cfg(target_os = "linux")]
    {
        const NICENESS: libc::c_int = 10;
        // SAFETY: takes no pointer; 0 names the calling thread, as Linux counts niceness per thread. A refusal changes
        // nothing.
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
        }
    }
}

/// Returns how long the calling thread has had a processor; `None` where that cannot be told.
pub fn processor_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec to a valid place, and nothing else.
        let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        (outcome == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_has_no_processor() {
        let before = processor_time().unwrap();
        let started = Instant::now();
        std::thread::park_timeout(Duration::from_millis(50));
        let (ran, waited) = (processor_time().unwrap() - before, started.elapsed());
        assert!(ran < waited / 2, "{ran:?} of {waited:?}");
    }
}
