//! What has to be known of a graph before ONNX Runtime reads it: which ONNX it was written for, and that it is complete.
//!
//! Reads the few fields of ONNX's protobuf schema that say so, or that [`super::tables`] needs (field numbers as in
//! `onnx.proto3`), and skips the rest. Weights are not copied where the graph's bytes are shared ones.

use bytes::{Buf, Bytes};
use prost::Message;

use super::bundle::BundleError;

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializers: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Function {
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub values: Bytes,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    pub indices: Option<Tensor>,
}

/// Which ONNX a graph was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Version of the standard operators.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
}

/// Reads a graph's head; one that keeps weights in other files, which no hash of the manifest holds, is refused.
pub fn inspect(model: impl Buf) -> Result<Written, BundleError> {
    let refused = |why: String| BundleError::Graph { why };
    let model = Model::decode(model)
        .map_err(|error| refused(format!("is no ONNX graph, or not all of one: {error}: export it again")))?;
    let graph = model.graph.ok_or_else(|| refused("holds no graph: export it again".to_owned()))?;
    let functions = model.functions.iter().flat_map(|function| function.nodes.iter().find_map(outside));
    if let Some(name) = outside_graph(&graph).or_else(|| functions.into_iter().next()) {
        return Err(refused(format!(
            "tensor {name:?} lies in another file, which the manifest's hashes do not hold: export the graph with \
             its weights inside"
        )));
    }
    let standard = |set: &&OperatorSet| set.domain.is_empty() || set.domain == "ai.onnx";
    let opset = model.opset_import.iter().find(standard).map_or(0, |set| set.version);
    Ok(Written { opset, ir_version: model.ir_version })
}

/// Returns the name of a tensor that lies in another file.
fn outside_graph(graph: &Graph) -> Option<&str> {
    let sparse = graph.sparse_initializers.iter().flat_map(parts);
    external(graph.initializers.iter().chain(sparse)).or_else(|| graph.nodes.iter().find_map(outside))
}

fn outside(node: &Node) -> Option<&str> {
    node.attributes.iter().find_map(|attribute| {
        let sparse = attribute.sparse_tensor.iter().flat_map(parts);
        external(attribute.tensor.iter().chain(&attribute.tensors).chain(sparse))
            .or_else(|| attribute.graph.iter().chain(&attribute.graphs).find_map(outside_graph))
    })
}

fn parts(tensor: &SparseTensor) -> impl Iterator<Item = &Tensor> {
    tensor.values.iter().chain(&tensor.indices)
}

fn external<'a>(mut tensors: impl Iterator<Item = &'a Tensor>) -> Option<&'a str> {
    tensors.find(|tensor| tensor.data_location == EXTERNAL).map(|tensor| tensor.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_location: i32) -> Tensor {
        Tensor { name: "weights".to_owned(), data_location, ..Tensor::default() }
    }

    fn model(graph: Graph) -> Vec<u8> {
        let opset_import = vec![
            OperatorSet { domain: "com.microsoft".to_owned(), version: 1 },
            OperatorSet { domain: String::new(), version: 17 },
        ];
        Model { ir_version: 8, graph: Some(graph), opset_import, functions: Vec::new() }.encode_to_vec()
    }

    fn within(graph: Graph) -> Graph {
        let attribute = Attribute { graph: Some(graph), ..Attribute::default() };
        Graph { nodes: vec![Node { attributes: vec![attribute], ..Node::default() }], ..Graph::default() }
    }

    #[test]
    fn the_version_is_that_of_the_standard_operators() {
        let graph = Graph { initializers: vec![tensor(0)], ..Graph::default() };
        assert_eq!(inspect(&*model(graph)).unwrap(), Written { opset: 17, ir_version: 8 });
    }

    #[test]
    fn weights_in_other_files_are_found_wherever_they_hide() {
        let check = |graph: Graph| {
            let error = inspect(&*model(graph)).unwrap_err().to_string();
            assert!(error.contains("tensor \"weights\" lies in another file"), "{error}");
        };
        let initializer = Graph { initializers: vec![tensor(0), tensor(EXTERNAL)], ..Graph::default() };
        check(within(within(initializer.clone())));
        check(initializer);
        let attribute = Attribute { tensors: vec![tensor(EXTERNAL)], ..Attribute::default() };
        check(Graph {
            nodes: vec![Node { attributes: vec![attribute], ..Node::default() }],
            ..Graph::default()
        });
        let sparse = SparseTensor { values: Some(tensor(EXTERNAL)), indices: None };
        check(Graph { sparse_initializers: vec![sparse], ..Graph::default() });
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        let whole = model(Graph { initializers: vec![tensor(0)], ..Graph::default() });
        for bytes in [&whole[..whole.len() - 1], b"not a graph", b""] {
            assert!(matches!(inspect(bytes), Err(BundleError::Graph { .. })));
        }
    }
}
