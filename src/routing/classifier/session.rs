//! ONNX Runtime: the only file that names `ort`.
//!
//! Loads the library once, builds sessions, runs one prompt at a time. Never pads and never
//! batches: dynamic int8 scores depend on batch mates, and a prompt's scores must not.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ndarray::{ArrayView1, Axis};
use ort::{
    environment::Environment,
    ep::CUDA,
    session::{RunOptions, Session, builder::GraphOptimizationLevel},
    value::{DynValue, Outlet, Tensor, TensorElementType, TensorRef, ValueType},
};

use super::{
    bundle::BundleError,
    graph, library, memory,
    tables::{self, Table, Values},
};
use crate::config::Device;

const INPUTS: [&str; 2] = ["input_ids", "attention_mask"];
const INTENT: &str = "intent_logits";
const SUFFICIENCY: &str = "sufficiency_logits";
const EMBEDDING: &str = "embedding";

/// Why no session can be had.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No library; the text says where it was looked for and how to fix it.
    #[error("{0}")]
    Library(String),
    #[error("CUDA was asked for and does not work here: {0}")]
    Cuda(String),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(
        "the bundle needs some {needed_mb} MB while it is loaded (sessions: {sessions}), {available_mb} MB are left: free \
         memory, raise the limit, or lower classifier.workers"
    )]
    Memory { needed_mb: u64, available_mb: u64, sessions: usize },
    #[error("no thread for the classifier can be had: {0}")]
    Threads(std::io::Error),
    #[error(
        "the bundle takes {new_us} us a prompt, the running one {running_us} us: at most {ratio_max} times as long is \
         allowed (bundles.latency_ratio_max)"
    )]
    TooSlow { new_us: u64, running_us: u64, ratio_max: f64 },
    #[error("the bundle's golden samples take longer than {} s: the graph is too slow to serve", .0.as_secs())]
    GoldenTooSlow(std::time::Duration),
    #[error(
        "the processor was too busy for the bundle's golden samples within {} s: try it again when there is less to do",
        .0.as_secs()
    )]
    Busy(std::time::Duration),
}

/// Why one prompt could not be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    #[error("output {output} holds {value}")]
    NotFinite { output: &'static str, value: f32 },
    /// An output has another shape than the graph promised.
    #[error("{0}")]
    Shape(String),
    /// A token id is none of the graph's.
    #[error("{0}")]
    UnknownToken(String),
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// Sorts what ONNX Runtime says.
    fn of(error: &ort::Error) -> Self {
        let text = error.to_string();
        // Of Gather, which looks up the embeddings of tokens.
        if text.contains("out of data bounds") { Self::UnknownToken(text) } else { Self::Failed(text) }
    }
}

/// Where a session really runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunsOn {
    Cpu,
    Cuda,
    /// CUDA was tried first, and this is why it is not used.
    CpuWithoutCuda(String),
}

impl std::fmt::Display for RunsOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda => f.write_str("cuda"),
            Self::CpuWithoutCuda(why) => write!(f, "cpu (cuda not used: {why})"),
        }
    }
}

/// The loaded library.
pub struct Runtime {
    environment: Environment,
    /// For a person: which file, which version.
    pub description: String,
}

/// Returns the library, loading it at the first call; later calls answer the same.
pub fn runtime() -> Result<&'static Runtime, SessionError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            memory::keep_large_blocks_apart();
            load()
        })
        .as_ref()
        .map_err(|why| SessionError::Library(why.clone()))
}

fn load() -> Result<Runtime, String> {
    let mut tried = Vec::new();
    for candidate in library::candidates() {
        let path = match candidate.found {
            Ok(path) => path,
            Err(why) => {
                tried.push((candidate.origin, why));
                continue;
            }
        };
        // A library that is too old or of another machine is passed over like a missing one.
        let built = ort::init_from(&path).map_err(|error| error.to_string()).and_then(|builder| {
            let builder = builder.with_name("pointsman").with_telemetry(false);
            builder.build().map_err(|error| error.to_string())
        });
        match built {
            Ok(environment) => {
                let description = format!("{} ({})", path.display(), candidate.origin);
                return Ok(Runtime { environment, description });
            }
            Err(why) => tried.push((candidate.origin, why)),
        }
    }
    Err(library::not_found(&tried))
}

/// What the graph's outputs must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSizes {
    pub intents: usize,
    /// One less than the levels.
    pub sufficiencies: usize,
    /// `None` where the manifest leaves it to the graph.
    pub embedding: Option<usize>,
}

/// One prompt's raw outputs, before calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    pub intent_logits: Vec<f32>,
    pub sufficiency_logits: Vec<f32>,
    /// Of length 1; the golden samples hold a bundle with a background to that.
    pub embedding: Vec<f32>,
}

/// Stops runs from another thread: the one that goes on, before its next operator, and all later ones.
pub struct Stop(RunOptions);

impl Stop {
    pub fn new() -> Result<Self, SessionError> {
        // Options are the library's.
        runtime()?;
        let options = RunOptions::new().map_err(|error| SessionError::Library(error.to_string()))?;
        Ok(Self(options))
    }

    pub fn now(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::error!(%error, "ONNX Runtime does not stop a run");
        }
    }
}

/// A graph that sessions are built of.
pub struct Graph {
    model: Bytes,
    /// By name, for those of several sessions on a CPU.
    tables: Vec<(String, Arc<DynValue>)>,
}

impl Graph {
    /// Reads what so many sessions can share: their tables, some 12 MB of a small model.
    pub fn of(model: Bytes, sessions: usize) -> Result<Self, SessionError> {
        // Values are the library's.
        runtime()?;
        let tables = if sessions > 1 { tables::tables(model.clone()) } else { Vec::new() };
        // One that the library does not take as it is, each session reads for itself.
        let shared = |table: Table| Some((table.name, Arc::new(value(table.shape, table.values).ok()?)));
        Ok(Self { tables: tables.into_iter().filter_map(shared).collect(), model })
    }
}

fn value(shape: Vec<i64>, values: Values) -> ort::Result<DynValue> {
    Ok(match values {
        Values::F32(values) => Tensor::from_array((shape, values))?.into_dyn(),
        Values::U8(values) => Tensor::from_array((shape, values))?.into_dyn(),
        Values::I8(values) => Tensor::from_array((shape, values))?.into_dyn(),
    })
}

/// One ONNX Runtime session: one inference at a time.
pub struct ModelSession {
    session: Session,
    sizes: OutputSizes,
    attention_mask: Vec<i64>,
}

impl ModelSession {
    /// Builds a session where `device` says, with `threads` threads inside one operator.
    pub fn open(
        graph: &Graph,
        sizes: OutputSizes,
        device: Device,
        threads: usize,
    ) -> Result<(Self, RunsOn), SessionError> {
        let runtime = runtime()?;
        let (session, runs_on) = match device {
            Device::Cpu => (on_cpu(runtime, graph, threads)?, RunsOn::Cpu),
            Device::Cuda => (on_cuda(runtime, &graph.model).map_err(SessionError::Cuda)?, RunsOn::Cuda),
            Device::Auto if !cuda_is_offered() => (on_cpu(runtime, graph, threads)?, RunsOn::Cpu),
            Device::Auto => match on_cuda(runtime, &graph.model) {
                Ok(session) => (session, RunsOn::Cuda),
                Err(why) => (on_cpu(runtime, graph, threads)?, RunsOn::CpuWithoutCuda(why)),
            },
        };
        check_graph(&session, sizes)?;
        Ok((Self { session, sizes, attention_mask: Vec::new() }, runs_on))
    }

    /// Runs one unpadded sequence; `ids` has shape `[tokens]`.
    pub fn run(&mut self, ids: &[i64]) -> Result<Outputs, RunError> {
        self.run_unless(ids, None)
    }

    /// The same, until another thread stops it: a failure then.
    pub fn run_unless(&mut self, ids: &[i64], stop: Option<&Stop>) -> Result<Outputs, RunError> {
        self.attention_mask.resize(ids.len(), 1);
        let failed = |error: ort::Error| RunError::of(&error);
        let one_row = |values| ArrayView1::from(values).insert_axis(Axis(0));
        let input_ids = TensorRef::from_array_view(one_row(ids)).map_err(failed)?;
        let mask = TensorRef::from_array_view(one_row(self.attention_mask.as_slice())).map_err(failed)?;
        let inputs = ort::inputs![INPUTS[0] => input_ids, INPUTS[1] => mask];
        let outputs = match stop {
            Some(Stop(options)) => self.session.run_with_options(inputs, options),
            None => self.session.run(inputs),
        };
        let outputs = outputs.map_err(failed)?;
        let row = |name: &str, width: Option<usize>| -> Result<Vec<f32>, RunError> {
            let values = outputs[name].try_extract_array::<f32>().map_err(failed)?;
            let fits = matches!(values.shape(), &[1, got] if width.is_none_or(|width| width == got));
            if !fits {
                let width = width_in_words(width);
                let got = values.shape();
                return Err(RunError::Shape(format!(
                    "output {name} has shape {got:?}, [1, {width}] expected"
                )));
            }
            Ok(values.iter().copied().collect())
        };
        let finite = |output: &'static str, values: Vec<f32>| match values
            .iter()
            .copied()
            .find(|value| !value.is_finite())
        {
            Some(value) => Err(RunError::NotFinite { output, value }),
            None => Ok(values),
        };
        Ok(Outputs {
            intent_logits: finite(INTENT, row(INTENT, Some(self.sizes.intents))?)?,
            sufficiency_logits: finite(SUFFICIENCY, row(SUFFICIENCY, Some(self.sizes.sufficiencies))?)?,
            // Most prompts are routed without it: whoever reads it looks whether it is finite.
            embedding: row(EMBEDDING, self.sizes.embedding)?,
        })
    }
}

fn width_in_words(width: Option<usize>) -> String {
    width.map_or_else(|| "width".to_owned(), |width| width.to_string())
}

/// Whether the loaded library knows CUDA at all.
fn cuda_is_offered() -> bool {
    use ort::ep::ExecutionProvider;
    CUDA::is_available().unwrap_or(false)
}

fn on_cpu(runtime: &Runtime, graph: &Graph, threads: usize) -> Result<Session, BundleError> {
    let refused = |why| BundleError::Graph { why };
    let mut builder = builder(runtime, threads).map_err(refused)?;
    for (name, table) in &graph.tables {
        let with = builder.with_initializer(name, Arc::clone(table));
        builder = with.map_err(|error| refused(error.to_string()))?;
    }
    builder.commit_from_memory(&graph.model).map_err(|error| unbuilt(graph.model.clone(), error.to_string()))
}

/// Sorts what ONNX Runtime says of a graph that it does not take.
fn unbuilt(model: Bytes, why: String) -> BundleError {
    let words = why.to_lowercase();
    match graph::inspect(model) {
        Ok(graph::Written { opset, ir_version })
            if words.contains("opset") || words.contains("ir version") =>
        {
            BundleError::Opset { opset, ir_version, why }
        }
        Ok(_) | Err(_) => BundleError::Graph { why },
    }
}

fn on_cuda(runtime: &Runtime, model: &[u8]) -> Result<Session, String> {
    // Strictly: without error_on_failure a missing CUDA would silently run on the CPU.
    let mut builder = builder(runtime, 1)?
        .with_execution_providers([CUDA::default().build().error_on_failure()])
        .map_err(|error| error.to_string())?;
    builder.commit_from_memory(model).map_err(|error| error.to_string())
}

fn builder(runtime: &Runtime, threads: usize) -> Result<ort::session::builder::SessionBuilder, String> {
    let builder = Session::builder(&runtime.environment).map_err(|error| error.to_string())?;
    let text = |error: ort::Error<_>| error.to_string();
    builder
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(text)?
        .with_intra_threads(threads)
        .map_err(text)?
        // Several sessions on few cores: a spinning thread takes the time of another's work.
        .with_intra_op_spinning(false)
        .map_err(text)?
        .with_log_level(ort::logging::LogLevel::Error)
        .map_err(text)
}

/// Compares the graph's inputs and outputs with what the manifest promises.
fn check_graph(session: &Session, sizes: OutputSizes) -> Result<(), BundleError> {
    let refused = |why: String| BundleError::Outputs { why };
    for name in INPUTS {
        let input = named(session.inputs(), name).ok_or_else(|| refused(format!("has no input {name}")))?;
        if element(input) != Some(TensorElementType::Int64) {
            return Err(refused(format!(
                "input {name} is {}, int64 [batch, tokens] expected",
                input.dtype()
            )));
        }
    }
    if let Some(extra) = session.inputs().iter().find(|input| !INPUTS.contains(&input.name())) {
        return Err(refused(format!("has an input {} that nothing feeds", extra.name())));
    }
    let widths = [
        (INTENT, Some(sizes.intents)),
        (SUFFICIENCY, Some(sizes.sufficiencies)),
        (EMBEDDING, sizes.embedding),
    ];
    for (name, width) in widths {
        let output =
            named(session.outputs(), name).ok_or_else(|| refused(format!("has no output {name}")))?;
        let fits = is_matrix(output, width);
        if element(output) != Some(TensorElementType::Float32) || !fits {
            let width = width_in_words(width);
            return Err(refused(format!(
                "output {name} is {}, float32 [batch, {width}] expected by the manifest",
                output.dtype()
            )));
        }
    }
    Ok(())
}

fn named<'a>(outlets: &'a [Outlet], name: &str) -> Option<&'a Outlet> {
    outlets.iter().find(|outlet| outlet.name() == name)
}

fn element(outlet: &Outlet) -> Option<TensorElementType> {
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => Some(*ty),
        _ => None,
    }
}

/// Whether an output may be one row of `width` numbers for each prompt; what the graph leaves open is seen when it runs.
fn is_matrix(outlet: &Outlet, width: Option<usize>) -> bool {
    match outlet.dtype() {
        ValueType::Tensor { shape, .. } => match &shape[..] {
            // No shape at all.
            [] => true,
            [_, last] => *last < 0 || width.is_none_or(|width| *last == width as i64),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::classifier::bundle::Bundle;

    #[test]
    fn sessions_with_shared_tables_answer_the_same() {
        let Bundle { manifest, model, .. } = Bundle::embedded().unwrap();
        let sizes = OutputSizes {
            intents: manifest.labels.intents.len(),
            sufficiencies: manifest.labels.levels.len() - 1,
            embedding: manifest.embedding.map(|embedding| embedding.width),
        };
        let (alone, shared) = (Graph::of(model.clone(), 1).unwrap(), Graph::of(model, 2).unwrap());
        assert_eq!((alone.tables.len(), shared.tables.len()), (0, 1));
        let open = |graph: &Graph| ModelSession::open(graph, sizes, Device::Cpu, 1).unwrap().0;
        let mut alone = open(&alone);
        let mut sharing = [open(&shared), open(&shared)];
        // The tables live as long as who reads them.
        drop(shared);
        for ids in [&[101, 4863, 1996, 102][..], &[101, 102], &[101; 200]] {
            let expected = alone.run(ids).unwrap();
            for session in &mut sharing {
                assert_eq!(session.run(ids).unwrap(), expected);
            }
        }
    }
}
