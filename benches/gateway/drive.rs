//! Closed loops: each caller makes its next call when it has its answer.
//!
//! All gateways take turns in each round, so that what else the machine does hits them alike.

use std::{
    cell::RefCell,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use tokio::task::LocalSet;

use crate::{
    GatewayError,
    client::{Callee, Connection, Shape},
    gateways::Gateway,
    measure::runtime,
    mock::{Mock, Script},
    tally::Tally,
};

/// After a failed call a caller waits; else a gateway that is gone would be asked at full speed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(5);

/// What is asked of every gateway.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub shape: Shape,
    pub script: Script,
    pub callers: usize,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub rounds: usize,
    pub warm_up: Duration,
    pub measure: Duration,
}

/// Runs every load on every gateway; returns the tallies by load and gateway.
pub fn run(
    mock: &Mock,
    gateways: &[Gateway],
    loads: &[Load],
    times: Times,
) -> Result<Vec<Vec<Tally>>, GatewayError> {
    let mut tallies = vec![vec![Tally::new(); gateways.len()]; loads.len()];
    for round in 0..times.rounds {
        for (load, tallies) in loads.iter().zip(&mut tallies) {
            mock.play(load.script);
            // Another one begins each round: none always follows the same.
            for turn in 0..gateways.len() {
                let at = (turn + round) % gateways.len();
                let tally = std::mem::replace(&mut tallies[at], Tally::new());
                tallies[at] = one(&gateways[at], *load, times, tally)?;
            }
        }
        anstream::eprintln!("round {} of {} done", round + 1, times.rounds);
    }
    Ok(tallies)
}

/// Runs one load on one gateway once, callers on this thread.
fn one(gateway: &Gateway, load: Load, times: Times, tally: Tally) -> Result<Tally, GatewayError> {
    let answered_before = tally.answered();
    let start = Instant::now() + times.warm_up;
    let end = start + times.measure;
    let runtime = runtime().map_err(|error| GatewayError::Io { what: "starting a runtime", error })?;
    let tally = Rc::new(RefCell::new(tally));
    let usage = thread::scope(|scope| {
        let usage = scope.spawn(|| {
            thread::sleep(start.saturating_duration_since(Instant::now()));
            let before = gateway.usage();
            thread::sleep(end.saturating_duration_since(Instant::now()));
            before.zip(gateway.usage())
        });
        let callers = LocalSet::new();
        for _ in 0..load.callers {
            let caller = Caller { callee: gateway.callee.clone(), shape: load.shape, start, end };
            callers.spawn_local(caller.run(Rc::clone(&tally)));
        }
        runtime.block_on(callers);
        usage.join().expect("nothing in it panics")
    });
    let mut tally = Rc::into_inner(tally).expect("all callers have ended").into_inner();
    tally.end_round(answered_before, times.measure, usage);
    Ok(tally)
}

struct Caller {
    callee: Callee,
    shape: Shape,
    start: Instant,
    end: Instant,
}

impl Caller {
    async fn run(self, tally: Rc<RefCell<Tally>>) {
        let mut connection = None;
        loop {
            let since = Instant::now();
            if since >= self.end {
                return;
            }
            let outcome = self.call(&mut connection).await;
            if outcome.is_err() {
                connection = None;
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            if since >= self.start {
                tally.borrow_mut().note(&outcome);
            }
        }
    }

    async fn call(&self, connection: &mut Option<Connection>) -> Result<crate::client::Seen, String> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(Connection::open(&self.callee).await?),
        };
        connection.call(self.shape).await
    }
}
