//! The part of ONNX's protobuf schema that a tiny graph needs, field numbers as in `onnx.proto3`.
//!
//! Only written, never read.

/// `TensorProto.DataType`.
pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;
/// `AttributeProto.AttributeType`.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;
/// `TensorProto.DataLocation`.
const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "3")]
    pub int: i64,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<ValueType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    #[prost(oneof = "Size", tags = "1, 2")]
    pub size: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Size {
    #[prost(int64, tag = "1")]
    Fixed(i64),
    #[prost(string, tag = "2")]
    Open(String),
}

impl Node {
    pub fn new(op_type: &str, input: &[&str], output: &str) -> Self {
        Self {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("make_{output}"),
            op_type: op_type.to_owned(),
            attribute: Vec::new(),
        }
    }

    pub fn int(mut self, name: &str, int: i64) -> Self {
        let name = name.to_owned();
        self.attribute.push(Attribute { name, int, ints: Vec::new(), kind: ATTRIBUTE_INT });
        self
    }

    pub fn ints(mut self, name: &str, ints: &[i64]) -> Self {
        let (name, ints) = (name.to_owned(), ints.to_vec());
        self.attribute.push(Attribute { name, int: 0, ints, kind: ATTRIBUTE_INTS });
        self
    }
}

impl Tensor {
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, dims, FLOAT, raw_data)
    }

    pub fn ints(name: &str, values: &[i64]) -> Self {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, &[values.len()], INT64, raw_data)
    }

    /// The same, said to lie in another file.
    pub fn elsewhere(self) -> Self {
        Self { raw_data: Vec::new(), data_location: EXTERNAL, ..self }
    }

    fn new(name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Self {
        let dims = dims.iter().map(|&size| size as i64).collect();
        Self { dims, data_type, name: name.to_owned(), raw_data, data_location: 0 }
    }
}

impl ValueInfo {
    /// A tensor; `None` leaves a dimension open.
    pub fn new(name: &str, element: i32, shape: &[Option<usize>]) -> Self {
        let dimensions = shape.iter().enumerate().map(|(at, size)| {
            let size = size.map_or_else(|| Size::Open(format!("open_{at}")), |size| Size::Fixed(size as i64));
            Dimension { size: Some(size) }
        });
        let shape = Some(Shape { dimensions: dimensions.collect() });
        let kind = Some(ValueType { tensor: Some(TensorType { element, shape }) });
        Self { name: name.to_owned(), kind }
    }
}
