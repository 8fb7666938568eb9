//! Gives memory back to the system after a bundle was loaded: some 40 MB of a small bundle's 155.
//!
//! The only unsafe code of the crate. Where the platform lacks a call, nothing happens.
#![allow(unsafe_code)]

/// Returns freed heap pages to the system; glibc keeps them for later otherwise.
pub fn give_back_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
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
