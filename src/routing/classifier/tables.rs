//! Tables that a graph looks rows up in: half of a small model, and nothing that ONNX Runtime rearranges. So all sessions
//! of a bundle can read one copy.

use bytes::Bytes;
use prost::Message;

use super::graph::{Model, Node, Tensor};

/// What is smaller is not worth a copy of its own.
const TABLE_BYTES_MIN: usize = 1 << 20;

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// A table of a graph.
#[derive(Debug, PartialEq)]
pub struct Table {
    pub name: String,
    pub shape: Vec<i64>,
    pub values: Values,
}

/// What a table holds, row after row.
#[derive(Debug, PartialEq)]
pub enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
}

/// Returns the large tables of a graph; none of one that cannot be read. Those of other types than a bundle's usual ones
/// are left to ONNX Runtime.
pub fn tables(model: Bytes) -> Vec<Table> {
    let Some(graph) = Model::decode(model).ok().and_then(|model| model.graph) else { return Vec::new() };
    let is_table = |tensor: &Tensor| {
        tensor.values.len() >= TABLE_BYTES_MIN && only_looked_up(&graph.nodes, &tensor.name)
    };
    graph.initializers.iter().filter(|tensor| is_table(tensor)).filter_map(table).collect()
}

fn only_looked_up(nodes: &[Node], name: &str) -> bool {
    let mut uses = nodes.iter().flat_map(|node| {
        let named = node.inputs.iter().enumerate().filter(|(_, input)| *input == name);
        named.map(|(at, _)| looks_up(&node.operator, at))
    });
    uses.clone().next().is_some() && uses.all(|looked_up| looked_up)
}

/// Returns whether an operator looks up rows of this input, counted from 0.
fn looks_up(operator: &str, input: usize) -> bool {
    match operator {
        "Gather" => input == 0,
        // Tokens, positions, segments.
        "EmbedLayerNormalization" | "QEmbedLayerNormalization" => (2..=4).contains(&input),
        _ => false,
    }
}

fn table(tensor: &Tensor) -> Option<Table> {
    let values = match tensor.data_type {
        FLOAT => {
            let (values, rest) = tensor.values.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            Values::F32(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        }
        UINT8 => Values::U8(tensor.values.to_vec()),
        INT8 => Values::I8(tensor.values.iter().map(|&byte| byte.cast_signed()).collect()),
        _ => return None,
    };
    let count = tensor
        .shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(usize::try_from(size).ok()?));
    (count == Some(values.len())).then(|| Table {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        values,
    })
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::classifier::graph::Graph;

    fn node(operator: &str, inputs: &[&str]) -> Node {
        Node {
            operator: operator.to_owned(),
            inputs: inputs.iter().map(ToString::to_string).collect(),
            ..Node::default()
        }
    }

    fn tensor(name: &str, data_type: i32, shape: &[i64], values: Vec<u8>) -> Tensor {
        Tensor {
            shape: shape.to_vec(),
            data_type,
            name: name.to_owned(),
            values: values.into(),
            ..Tensor::default()
        }
    }

    fn found(nodes: Vec<Node>, initializers: Vec<Tensor>) -> Vec<Table> {
        let model =
            Model { graph: Some(Graph { nodes, initializers, ..Graph::default() }), ..Model::default() };
        tables(model.encode_to_vec().into())
    }

    const ROWS: i64 = 1 << 10;

    fn bytes() -> Vec<u8> {
        (0..TABLE_BYTES_MIN).map(|at| at as u8).collect()
    }

    #[test]
    fn only_large_tables_are_taken() {
        let rows = [ROWS, ROWS];
        let nodes = vec![
            node("Gather", &["words", "ids"]),
            node("QEmbedLayerNormalization", &["ids", "", "words", "positions", "small", "scale"]),
            node("MatMulInteger", &["x", "weights"]),
            node("Gather", &["both", "ids"]),
            node("Transpose", &["both"]),
            // Looks up by it, not in it.
            node("Gather", &["x", "indices"]),
        ];
        let initializers = vec![
            tensor("words", UINT8, &rows, bytes()),
            tensor("positions", INT8, &rows, bytes()),
            tensor("small", UINT8, &[2, 2], vec![0; 4]),
            tensor("scale", UINT8, &rows, bytes()),
            tensor("weights", UINT8, &rows, bytes()),
            tensor("both", UINT8, &rows, bytes()),
            tensor("indices", UINT8, &rows, bytes()),
            tensor("unused", UINT8, &rows, bytes()),
        ];
        let found = found(nodes, initializers);
        let names: Vec<&str> = found.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["words", "positions"]);
        assert_eq!(
            found[0],
            Table { name: "words".to_owned(), shape: rows.to_vec(), values: Values::U8(bytes()) }
        );
        let Values::I8(positions) = &found[1].values else { panic!("{:?}", found[1].values) };
        assert_eq!((positions.len(), positions[127], positions[128]), (TABLE_BYTES_MIN, 127, -128));
    }

    #[test]
    fn floats_are_little_endian() {
        let values: Vec<f32> = (0..TABLE_BYTES_MIN / 4).map(|at| at as f32 - 7.5).collect();
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let found = found(
            vec![node("Gather", &["words", "ids"])],
            vec![tensor("words", FLOAT, &[ROWS, ROWS / 4], raw)],
        );
        assert_eq!(found[0].values, Values::F32(values));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let gather = || vec![node("Gather", &["words", "ids"])];
        let check = |data_type: i32, shape: &[i64], values: Vec<u8>| {
            let initializers = vec![tensor("words", data_type, shape, values)];
            assert_eq!(found(gather(), initializers), [], "{data_type} {shape:?}");
        };
        const FLOAT16: i32 = 10;
        check(FLOAT16, &[ROWS, ROWS / 2], bytes());
        check(UINT8, &[ROWS, ROWS - 1], bytes());
        check(UINT8, &[-ROWS, -ROWS], bytes());
        check(UINT8, &[i64::MAX, i64::MAX], bytes());
        check(FLOAT, &[ROWS, ROWS / 4], [bytes(), vec![0]].concat());
        assert_eq!(tables(Bytes::from_static(b"not a graph")), []);
        assert_eq!(tables(Bytes::new()), []);
    }
}
