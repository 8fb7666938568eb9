//! Which figures there are, and how each is made from samples and a row's judgement of them.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Better, Row, Scale,
    judge::{Facts, Judged},
    metrics::{
        Answer, CalibrationError, CostFigures, CostQuality, GainCurve, Graded, MacroF1, Mean, Metric,
        RankCorrelation, Saving,
    },
    sample::Sample,
};

/// Parts of the top tier's quality at which savings are told, per cent.
const KEPT: [u32; 3] = [95, 97, 99];

/// Everything that figures are made from.
pub struct Material<'a> {
    pub samples: &'a [Sample],
    pub facts: &'a [Facts],
    pub tiers: &'a [Arc<str>],
    pub scale: Scale,
    /// Tiers that have outcomes, weakest first.
    pub answering: Vec<usize>,
    pub classes: Vec<Arc<str>>,
    /// Whether every difficulty in the file is a number; tiers stand for it otherwise.
    pub numeric_difficulty: bool,
}

/// What is told of one figure beside its value.
pub struct Told {
    /// As gates and JSON name it.
    pub name: String,
    pub better: Better,
    /// Samples that have what it needs.
    pub samples: usize,
}

/// Figures of one row, to be measured together.
struct Measure {
    told: Vec<Told>,
    source: Source,
}

enum Source {
    One(Box<dyn Metric>),
    /// Savings at each of [`KEPT`], then AIQ.
    Costs(CostQuality),
}

/// Every figure of a row; their names and their order are the same for all rows.
pub struct Measures(Vec<Measure>);

impl Measures {
    pub fn told(&self) -> impl Iterator<Item = &Told> {
        self.0.iter().flat_map(|measure| &measure.told)
    }

    /// Returns the figures under these weights.
    pub fn values(&self, weights: &[u32]) -> Vec<Option<f64>> {
        self.0.iter().flat_map(|measure| measure.source.values(weights)).collect()
    }

    pub fn told_by_language(&self) -> impl Iterator<Item = &Told> {
        self.by_language().flat_map(|measure| &measure.told)
    }

    /// Returns the figures that are told by language.
    pub fn values_by_language(&self, weights: &[u32]) -> Vec<Option<f64>> {
        self.by_language().flat_map(|measure| measure.source.values(weights)).collect()
    }

    fn by_language(&self) -> impl Iterator<Item = &Measure> {
        self.0.iter().filter(|measure| measure.told.iter().all(|told| is_told_by_language(&told.name)))
    }
}

impl Source {
    fn values(&self, weights: &[u32]) -> Vec<Option<f64>> {
        match self {
            Self::One(metric) => vec![metric.value(weights)],
            Self::Costs(curve) => {
                let CostFigures { aiq, mut saved } =
                    curve.figures(weights, &KEPT.map(|part| f64::from(part) / 100.0));
                saved.push(aiq);
                saved
            }
        }
    }
}

/// Whether a figure stands in the table of languages.
fn is_told_by_language(metric: &str) -> bool {
    let (family, name) = metric.split_once('.').unwrap_or((metric, ""));
    match family {
        "tier" => true,
        "intent" => name != "ece",
        _ => false,
    }
}

impl<'a> Material<'a> {
    pub fn new(samples: &'a [Sample], facts: &'a [Facts], tiers: &'a [Arc<str>]) -> Self {
        let labels = samples.iter().filter_map(|sample| sample.intent.clone());
        let classes: BTreeSet<Arc<str>> =
            labels.chain(facts.iter().filter_map(|facts| facts.intent.clone())).collect();
        let answering = answering(samples, tiers.len());
        let difficulties = samples.iter().filter(|sample| sample.difficulty.is_some()).count();
        Self {
            scale: Scale::of(tiers.len(), &answering),
            answering,
            classes: classes.into_iter().collect(),
            // A few numbers among words are the odd ones.
            numeric_difficulty: difficulties * 2 > samples.len(),
            samples,
            facts,
            tiers,
        }
    }

    /// Returns the class of an intent; `None` for one that only a baseline knows.
    pub fn class(&self, intent: &str) -> Option<usize> {
        self.classes.binary_search_by(|class| (**class).cmp(intent)).ok()
    }

    /// Returns the truth that difficulty is compared with.
    fn difficulty(&self, sample: &Sample) -> Option<f64> {
        if self.numeric_difficulty { sample.difficulty } else { Some(sample.tier?.0 as f64) }
    }

    /// Returns score and cost of each answering tier, `None` unless all of them are known.
    fn answers(&self, sample: &Sample, facts: &Facts) -> Option<Vec<(f64, f64)>> {
        if self.answering.len() < 2 {
            return None;
        }
        self.answering
            .iter()
            .map(|&tier| {
                let outcome = sample.outcomes[tier]?;
                Some((outcome.score, outcome.cost_usd.unwrap_or(facts.costs_usd[tier])))
            })
            .collect()
    }

    /// Returns what a cost-quality curve is made from.
    pub fn answers_by(&self, judged: &[Judged]) -> Vec<Option<Answer>> {
        let answer = |((sample, facts), judged): ((&Sample, &Facts), &Judged)| {
            let by_tier = self.answers(sample, facts)?;
            let sufficiency = judged.sufficiency.as_ref().map(|all| {
                let below = &self.answering[..self.answering.len() - 1];
                below.iter().map(|&tier| all[tier]).chain([1.0]).collect()
            });
            Some(Answer { sufficiency, chosen: self.nearest(judged.tier), by_tier })
        };
        self.samples.iter().zip(self.facts).zip(judged).map(answer).collect()
    }

    /// Returns the place of the answering tier nearest to a tier: above first, as routing does.
    pub fn nearest(&self, tier: usize) -> usize {
        self.answering.partition_point(|&known| known < tier).min(self.answering.len() - 1)
    }

    /// Returns each sample with what a row says of it, and with nothing where the router had no scores, so that
    /// all rows are measured on the same lines: a rule takes lines away that are the easiest to judge.
    fn scored<'b>(&'b self, judged: &'b [Judged]) -> impl Iterator<Item = (&'b Sample, Option<&'b Judged>)> {
        self.samples
            .iter()
            .zip(self.facts)
            .zip(judged)
            .map(|((sample, facts), judged)| (sample, facts.sufficiency.is_some().then_some(judged)))
    }

    /// Returns every figure of a row.
    pub fn measures(&self, row: Row, judged: &[Judged]) -> Measures {
        let mut list = List(Vec::new());
        self.intents(&mut list, row, judged);
        self.tiers(&mut list, row, judged);
        self.difficulties(&mut list, judged);
        self.gains(&mut list, judged);
        self.costs(&mut list, judged);
        self.coverage(&mut list, row);
        Measures(list.0)
    }

    fn intents(&self, list: &mut List, row: Row, judged: &[Judged]) {
        // A row that names no intent at all is not measured; one missing name is a miss.
        let names_any = judged.iter().any(|judged| judged.intent.is_some());
        let unknown = self.classes.len();
        let pairs: Vec<Option<(usize, usize)>> = self
            .samples
            .iter()
            .zip(judged)
            .map(|(sample, judged)| {
                let label = self.class(sample.intent.as_ref()?)?;
                let got = judged.intent.as_ref().and_then(|intent| self.class(intent));
                names_any.then_some((label, got.unwrap_or(unknown)))
            })
            .collect();
        let hit = |pair: &Option<(usize, usize)>| pair.map(|(label, got)| label == got);
        let count = pairs.iter().flatten().count();
        list.add("intent.accuracy", Better::Higher, count, Mean::share(pairs.iter().map(hit)));
        let macro_f1 = MacroF1::new(pairs.iter().copied(), unknown + 1);
        list.add("intent.macro_f1", Better::Higher, count, macro_f1);
        let stated: Vec<Option<(f64, bool)>> = pairs
            .iter()
            .zip(self.facts)
            .zip(judged)
            .map(|((pair, facts), judged)| {
                // Of the lines that the router states one for.
                facts.intent_confidence?;
                let confidence = judged.intent_confidence.filter(|_| row.states_probabilities())?;
                Some((confidence, hit(pair)?))
            })
            .collect();
        list.add_some("intent.ece", Better::Lower, &stated, |pairs| CalibrationError::new(pairs));
    }

    fn tiers(&self, list: &mut List, row: Row, judged: &[Judged]) {
        let pairs: Vec<Option<(usize, usize)>> = self
            .samples
            .iter()
            .zip(judged)
            .map(|(sample, judged)| Some((sample.tier?.0, judged.tier)))
            .collect();
        let count = pairs.iter().flatten().count();
        let mut share = |name: &str, better: Better, holds: fn(usize, usize) -> bool| {
            let truths = pairs.iter().map(|pair| pair.map(|(label, got)| holds(label, got)));
            list.add(name, better, count, Mean::share(truths));
        };
        share("tier.accuracy", Better::Higher, |label, got| label == got);
        share("tier.within_one", Better::Higher, |label, got| label.abs_diff(got) <= 1);
        share("tier.over_routing", Better::Lower, |label, got| got > label);
        share("tier.under_routing", Better::Lower, |label, got| got < label);
        let macro_f1 = MacroF1::new(pairs.iter().copied(), self.tiers.len());
        list.add("tier.macro_f1", Better::Higher, count, macro_f1);
        for (level, pairs) in self.sufficiency_pairs(row, judged).into_iter().enumerate() {
            let name = format!("sufficiency_ece.{}", self.tiers[level]);
            list.add_some(&name, Better::Lower, &pairs, |pairs| CalibrationError::new(pairs));
        }
    }

    /// Returns, for each tier but the last, (probability that it is enough, whether the label says so).
    pub fn sufficiency_pairs(&self, row: Row, judged: &[Judged]) -> Vec<Vec<Option<(f64, bool)>>> {
        let pair = |level: usize, sample: &Sample, judged: Option<&Judged>| {
            let sufficiency = judged?.sufficiency.as_ref().filter(|_| row.states_probabilities())?;
            Some((sufficiency[level], sample.tier?.0 <= level))
        };
        (0..self.tiers.len() - 1)
            .map(|level| self.scored(judged).map(|(sample, judged)| pair(level, sample, judged)).collect())
            .collect()
    }

    fn difficulties(&self, list: &mut List, judged: &[Judged]) {
        let pairs: Vec<Option<(f64, f64)>> = self
            .scored(judged)
            .map(|(sample, judged)| Some((judged?.difficulty?, self.difficulty(sample)?)))
            .collect();
        list.add_some("difficulty.spearman", Better::Higher, &pairs, |pairs| RankCorrelation::new(pairs));
    }

    fn gains(&self, list: &mut List, judged: &[Judged]) {
        let graded: Vec<Option<Graded>> = self
            .scored(judged)
            .map(|(sample, judged)| {
                let (weak, strong) = (sample.outcomes[self.scale.weak]?, sample.outcomes[self.scale.strong]?);
                let apart = self.scale.weak != self.scale.strong;
                let gain = judged?.gain.filter(|_| apart)?;
                Some(Graded { gain, weak: weak.score, strong: strong.score })
            })
            .collect();
        let gains: Vec<_> = graded
            .iter()
            .map(|graded| graded.map(|graded| (graded.gain, graded.strong - graded.weak)))
            .collect();
        list.add_some("gain.spearman", Better::Higher, &gains, |pairs| RankCorrelation::new(pairs));
        let failures: Vec<_> = graded
            .iter()
            .zip(judged)
            .map(|(graded, judged)| graded.and_then(|g| Some((judged.difficulty?, -(g.weak + g.strong)))))
            .collect();
        list.add_some("gain.difficulty_spearman", Better::Higher, &failures, |pairs| {
            RankCorrelation::new(pairs)
        });
        list.add_some("gain.apgr", Better::Higher, &graded, |graded| GainCurve::apgr(graded));
        list.add_some("gain.cpt50", Better::Lower, &graded, |graded| GainCurve::cpt(graded, 0.5));
        list.add_some("gain.cpt80", Better::Lower, &graded, |graded| GainCurve::cpt(graded, 0.8));
    }

    fn costs(&self, list: &mut List, judged: &[Judged]) {
        let answers = self.answers_by(judged);
        let count = answers.iter().flatten().count();
        let names =
            KEPT.map(|part| format!("cost.saved_at_{part}")).into_iter().chain(["cost.aiq".to_owned()]);
        let told = names.map(|name| Told { name, better: Better::Higher, samples: count }).collect();
        list.0.push(Measure { told, source: Source::Costs(CostQuality::new(&answers)) });
        let chosen = |answer: &Option<Answer>| answer.as_ref().map(|answer| answer.by_tier[answer.chosen]);
        let scores = answers.iter().map(|answer| chosen(answer).map(|(score, _)| score));
        list.add("decided.score", Better::Higher, count, Mean::new(scores));
        let costs = answers.iter().map(|answer| chosen(answer).map(|(_, cost)| cost * 1000.0));
        list.add("decided.cost_usd_per_1000", Better::Lower, count, Mean::new(costs));
        let saved = answers.iter().map(|answer| {
            let (_, top) = answer.as_ref()?.by_tier.last()?;
            Some((chosen(answer)?.1, *top))
        });
        list.add("decided.cost_saved", Better::Higher, count, Saving::new(saved));
        for (place, name) in self.tiers.iter().enumerate() {
            let at = judged.iter().map(|judged| Some(judged.tier == place));
            list.add(&format!("decided.share.{name}"), Better::Neither, judged.len(), Mean::share(at));
        }
    }

    fn coverage(&self, list: &mut List, row: Row) {
        let mut share = |name: &str, better: Better, holds: fn(&Facts) -> bool| {
            let facts = if row == Row::Router { self.facts } else { &[] };
            let truths = facts.iter().map(|facts| Some(holds(facts)));
            list.add(name, better, facts.len(), Mean::share(truths));
        };
        share("coverage.classified", Better::Neither, |facts| facts.classified);
        share("coverage.truncated", Better::Neither, |facts| facts.truncated);
        share("coverage.low_confidence", Better::Neither, |facts| facts.low_confidence);
    }
}

/// Tiers that have outcomes on nine of ten lines that have any; the others would cost most of the lines.
fn answering(samples: &[Sample], tiers: usize) -> Vec<usize> {
    let any = samples.iter().filter(|sample| sample.outcomes.iter().any(Option::is_some)).count();
    (0..tiers)
        .filter(|&tier| {
            let known = samples.iter().filter(|sample| sample.outcomes[tier].is_some()).count();
            known > 0 && known * 10 >= any * 9
        })
        .collect()
}

struct List(Vec<Measure>);

impl List {
    fn add(&mut self, name: &str, better: Better, samples: usize, metric: impl Metric + 'static) {
        let told = vec![Told { name: name.to_owned(), better, samples }];
        self.0.push(Measure { told, source: Source::One(Box::new(metric)) });
    }

    /// Adds a metric of what the samples have.
    fn add_some<T: Copy, M: Metric + 'static>(
        &mut self,
        name: &str,
        better: Better,
        values: &[Option<T>],
        metric: impl FnOnce(std::iter::Copied<std::slice::Iter<'_, Option<T>>>) -> M,
    ) {
        self.add(name, better, values.iter().flatten().count(), metric(values.iter().copied()));
    }
}
