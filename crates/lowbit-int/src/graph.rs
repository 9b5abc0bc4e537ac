//! A network of integers: tensors, and the nodes that make them from each other.

use crate::error::GraphError;
use crate::numbers::Numbers;
use crate::ops::{Operator, Rounding};
use crate::tensor::{ALL_CHANNELS, ALL_ELEMENTS, Interval, Tensor};

/// A tensor of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId(pub(crate) usize);

/// An operator and what it is applied to.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) operator: Operator,
    pub(crate) inputs: Vec<TensorId>,
    pub(crate) output: TensorId,
}

impl Node {
    /// Its name, which is that of the tensor it makes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// What it reads.
    pub fn inputs(&self) -> &[TensorId] {
        &self.inputs
    }

    /// What it makes.
    pub fn output(&self) -> TensorId {
        self.output
    }
}

/// A network of integers. Its nodes are in the order in which they run; each is checked when it is
/// added, so that whatever is in a graph can be run, and no sum in it ever overflows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    tensors: Vec<Tensor>,
    inputs: Vec<TensorId>,
    /// How real numbers become the integers of each input.
    pub(crate) roundings: Vec<Rounding>,
    nodes: Vec<Node>,
    outputs: Vec<TensorId>,
    room: Room,
}

/// What all tensors take together, so that a small file does not ask for more memory than there is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Room {
    /// Elements of tensors and of padded images.
    elements: usize,
    /// Indices of first dimensions.
    channels: usize,
}

impl Room {
    /// With one more tensor, and as many elements of a padded image.
    fn with(self, tensor: &Tensor, padded: usize) -> Result<Self, String> {
        let room = Self {
            elements: self.elements + tensor.elements() + padded,
            channels: self.channels + tensor.shape[0],
        };
        if room.elements > ALL_ELEMENTS || room.channels > ALL_CHANNELS {
            return Err(format!(
                "the graph's tensors and padded images have {} elements and {} indices of first \
                 dimensions, expected at most {ALL_ELEMENTS} and {ALL_CHANNELS} together",
                room.elements, room.channels
            ));
        }
        Ok(room)
    }
}

impl Graph {
    /// A graph of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an input: `shape` without the batch dimension, integers of at most 32 bits. Inputs come
    /// before nodes, as in files. Real numbers are rounded to it half to even, unless
    /// [`round_input`](Self::round_input) says otherwise.
    ///
    /// # Errors
    ///
    /// If there are nodes, the name is taken or empty, the shape has no elements or more than there is
    /// room for, or the integers are wider.
    pub fn input(
        &mut self,
        name: &str,
        shape: &[usize],
        numbers: Numbers,
    ) -> Result<TensorId, GraphError> {
        let failed = |reason: String| GraphError::node(name, reason);
        if !self.nodes.is_empty() {
            return Err(failed("inputs are added before nodes".into()));
        }
        if numbers.bits() > 32 {
            let bits = numbers.bits();
            return Err(failed(format!(
                "bits is {bits}, expected 1 to 32 of an input"
            )));
        }
        let tensor = Tensor::any(shape.to_vec(), numbers).map_err(failed)?;
        let id = self.add(name, tensor, 0)?;
        self.inputs.push(id);
        self.roundings.push(Rounding::HalfEven);
        Ok(id)
    }

    /// Says how a real number `x` becomes an integer of an input,
    /// `clamp(round(x / scale) + zero_point)`. The graph itself is given integers; this is for those
    /// who make them.
    ///
    /// # Errors
    ///
    /// If the tensor is no input.
    pub fn round_input(&mut self, input: TensorId, rounding: Rounding) -> Result<(), GraphError> {
        let Some(place) = self.inputs.iter().position(|&id| id == input) else {
            return Err(GraphError::node(
                self.tensors.get(input.0).map_or("?", Tensor::name),
                "is no input, whose numbers are rounded outside of the graph",
            ));
        };
        self.roundings[place] = rounding;
        Ok(())
    }

    /// Says that an input's numbers lie in a smaller interval than their width allows: pixels from 0
    /// to 200, say. What follows from it is proven for such inputs, and others are refused when the
    /// graph runs. It has to be said before nodes are added.
    ///
    /// # Errors
    ///
    /// If the interval is empty or not within the input's numbers, the tensor is no input, or there
    /// are nodes.
    pub fn limit(&mut self, input: TensorId, interval: Interval) -> Result<(), GraphError> {
        if !self.inputs.contains(&input) || !self.nodes.is_empty() {
            return Err(GraphError::node(
                self.tensors.get(input.0).map_or("?", Tensor::name),
                "only inputs have limits, said before nodes are added",
            ));
        }
        let tensor = &mut self.tensors[input.0];
        let (least, greatest) = (tensor.numbers.least(), tensor.numbers.greatest());
        let Interval {
            least: low,
            greatest: high,
        } = interval;
        if low > high || low < least || high > greatest {
            let reason =
                format!("limits are {low} to {high}, expected within {least} to {greatest}");
            return Err(GraphError::node(&tensor.name, reason));
        }
        tensor.intervals.fill(interval);
        Ok(())
    }

    /// Adds a node, whose name is that of the tensor it makes.
    ///
    /// # Errors
    ///
    /// One line with the node's name: if the name is taken or empty, the inputs do not fit the
    /// operator or each other, a width or shift is out of range, a sum would not fit 63 bits, or the
    /// graph's tensors would need more room than a graph has.
    pub fn push(
        &mut self,
        name: &str,
        operator: impl Into<Operator>,
        inputs: &[TensorId],
    ) -> Result<TensorId, GraphError> {
        let operator = operator.into();
        let failed = |reason: String| GraphError::node(name, reason);
        let tensors = inputs.iter().map(|id| self.tensors.get(id.0));
        let tensors: Option<Vec<&Tensor>> = tensors.collect();
        let tensors = tensors.ok_or_else(|| failed("an input is of another graph".into()))?;
        let output = operator.output(&tensors).map_err(failed)?;
        let padded = operator.padded(&tensors);
        let output = self.add(name, output, padded)?;
        self.nodes.push(Node {
            name: name.into(),
            operator,
            inputs: inputs.to_vec(),
            output,
        });
        Ok(output)
    }

    /// Adds a tensor, for which an image of `padded` elements is made.
    fn add(
        &mut self,
        name: &str,
        mut tensor: Tensor,
        padded: usize,
    ) -> Result<TensorId, GraphError> {
        if name.is_empty() || name.contains(char::is_control) {
            let reason = "a name has one or more characters, none of which controls a terminal";
            return Err(GraphError::node(name, reason));
        }
        if self.find(name).is_some() {
            return Err(GraphError::node(name, "the name is taken"));
        }
        let room = self.room.with(&tensor, padded);
        self.room = room.map_err(|reason| GraphError::node(name, reason))?;
        tensor.name = name.into();
        self.tensors.push(tensor);
        Ok(TensorId(self.tensors.len() - 1))
    }

    /// Makes a tensor an output; their order is that of the calls.
    ///
    /// # Errors
    ///
    /// If it is of another graph, or an output already.
    pub fn output(&mut self, tensor: TensorId) -> Result<(), GraphError> {
        let Some(found) = self.tensors.get(tensor.0) else {
            return Err(GraphError::node("?", "an output is of another graph"));
        };
        if self.outputs.contains(&tensor) {
            return Err(GraphError::node(&found.name, "is an output already"));
        }
        self.outputs.push(tensor);
        Ok(())
    }

    /// A tensor.
    ///
    /// # Panics
    ///
    /// If it is of another graph.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// All tensors, inputs and what nodes make.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (TensorId, &Tensor)> {
        let numbered = self.tensors.iter().enumerate();
        numbered.map(|(i, tensor)| (TensorId(i), tensor))
    }

    /// The tensor of a name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        let place = self.tensors.iter().position(|tensor| tensor.name == name);
        place.map(TensorId)
    }

    /// What the network is given.
    pub fn inputs(&self) -> &[TensorId] {
        &self.inputs
    }

    /// How a real number becomes an integer of an input: see [`round_input`](Self::round_input). `None`
    /// of other tensors.
    pub fn input_rounding(&self, input: TensorId) -> Option<Rounding> {
        let place = self.inputs.iter().position(|&id| id == input)?;
        Some(self.roundings[place])
    }

    /// The nodes, in the order in which they run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the network is asked for.
    pub fn outputs(&self) -> &[TensorId] {
        &self.outputs
    }

    /// The same graph with other operators in its nodes.
    pub(crate) fn rebuilt(
        &self,
        mut change: impl FnMut(&Node) -> Result<Operator, GraphError>,
    ) -> Result<Self, GraphError> {
        let mut graph = Self::new();
        graph.inputs.clone_from(&self.inputs);
        graph.roundings.clone_from(&self.roundings);
        let mut nodes = self.nodes.iter();
        for (id, tensor) in self.tensors() {
            if self.inputs.contains(&id) {
                graph.add(&tensor.name, tensor.clone(), 0)?;
            } else if let Some(node) = nodes.next() {
                graph.push(&node.name, change(node)?, &node.inputs)?;
            }
        }
        graph.outputs.clone_from(&self.outputs);
        Ok(graph)
    }

    /// A node's inputs.
    pub(crate) fn inputs_of(&self, node: &Node) -> Vec<&Tensor> {
        node.inputs.iter().map(|&id| self.tensor(id)).collect()
    }

    /// How many images `inputs` hold, one slice an input.
    ///
    /// # Errors
    ///
    /// If there are more or fewer slices than inputs, one is not a whole number of images or as many
    /// as another, or a number is beyond what the graph was proven for.
    pub(crate) fn batch(&self, inputs: &[&[i64]]) -> Result<usize, GraphError> {
        if inputs.len() != self.inputs.len() {
            let reason = format!(
                "{} inputs given, expected {}",
                inputs.len(),
                self.inputs.len()
            );
            return Err(GraphError::node("inputs", reason));
        }
        let mut batch = None;
        for (&id, values) in self.inputs.iter().zip(inputs) {
            let tensor = self.tensor(id);
            let elements = tensor.elements();
            let images = values.len() / elements;
            if !values.len().is_multiple_of(elements) || batch.is_some_and(|batch| batch != images)
            {
                let reason = format!(
                    "{} numbers given, expected {elements} an image, as many images in each input",
                    values.len()
                );
                return Err(GraphError::node(&tensor.name, reason));
            }
            batch = Some(images);
            let Interval { least, greatest } = tensor.interval();
            // All first, which vectors do; then which it was.
            let outside = |v: &i64| *v < least || *v > greatest;
            let some = values.iter().fold(false, |some, v| some | outside(v));
            if some && let Some(value) = values.iter().find(|v| outside(v)) {
                let reason = format!("a number is {value}, expected {least} to {greatest}");
                return Err(GraphError::node(&tensor.name, reason));
            }
        }
        Ok(batch.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a tensor of 2 indices and 6 elements, and a padded image of 4 more.
    #[test]
    fn room_by_hand() {
        let byte = Numbers::power_of_two(8, true, 0).unwrap();
        let tensor = Tensor::any(vec![2, 3], byte).unwrap();
        let room = |elements, channels| Room { elements, channels }.with(&tensor, 4);
        assert_eq!(
            room(5, 1).unwrap(),
            Room {
                elements: 15,
                channels: 3
            }
        );
        assert!(room(ALL_ELEMENTS - 10, ALL_CHANNELS - 2).is_ok());
        assert!(room(ALL_ELEMENTS - 9, 0).is_err());
        assert!(room(0, ALL_CHANNELS - 1).is_err());
    }
}
