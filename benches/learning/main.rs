//! What learning online is worth: regret against a router that knows the truth, in a simulated world.
//!
//! `cargo bench --bench learning` prints it; `-- --out docs/pictures/learning-regret.svg` also draws it. In that world
//! the classifier is right about most targets, but m1 of tier moderate is bad at code (right with 20 % where 85 % are
//! said) and s1 of tier simple good at jargon (90 % where 55 % are said). Every second answer gets a verdict, or with
//! `-- --verdict-every N` every Nth.

#![allow(clippy::print_stdout)]

mod plot;
mod world;

use std::{error::Error, fs, num::NonZeroUsize, path::PathBuf};

use clap::Parser;
use world::{Strategy, World};

const SEED: u64 = 11;
const REQUESTS: usize = 20_000;
/// Ten days in all.
const STEP_MS: i64 = 10 * 86_400_000 / REQUESTS as i64;
const POLICY: &str = "[policy]\nobjective = \"value\"\nvalue_usd = 0.03\n";
const STRATEGIES: [(&str, Strategy); 3] = [
    ("the classifier alone", Strategy::Static),
    ("learning", Strategy::Learning),
    ("learning and exploring 5 %", Strategy::Exploring { rate: 0.05 }),
];

#[derive(Parser)]
struct Arguments {
    /// Where to draw the curves, as SVG.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Of so many answers one gets a verdict.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(2).expect("it is not zero"))]
    verdict_every: NonZeroUsize,
    /// What cargo gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One strategy's regret.
pub struct Curve {
    pub name: &'static str,
    /// US dollars up to each request.
    pub regret_usd: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let curves: Vec<Curve> =
        STRATEGIES.map(|(name, strategy)| curve(name, strategy, arguments.verdict_every)).into();
    println!("regret after {REQUESTS} requests, US dollars, and of the last thousand");
    println!("one verdict for {} answers", arguments.verdict_every);
    for Curve { name, regret_usd } in &curves {
        let all = regret_usd[REQUESTS - 1];
        println!("{name:<28} {all:>8.2} {:>8.2}", all - regret_usd[REQUESTS - 1001]);
    }
    if let Some(out) = &arguments.out {
        fs::write(out, plot::regret(&curves)?)?;
    }
    Ok(())
}

fn curve(name: &'static str, strategy: Strategy, verdict_every: NonZeroUsize) -> Curve {
    let mut world = World::new(SEED, POLICY, STEP_MS, |intent, target, _| match (intent, target) {
        ("code", "m1") => -3.1,
        ("jargon", "s1") => 2.0,
        _ => 0.0,
    });
    let mut sum = 0.0;
    let regret_usd = (0..REQUESTS)
        .map(|at| {
            let request = world.request();
            let served = world.serve(&request, strategy);
            sum += world.worth(&world.oracle(&request)) - world.worth(&served);
            if at % verdict_every == 0 {
                world.feedback(&request, &served);
            }
            sum
        })
        .collect();
    for (intent, target) in [("code", "m1"), ("jargon", "s1")] {
        if let Some(known) = world.estimate(intent, target) {
            println!("{name}: {target} at {intent} {:+.2} +-{:.2}", known.mean, known.sd);
        }
    }
    Curve { name, regret_usd }
}
