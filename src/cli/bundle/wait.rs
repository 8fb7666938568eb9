//! `--wait`: until all live replicas run what was asked for.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::super::{
    CliError,
    admin::{AdminArguments, Client, Patience},
    runtime,
    show::{LABEL, RESET},
    spinner::spinner,
};
use crate::{
    config::ServerConfig,
    live::fleet::LIVE_WITHIN,
    server::proto::{GetFleetRequest, GetFleetResponse, ReplicaReport},
};

/// Wait without a number: a bundle may come from afar, and replicas on the same network have it much sooner.
pub const WAIT_S: &str = "120";
/// Nobody sits before a terminal for longer.
pub const WAIT_S_MAX: u64 = 3600;
/// How often the server is asked: replicas say what is new every two seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Replicas that are named; of a large fleet the rest is counted.
const BEHIND_TOLD_MAX: usize = 5;

/// Waits until every live replica has applied a revision, or one after it; returns how many these are. Says on stderr
/// meanwhile which do not, whenever that is news.
pub fn for_all(
    admin: &AdminArguments,
    server: &ServerConfig,
    revision: u64,
    most: Duration,
) -> Result<usize, CliError> {
    runtime()?.block_on(async {
        let until = Instant::now() + most;
        let mut news = News::default();
        loop {
            let ask = async |mut client: Client| client.get_fleet(GetFleetRequest {}).await;
            let call = admin.call(server, Patience::AtHand, ask);
            // A server that does not answer now may do so again.
            let waits = match call.await {
                Ok(fleet) => match following(&fleet, revision) {
                    Ok(replicas) => return Ok(replicas),
                    Err(waits) => waits,
                },
                Err(error) => error.to_string(),
            };
            news.tell(&waits);
            if Instant::now() >= until {
                let most_s = most.as_secs();
                return Err(CliError::Admin(format!(
                    "the change is made, but not all replicas follow after {most_s} s: {waits}"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
}

/// What is waited for, as it was last said.
#[derive(Default)]
struct News {
    said: String,
    spinner: Option<ProgressBar>,
}

impl News {
    fn tell(&mut self, waits: &str) {
        if self.said == waits {
            return;
        }
        waits.clone_into(&mut self.said);
        let spinner = self.spinner.get_or_insert_with(|| spinner("waiting"));
        if spinner.is_hidden() {
            anstream::eprintln!("{LABEL}waiting{RESET}  {waits}");
        } else {
            spinner.set_message(format!("waiting: {waits}"));
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Returns how many live replicas there are, if all of them run this revision; else which do not.
fn following(fleet: &GetFleetResponse, revision: u64) -> Result<usize, String> {
    if let Some(away) = &fleet.store_away {
        return Err(format!("the store that they share is away: {}", away.why));
    }
    let is_live = |replica: &&ReplicaReport| {
        let ago_ms = u128::try_from(fleet.now_ms.saturating_sub(replica.seen_ms)).unwrap_or(0);
        ago_ms <= LIVE_WITHIN.as_millis()
    };
    let live: Vec<&ReplicaReport> = fleet.replicas.iter().filter(is_live).collect();
    let behind = live.iter().filter_map(|replica| {
        let ReplicaReport { host, process_id, revision: at, problem, .. } = replica;
        match (problem.as_str(), *at < revision) {
            ("", false) => None,
            ("", true) => Some(format!("{host} {process_id} is at revision {at} of {revision}")),
            (problem, _) => Some(format!("{host} {process_id}: {problem}")),
        }
    });
    let mut behind: Vec<String> = behind.collect();
    let more = behind.len().saturating_sub(BEHIND_TOLD_MAX);
    if more > 0 {
        behind.truncate(BEHIND_TOLD_MAX);
        behind.push(format!("and {more} more"));
    }
    match (live.len(), behind.is_empty()) {
        (0, _) => Err("no replica has said anything lately".to_owned()),
        (live, true) => Ok(live),
        (_, false) => Err(behind.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::StoreAway;

    const NOW_MS: i64 = 1_000_000;

    fn replica(revision: u64) -> ReplicaReport {
        ReplicaReport {
            host: "a".to_owned(),
            process_id: 7,
            revision,
            seen_ms: NOW_MS,
            ..ReplicaReport::default()
        }
    }

    fn fleet(replicas: Vec<ReplicaReport>) -> GetFleetResponse {
        GetFleetResponse { replicas, now_ms: NOW_MS, ..GetFleetResponse::default() }
    }

    #[track_caller]
    fn check(fleet: &GetFleetResponse, expected: Result<usize, &str>) {
        assert_eq!(following(fleet, 5), expected.map_err(str::to_owned));
    }

    #[test]
    fn all_live_replicas_have_to_follow() {
        check(&fleet(vec![replica(5), replica(6)]), Ok(2));
        check(&fleet(vec![replica(5), replica(4)]), Err("a 7 is at revision 4 of 5"));
        let gone = ReplicaReport { seen_ms: NOW_MS - 60_000, ..replica(1) };
        check(&fleet(vec![replica(5), gone.clone()]), Ok(1));
        check(&fleet(vec![gone]), Err("no replica has said anything lately"));
        let hindered = ReplicaReport { problem: "no memory".to_owned(), ..replica(5) };
        check(&fleet(vec![replica(5), hindered]), Err("a 7: no memory"));
        let many = vec![replica(4); BEHIND_TOLD_MAX + 2];
        let told = following(&fleet(many), 5).unwrap_err();
        assert!(told.ends_with("; a 7 is at revision 4 of 5; and 2 more"), "{told}");
        let store_away = Some(StoreAway { why: "gone".to_owned(), ..StoreAway::default() });
        let away = GetFleetResponse { store_away, ..fleet(vec![replica(5)]) };
        check(&away, Err("the store that they share is away: gone"));
    }
}
