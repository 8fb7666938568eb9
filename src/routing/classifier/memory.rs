//! What only the system can do: memory given back after a bundle was loaded, some 40 MB where a small bundle is read, and a
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
        time_of(libc::CLOCK_THREAD_CPUTIME_ID)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
fn time_of(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec to a valid place, and nothing else.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (outcome == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// How long one thread has had a processor, for others to read.
#[derive(Debug, Clone, Copy)]
pub struct ThreadClock {
    #[cfg(target_os = "linux")]
    id: libc::clockid_t,
}

impl ThreadClock {
    /// Returns the calling thread's; `None` where only a thread itself can tell.
    pub fn of_this_thread() -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            let mut id = 0;
            // SAFETY: writes one clock id to a valid place; the thread that is named is running.
            let outcome = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
            (outcome == 0).then_some(Self { id })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Returns what it shows; `None` once its thread has ended.
    pub fn read(self) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        {
            time_of(self.id)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }
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

    #[cfg(target_os = "linux")]
    #[test]
    fn one_thread_lets_others_go_first_and_no_other_does() {
        // Fields as in proc(5); the name, in brackets, is the second one.
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1;
            after_name.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = niceness();
        let lowered = std::thread::spawn(move || {
            let_others_go_first();
            niceness()
        });
        assert_eq!(lowered.join().unwrap(), 10.max(before));
        assert_eq!(niceness(), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_thread_reads_how_long_this_one_ran() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let clock = ThreadClock::of_this_thread().unwrap();
        let before = processor_time().unwrap();
        let read = std::thread::spawn(move || clock.read().unwrap()).join().unwrap();
        assert!((before..=processor_time().unwrap()).contains(&read), "{read:?} after {before:?}");
        let gone = std::thread::spawn(|| ThreadClock::of_this_thread().unwrap()).join().unwrap();
        // Who waits for a thread may go on a moment before the system has forgotten it.
        let began = Instant::now();
        while let Some(still) = gone.read() {
            assert!(began.elapsed() < PATIENCE, "a thread that has ended ran for {still:?}");
            std::thread::yield_now();
        }
    }
}
