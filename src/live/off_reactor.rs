//! What blocks - files, hashing, ONNX Runtime - runs on threads that are made for it, and never on the reactor.

/// Runs what blocks; `None` when it panicked.
pub async fn try_off_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Runs what blocks and never panics.
pub async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    try_off_reactor(work).await.expect("it neither panics nor is cancelled while it is waited for")
}
