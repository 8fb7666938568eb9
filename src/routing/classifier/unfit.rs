//! Why a bundle is not taken, as a closed set: the label of the metric, the answer of the RPC and the event.
//!
//! The messages say what to do; these words only sort them. Each kind of error maps to exactly one.

use super::{BundleError, SessionError};
use crate::routing::RouterError;

/// Why a bundle may not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// A file is missing, or cannot be read.
    Unreadable,
    /// `manifest.json` is no JSON, or makes no sense.
    Manifest,
    /// The manifest's format is one that this version does not read.
    Format,
    NotListed,
    /// A link leaves the bundle's folder.
    Outside,
    TooLarge,
    Length,
    Sha256,
    /// The manifest's signature is missing or wrong.
    Signature,
    /// The bundle store does not have it, or cannot be reached.
    Store,
    /// The tokenizer cannot be read, or is another model's.
    Tokenizer,
    /// `background.f32` is not what the manifest says.
    Background,
    /// ONNX Runtime cannot build or run the graph.
    Graph,
    /// The graph was written for another version of ONNX.
    Opset,
    /// The graph's inputs or outputs are others than the manifest promises.
    Outputs,
    /// A score is NaN or infinite.
    NotFinite,
    /// Golden samples get other scores.
    Golden,
    /// Its labels and levels do not fit configuration and rules.
    Labels,
    /// The intents by example of the configuration cannot be had with it.
    Examples,
    /// It is too slow beside the running one.
    Latency,
    /// It does not fit in the memory that is left.
    Memory,
    /// The machine had no time to try it: no bundle's fault.
    Busy,
    /// ONNX Runtime is not there: no bundle's fault.
    Library,
    /// The configured device does not work: no bundle's fault.
    Device,
    /// The rules do not compile: no bundle's fault.
    Rules,
}

impl Unfit {
    /// Every reason there is.
    pub const ALL: [Self; 25] = [
        Self::Unreadable,
        Self::Manifest,
        Self::Format,
        Self::NotListed,
        Self::Outside,
        Self::TooLarge,
        Self::Length,
        Self::Sha256,
        Self::Signature,
        Self::Store,
        Self::Tokenizer,
        Self::Background,
        Self::Graph,
        Self::Opset,
        Self::Outputs,
        Self::NotFinite,
        Self::Golden,
        Self::Labels,
        Self::Examples,
        Self::Latency,
        Self::Memory,
        Self::Busy,
        Self::Library,
        Self::Device,
        Self::Rules,
    ];

    /// Returns the reason that a label stands for.
    pub fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unfit| unfit.as_str() == label)
    }

    /// Returns whether the bundle itself is at fault: it would be refused by every machine and under every
    /// configuration. The others may take it another time, or somewhere else.
    pub fn lies_in_bundle(self) -> bool {
        match self {
            Self::Manifest
            | Self::Format
            | Self::NotListed
            | Self::Outside
            | Self::TooLarge
            | Self::Length
            | Self::Sha256
            | Self::Signature
            | Self::Tokenizer
            | Self::Background
            | Self::Graph
            | Self::Opset
            | Self::Outputs
            | Self::NotFinite
            | Self::Golden => true,
            // A whole copy that a server cannot read is for its permissions or its disk to explain.
            Self::Unreadable
            | Self::Store
            | Self::Labels
            | Self::Examples
            | Self::Latency
            | Self::Memory
            | Self::Busy
            | Self::Library
            | Self::Device
            | Self::Rules => false,
        }
    }

    /// Returns the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Manifest => "manifest",
            Self::Format => "format",
            Self::NotListed => "not_listed",
            Self::Outside => "outside",
            Self::TooLarge => "too_large",
            Self::Length => "length",
            Self::Sha256 => "sha256",
            Self::Signature => "signature",
            Self::Store => "store",
            Self::Tokenizer => "tokenizer",
            Self::Background => "background",
            Self::Graph => "graph",
            Self::Opset => "opset",
            Self::Outputs => "outputs",
            Self::NotFinite => "not_finite",
            Self::Golden => "golden",
            Self::Labels => "labels",
            Self::Examples => "examples",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Busy => "busy",
            Self::Library => "library",
            Self::Device => "device",
            Self::Rules => "rules",
        }
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BundleError {
    /// Returns which kind of unfit bundle this is.
    pub fn unfit(&self) -> Unfit {
        match self {
            Self::Unreadable { .. } => Unfit::Unreadable,
            Self::TooLarge { .. } | Self::TooLargeTogether { .. } => Unfit::TooLarge,
            Self::NotListed { .. } => Unfit::NotListed,
            Self::Outside { .. } => Unfit::Outside,
            Self::Sha256 { .. } => Unfit::Sha256,
            Self::Length { .. } => Unfit::Length,
            Self::Manifest { .. } => Unfit::Manifest,
            Self::Format { .. } => Unfit::Format,
            Self::Tokenizer { .. } | Self::OtherTokenizer { .. } => Unfit::Tokenizer,
            Self::Background { .. } => Unfit::Background,
            Self::Graph { .. } => Unfit::Graph,
            Self::Opset { .. } => Unfit::Opset,
            Self::Outputs { .. } => Unfit::Outputs,
            Self::NotFinite { .. } => Unfit::NotFinite,
            Self::GoldenFile { .. } | Self::Golden { .. } => Unfit::Golden,
        }
    }
}

impl SessionError {
    /// Returns which kind of unfit bundle this is.
    pub fn unfit(&self) -> Unfit {
        match self {
            Self::Library(_) => Unfit::Library,
            Self::Cuda(_) => Unfit::Device,
            Self::Memory { .. } | Self::Threads(_) => Unfit::Memory,
            Self::TooSlow { .. } | Self::GoldenTooSlow { .. } => Unfit::Latency,
            Self::Busy(_) => Unfit::Busy,
            Self::Bundle(error) => error.unfit(),
        }
    }
}

impl RouterError {
    /// Returns which kind of unfit bundle this is.
    pub fn unfit(&self) -> Unfit {
        match self {
            Self::UnknownLevel { .. }
            | Self::LevelOrder { .. }
            | Self::UnknownIntent { .. }
            | Self::IntentTaken { .. } => Unfit::Labels,
            Self::Examples(_) => Unfit::Examples,
            Self::Rules(_) => Unfit::Rules,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_different() {
        let labels: BTreeSet<&str> = Unfit::ALL.iter().map(|unfit| unfit.as_str()).collect();
        assert_eq!(labels.len(), Unfit::ALL.len());
        for unfit in Unfit::ALL {
            assert_eq!(Unfit::of(unfit.as_str()), Some(unfit));
        }
        assert_eq!(Unfit::of("weather"), None);
    }
}
