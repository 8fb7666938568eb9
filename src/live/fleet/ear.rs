//! Hears when another replica has exchanged the wanted state, as long as it lives. Never reads the state itself.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use crate::traffic::Traffic;

/// First wait after a connection that broke or could not be had, which doubles with each further one.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait. Meanwhile the state is polled, so that little is lost.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Before it is looked again whether the store is there.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A task that listens; it ends with this. Nothing is lost by that, so nobody waits for its end.
pub struct Ear(JoinHandle<()>);

impl Ear {
    /// Begins to listen. Call it in a runtime's context.
    pub fn open(traffic: Arc<Traffic>, heard: Arc<Notify>) -> Self {
        Self(tokio::spawn(listen(traffic, heard)))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(traffic: Arc<Traffic>, heard: Arc<Notify>) {
    let mut wait = WAIT_MIN;
    loop {
        let Some(store) = traffic.store() else {
            sleep(STORE_PAUSE).await;
            continue;
        };
        let error = match store.listen().await {
            // It cannot tell, and never will.
            Ok(None) => return,
            Ok(Some(mut listener)) => {
                tracing::debug!(store = store.name(), "changes of the wanted state are listened for");
                wait = WAIT_MIN;
                loop {
                    // Also first of all: what was said before this is lost.
                    heard.notify_one();
                    if let Err(error) = listener.heard().await {
                        break error;
                    }
                }
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "changes of the wanted state are polled for only");
        // Not all replicas at once, when a server is back.
        let pause = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
        sleep(pause).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}
