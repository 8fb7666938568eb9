//! Feedback -> the store or the spool, and an answer to who gave it: never before it is durable.

use std::{collections::HashMap, iter::Peekable};

use uuid::Uuid;

use super::{
    Asked, NO_LIMIT, Origin, Shelf, Writer, caught,
    link::Lost,
    queue::{BATCH_BYTES_MAX, BATCH_MAX},
    spool::Entry,
};
use crate::traffic::{
    FeedbackError,
    feedback::Feedback,
    store::{Landed, StoreError},
};

impl Writer {
    /// Writes feedback and answers those who gave it.
    pub(super) async fn answer(&mut self, asked: Vec<Asked>, tenants: &HashMap<Uuid, String>) {
        let whose = self.whose(&asked, tenants).await;
        let (mut feedback, mut answers) = (Vec::new(), Vec::new());
        for Asked { feedback: mut given, answer } in asked {
            let tenant = match whose.get(&given.decision_id) {
                Some(Whose::NotTold)
                    if self.keeper.tenant_matters() && self.keeper.depends_on_tenant(&given) =>
                {
                    let problem = "what of it may be kept is not known while the store is down";
                    let _ = answer.send(Err(FeedbackError::Unavailable(problem.to_owned())));
                    continue;
                }
                Some(Whose::Tenant(tenant)) => Some(tenant.as_str()),
                Some(Whose::NotThere | Whose::NotTold) | None => None,
            };
            if caught(|| self.keeper.feedback(tenant, &mut given)).is_none() {
                (given.comment, given.demonstration) = (None, None);
                tracing::error!("texts of feedback are left out: applying the policy broke down");
            }
            feedback.push(given);
            answers.push(answer);
        }
        let landed = self.add_feedback(&feedback).await;
        for (given, (landed, answer)) in feedback.iter().zip(landed.into_iter().zip(answers)) {
            let landed = match landed {
                Ok(Landed::Full) => Err(FeedbackError::NoRoom(given.decision_id)),
                landed => landed,
            };
            // Who has hung up will find it a duplicate next time.
            let _ = answer.send(landed);
        }
    }

    pub(super) async fn add_feedback(&mut self, feedback: &[Feedback]) -> Vec<Result<Landed, FeedbackError>> {
        match self.write_feedback(feedback, Origin::Request).await {
            Some(landed) => landed
                .into_iter()
                .map(|landed| {
                    landed.map_err(|()| FeedbackError::Unavailable("the store refuses it".to_owned()))
                })
                .collect(),
            None => self.spool_feedback(feedback).await,
        }
    }

    /// Returns what the store made of each, an error where it refuses it for good; `None` when it is down.
    pub(super) async fn write_feedback(
        &mut self,
        feedback: &[Feedback],
        origin: Origin,
    ) -> Option<Vec<Result<Landed, ()>>> {
        let shelf = self.link.shelf()?;
        let unknown_max = match origin {
            Origin::Request => self.config.unknown_feedback_max,
            Origin::Spool { .. } => NO_LIMIT,
        };
        match self.within(shelf.add_feedback(feedback, unknown_max)).await {
            Ok(landed) => {
                self.link.proved();
                Some(landed.into_iter().map(Ok).collect())
            }
            Err(Lost::Failed(StoreError::Refused { .. })) => {
                self.write_each_feedback(&*shelf, feedback, unknown_max, origin).await
            }
            Err(lost) => {
                self.lost(&lost, origin);
                None
            }
        }
    }

    /// Finds the feedback that the store refuses among that which it takes.
    async fn write_each_feedback(
        &mut self,
        shelf: &dyn Shelf,
        feedback: &[Feedback],
        unknown_max: u64,
        origin: Origin,
    ) -> Option<Vec<Result<Landed, ()>>> {
        let mut all = Vec::with_capacity(feedback.len());
        let mut refused = None;
        for one in feedback {
            match self.within(shelf.add_feedback(std::slice::from_ref(one), unknown_max)).await {
                Ok(landed) => all.extend(landed.into_iter().map(Ok)),
                Err(Lost::Failed(error @ StoreError::Refused { .. })) => {
                    all.push(Err(()));
                    refused = Some(error);
                }
                Err(lost) => {
                    self.lost(&lost, origin);
                    return None;
                }
            }
        }
        match refused {
            // It is not the feedback's fault.
            Some(error)
                if all.len() > 1
                    && all.iter().all(Result::is_err)
                    && self.blames_store(all.len(), origin) =>
            {
                self.lost(&Lost::Failed(error), origin);
                None
            }
            Some(error) => {
                tracing::error!(%error, "the traffic store refuses feedback");
                Some(all)
            }
            None => Some(all),
        }
    }

    async fn spool_feedback(&mut self, feedback: &[Feedback]) -> Vec<Result<Landed, FeedbackError>> {
        let entries: Vec<Entry> = feedback.iter().filter_map(|given| Entry::feedback(given).ok()).collect();
        let kept = self.spool.put(&entries).await;
        if let Err(error) = &kept {
            tracing::warn!(%error, "feedback is refused: neither the store nor the spool takes it");
        }
        let answer = |_: &Feedback| match &kept {
            Ok(()) => Ok(Landed::Spooled),
            Err(_) => Err(FeedbackError::Unavailable("neither the store nor its spool takes it".to_owned())),
        };
        feedback.iter().map(answer).collect()
    }

    /// Returns whose decisions those are about which something was said that depends on it.
    async fn whose(&mut self, asked: &[Asked], known: &HashMap<Uuid, String>) -> HashMap<Uuid, Whose> {
        let mut whose = HashMap::new();
        for Asked { feedback, .. } in
            asked.iter().filter(|asked| self.keeper.depends_on_tenant(&asked.feedback))
        {
            let id = feedback.decision_id;
            let tenant = known.get(&id).map_or(Whose::NotTold, |tenant| Whose::Tenant(tenant.clone()));
            whose.insert(id, tenant);
        }
        let open: Vec<Uuid> =
            whose.iter().filter(|(_, whose)| **whose == Whose::NotTold).map(|(id, _)| *id).collect();
        let found = self.tenants_of(&open).await;
        whose.extend(open.into_iter().zip(found));
        whose
    }

    /// Returns whose decisions these are, as far as that is known now.
    async fn tenants_of(&mut self, decisions: &[Uuid]) -> Vec<Whose> {
        if decisions.is_empty() {
            return Vec::new();
        }
        let not_told = || vec![Whose::NotTold; decisions.len()];
        let mut all = match self.link.shelf() {
            Some(shelf) => match self.within(shelf.tenants_of(decisions)).await {
                Ok(tenants) => {
                    tenants.into_iter().map(|tenant| tenant.map_or(Whose::NotThere, Whose::Tenant)).collect()
                }
                Err(lost) => {
                    self.link.lost(&lost);
                    not_told()
                }
            },
            None => not_told(),
        };
        if self.spool.len() > 0 && all.iter().any(|whose| !matches!(whose, Whose::Tenant(_))) {
            let spooled = self.spool.tenants_of(decisions).await;
            for (whose, spooled) in all.iter_mut().zip(spooled) {
                if let (Whose::NotThere | Whose::NotTold, Some(tenant)) = (&*whose, spooled) {
                    *whose = Whose::Tenant(tenant);
                }
            }
        }
        all
    }
}

/// Takes what is written at once, at least one: as much as of records, so that a store gets no more to do in the time that
/// it is waited for.
pub(super) fn next_batch(asked: &mut Peekable<impl Iterator<Item = Asked>>) -> Vec<Asked> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_MAX
        && let Some(next) = asked.next_if(|next| batch.is_empty() || bytes + next.bytes() <= BATCH_BYTES_MAX)
    {
        bytes += next.bytes();
        batch.push(next);
    }
    batch
}

/// Whose decision it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Tenant(String),
    /// Nobody's that the log knows of.
    NotThere,
    /// The store could not be asked.
    NotTold,
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn batches_are_bounded_in_number_and_in_bytes() {
        let check = |comments: &[usize], expected: &[usize]| {
            let asked = |bytes: &usize| {
                let feedback = super::super::tests::feedback(Uuid::nil(), &"x".repeat(*bytes));
                Asked { feedback, answer: oneshot::channel().0 }
            };
            let mut asked = comments.iter().map(asked).peekable();
            let mut sizes = Vec::new();
            while asked.peek().is_some() {
                sizes.push(next_batch(&mut asked).len());
            }
            assert_eq!(sizes, expected);
        };
        check(&[], &[]);
        check(&[1; BATCH_MAX + 2], &[BATCH_MAX, 2]);
        check(&[BATCH_BYTES_MAX / 2; 5], &[2, 2, 1]);
        check(&[BATCH_BYTES_MAX * 2, 1, BATCH_BYTES_MAX, 1], &[1, 1, 1, 1]);
    }
}
