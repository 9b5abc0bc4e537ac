//! The reference: every operator by its definition, in `i64`, one element after the other.
//!
//! Slow on purpose. What is documented of an operator is what its few lines here do, so that a
//! person can hold one against the other; the [engine](crate::engine) is compared with it.

use crate::error::GraphError;
use crate::graph::{Graph, Node, TensorId};
use crate::ops::Values;

/// Every tensor of one image, as integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    tensors: Vec<Vec<i64>>,
}

impl Trace {
    /// A tensor's integers, the last dimension's index moving fastest.
    ///
    /// # Panics
    ///
    /// If it is of another graph.
    pub fn tensor(&self, id: TensorId) -> &[i64] {
        &self.tensors[id.0]
    }
}

/// Runs a graph on one image: a slice an input, in the order in which inputs were added. Returns
/// every tensor on the way.
///
/// # Errors
///
/// If the number of inputs or of their elements does not fit, or a number is beyond what the graph
/// was proven for.
pub fn trace(graph: &Graph, inputs: &[&[i64]]) -> Result<Trace, GraphError> {
    let batch = graph.batch(inputs)?;
    if batch != 1 && !inputs.is_empty() {
        let reason = format!("{batch} images given, expected 1");
        return Err(GraphError::node("inputs", reason));
    }
    let mut tensors: Vec<Vec<i64>> = vec![Vec::new(); graph.tensors().len()];
    for (id, values) in graph.inputs().iter().zip(inputs) {
        tensors[id.0] = values.to_vec();
    }
    for node in graph.nodes() {
        let values = |id: &TensorId| Values {
            tensor: graph.tensor(*id),
            values: &tensors[id.0],
        };
        let inputs: Vec<Values> = node.inputs.iter().map(values).collect();
        let output = graph.tensor(node.output);
        let result = node.operator.operation().evaluate(&inputs, output);
        debug_assert!(result.iter().enumerate().all(|(e, v)| {
            let interval = output.intervals[output.channel(e)];
            (interval.least..=interval.greatest).contains(v)
        }));
        tensors[node.output.0] = result;
    }
    Ok(Trace { tensors })
}

/// Runs a graph on a batch: of each input the images one after the other. Returns the outputs, in
/// the order in which they were named, in the same form.
///
/// # Errors
///
/// As [`trace`], but for the number of images, which is any.
pub fn interpret(graph: &Graph, inputs: &[&[i64]]) -> Result<Vec<Vec<i64>>, GraphError> {
    let batch = graph.batch(inputs)?;
    let mut outputs = vec![Vec::new(); graph.outputs().len()];
    for image in 0..batch {
        let image: Vec<&[i64]> = inputs
            .iter()
            .map(|values| &values[image * values.len() / batch..(image + 1) * values.len() / batch])
            .collect();
        let trace = trace(graph, &image)?;
        for (output, id) in outputs.iter_mut().zip(graph.outputs()) {
            output.extend(trace.tensor(*id));
        }
    }
    Ok(outputs)
}

/// What a node makes of given inputs, each as many integers as the tensor has elements.
///
/// # Panics
///
/// If there are more or fewer inputs or integers.
pub fn evaluate(graph: &Graph, node: &Node, inputs: &[&[i64]]) -> Vec<i64> {
    assert_eq!(inputs.len(), node.inputs.len());
    let pairs = node.inputs.iter().zip(inputs);
    let values = pairs.map(|(&id, &values)| {
        let tensor = graph.tensor(id);
        assert_eq!(values.len(), tensor.elements());
        Values { tensor, values }
    });
    let inputs: Vec<Values> = values.collect();
    node.operator
        .operation()
        .evaluate(&inputs, graph.tensor(node.output))
}
