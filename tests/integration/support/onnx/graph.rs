//! Weights -> the bytes of `model.onnx`.

use prost::Message;

use super::{
    Fault,
    head::Weights,
    proto::{FLOAT, Graph, INT64, Model, Node, OperatorSet, Tensor, ValueInfo},
};

/// Read by every ONNX Runtime since 1.14.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// Higher than any that exists.
const OPSET_OF_THE_FUTURE: i64 = 99;
/// Rows and columns of the matrices that a slow graph multiplies: some 16 million multiplications a step.
const SLOW_WIDTH: usize = 256;

/// Builds the graph; `slow_steps` matrix products stand before the logits.
pub fn model(weights: &Weights, slow_steps: usize, fault: Option<Fault>) -> Vec<u8> {
    let intents = weights.intents.len() / weights.features;
    let levels = weights.levels.len() / weights.features;
    let (vocabulary, features) = (weights.vocabulary.len(), weights.features);
    let mut node = vec![
        Node::new("Gather", &["table", "input_ids"], "looked_up").int("axis", 0),
        Node::new("ReduceMax", &["looked_up"], "features").ints("axes", &[1]).int("keepdims", 0),
        Node::new("ReduceL2", &["features"], "length").ints("axes", &[1]).int("keepdims", 1),
        Node::new("Div", &["features", "length"], "embedding"),
    ];
    let mut initializer = vec![
        Tensor::floats("table", &[vocabulary, features], &weights.table),
        Tensor::floats("zero", &[1, 1], &[0.0]),
    ];
    // Zeros that depend on the input, so that they are multiplied at every run and change nothing.
    node.push(Node::new("Mul", &["length", "zero"], "nothing"));
    let mut nothing = "nothing".to_owned();
    if slow_steps > 0 {
        initializer.push(Tensor::ints("slow_shape", &[SLOW_WIDTH as i64; 2]));
        node.push(Node::new("Expand", &["nothing", "slow_shape"], "slow_0"));
        for step in 0..slow_steps {
            let before = format!("slow_{step}");
            node.push(Node::new("MatMul", &[&before, &before], &format!("slow_{}", step + 1)));
        }
        nothing = "slow_end".to_owned();
        let last = format!("slow_{slow_steps}");
        node.push(Node::new("ReduceMax", &[&last], &nothing).ints("axes", &[0, 1]).int("keepdims", 1));
    }
    let mut intent_weights = weights.intents.clone();
    let mut intent_width = intents;
    match fault {
        Some(Fault::ScoresNotANumber) => intent_weights[(features - 1) * intents] = f32::NAN,
        Some(Fault::OutputTooWide) => {
            intent_weights.resize(features * (intents + 1), 0.0);
            intent_width += 1;
        }
        _ => {}
    }
    initializer.push(Tensor::floats("intent_weights", &[features, intent_width], &intent_weights));
    initializer.push(Tensor::floats("level_weights", &[features, levels], &weights.levels));
    if fault == Some(Fault::WeightsElsewhere) {
        let weights = initializer.pop().expect("they were pushed above");
        initializer.push(weights.elsewhere());
    }
    node.push(Node::new("MatMul", &["features", "intent_weights"], "intents_bare"));
    node.push(Node::new("MatMul", &["features", "level_weights"], "sufficiency_bare"));
    let intent_output =
        if fault == Some(Fault::OutputRenamed) { "logits_of_intents" } else { "intent_logits" };
    let mut intent_shape = vec![None, Some(intent_width)];
    if fault == Some(Fault::OutputOfAnotherRank) {
        initializer.push(Tensor::floats("cube", &[1, 1, 1], &[0.0]));
        node.push(Node::new("Add", &["intents_bare", "cube"], intent_output));
        intent_shape.insert(0, Some(1));
    } else {
        node.push(Node::new("Add", &["intents_bare", &nothing], intent_output));
    }
    node.push(Node::new("Add", &["sufficiency_bare", &nothing], "sufficiency_logits"));
    let graph = Graph {
        node,
        name: "tiny".to_owned(),
        initializer,
        input: vec![
            ValueInfo::new("input_ids", INT64, &[None, None]),
            ValueInfo::new("attention_mask", INT64, &[None, None]),
        ],
        output: vec![
            ValueInfo::new(intent_output, FLOAT, &intent_shape),
            ValueInfo::new("sufficiency_logits", FLOAT, &[None, Some(levels)]),
            ValueInfo::new("embedding", FLOAT, &[None, Some(features)]),
        ],
    };
    let version = if fault == Some(Fault::OpsetOfTheFuture) { OPSET_OF_THE_FUTURE } else { OPSET };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "pointsman tests".to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version }],
    };
    model.encode_to_vec()
}
