//! An upload in parts ends one way or the other, whatever fails.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use object_store::{PutPayload, PutResult, UploadPart};

use super::*;

/// An upload that fails in its parts, at its end or nowhere, and counts how often it was aborted.
#[derive(Debug)]
struct Scripted {
    parts_fail: bool,
    end_fails: bool,
    aborted: Arc<AtomicUsize>,
}

fn outcome(fails: bool) -> Result<(), Error> {
    if fails {
        Err(Error::NotImplemented { operation: String::new(), implementer: String::new() })
    } else {
        Ok(())
    }
}

#[tonic::async_trait]
impl MultipartUpload for Scripted {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        let outcome = outcome(self.parts_fail);
        Box::pin(async { outcome })
    }

    async fn complete(&mut self) -> Result<PutResult, Error> {
        outcome(self.end_fails)?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<(), Error> {
        self.aborted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// `ends`: whether it is waited for until its end.
async fn check(parts_fail: bool, end_fails: bool, ends: bool, expected: usize) {
    let aborted = Arc::new(AtomicUsize::new(0));
    let scripted = Scripted { parts_fail, end_fails, aborted: Arc::clone(&aborted) };
    let mut upload = Upload(Some(Box::new(scripted)));
    let sent = upload.part(vec![1]).await;
    if ends && sent.is_ok() {
        let _ = upload.complete().await;
    }
    drop(upload);
    // What is spawned runs before this goes on: there is one thread.
    tokio::task::yield_now().await;
    assert_eq!(aborted.load(Ordering::SeqCst), expected, "{parts_fail} {end_fails} {ends}");
}

#[tokio::test]
async fn an_upload_is_completed_or_aborted() {
    check(false, false, true, 0).await;
    check(false, true, true, 1).await;
    check(true, false, true, 1).await;
    check(false, false, false, 1).await;
    let aborted = Arc::new(AtomicUsize::new(0));
    let scripted = Scripted { parts_fail: false, end_fails: false, aborted: Arc::clone(&aborted) };
    Upload(Some(Box::new(scripted))).abort().await;
    assert_eq!(aborted.load(Ordering::SeqCst), 1, "once");
}
