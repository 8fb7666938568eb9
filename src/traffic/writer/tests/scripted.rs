//! A store in memory that misbehaves by script.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::super::{Place, Shelf};
use crate::{
    config::Retention,
    traffic::{
        feedback::Feedback,
        record::Record,
        speed::Speed,
        store::{Deleted, Landed, Store, StoreError},
    },
};

/// What the scripted store does with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Fine,
    /// Opens, but takes nothing, as with a full disk.
    Full,
    /// Does not open.
    Down,
    /// Takes it and never says so.
    Silent,
    /// Needs so long for each record, and forgets what nobody waits for.
    Slow(Duration),
    /// Until it is moved aside.
    Corrupt,
}

#[derive(Default)]
pub struct Script {
    pub mode: Mode,
    pub records: BTreeMap<Uuid, Record>,
    pub feedback: BTreeMap<String, Feedback>,
    /// Records, and feedback about them.
    pub refused: BTreeSet<Uuid>,
    pub refuses_feedback: bool,
    /// Of batches of records.
    pub refusals: usize,
    pub batches: Vec<usize>,
    pub opened: usize,
    pub moved_aside: usize,
    pub closed: usize,
}

/// A store in memory.
#[derive(Clone, Default)]
pub struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub fn become_(&self, mode: Mode) {
        self.script(|script| script.mode = mode);
    }

    fn fails(&self) -> Result<(), StoreError> {
        let (store, problem) = ("scripted".to_owned(), "by script".to_owned());
        match self.script(|script| script.mode) {
            Mode::Fine | Mode::Silent | Mode::Slow(_) => Ok(()),
            Mode::Full | Mode::Down => Err(StoreError::Down { store, problem }),
            Mode::Corrupt => Err(StoreError::Corrupt { store, problem }),
        }
    }

    /// Does what the script says after the store has done its part.
    async fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        if self.script(|script| script.mode) == Mode::Silent {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

impl Place for Scripted {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Shelf>, StoreError>> {
        let scripted = self.clone();
        Box::pin(async move {
            match scripted.script(|script| script.mode) {
                Mode::Down | Mode::Corrupt => scripted.fails()?,
                Mode::Fine | Mode::Full | Mode::Silent | Mode::Slow(_) => {}
            }
            scripted.script(|script| script.opened += 1);
            Ok(Arc::new(scripted) as Arc<dyn Shelf>)
        })
    }

    fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        self.script(|script| {
            script.moved_aside += 1;
            script.mode = Mode::Fine;
            script.records.clear();
        });
        Ok(Some(PathBuf::from("aside")))
    }
}

impl Shelf for Scripted {
    fn write_at<'a>(&'a self, records: &'a [Record], _: Speed) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            if let Mode::Slow(each) = self.script(|script| script.mode) {
                tokio::time::sleep(each * records.len() as u32).await;
            }
            let new = self.script(|script| {
                if records.iter().any(|record| script.refused.contains(&record.decision_id)) {
                    script.refusals += 1;
                    return None;
                }
                script.batches.push(records.len());
                let before = script.records.len();
                for record in records {
                    script.records.entry(record.decision_id).or_insert_with(|| record.clone());
                }
                Some((script.records.len() - before) as u64)
            });
            let refused =
                || StoreError::Refused { store: "scripted".to_owned(), problem: "by script".to_owned() };
            self.answer(new.ok_or_else(refused)?).await
        })
    }

    fn add_feedback<'a>(
        &'a self,
        feedback: &'a [Feedback],
        unknown_max: u64,
    ) -> BoxFuture<'a, Result<Vec<Landed>, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            if self.script(|script| script.refuses_feedback) {
                let problem = "by script".to_owned();
                return Err(StoreError::Refused { store: "scripted".to_owned(), problem });
            }
            let landed = self.script(|script| {
                let land = |given: &Feedback| {
                    if script.feedback.contains_key(&given.feedback_id) {
                        return Landed::Duplicate;
                    }
                    let known = script.records.contains_key(&given.decision_id);
                    if !known && unknown_max == 0 {
                        return Landed::Full;
                    }
                    script.feedback.insert(given.feedback_id.clone(), given.clone());
                    if known { Landed::Known } else { Landed::Unknown }
                };
                feedback.iter().map(land).collect()
            });
            self.answer(landed).await
        })
    }

    fn tenants_of<'a>(
        &'a self,
        decisions: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            let tenants = self.script(|script| {
                let tenant = |id| script.records.get(id).map(|record| record.request.tenant.clone());
                decisions.iter().map(tenant).collect()
            });
            self.answer(tenants).await
        })
    }

    fn retain(&self, _: Retention) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        Box::pin(async { Ok(Deleted::default()) })
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        self.script(|script| script.closed += 1);
        Box::pin(async {})
    }

    fn store(&self) -> Option<&Store> {
        None
    }
}
