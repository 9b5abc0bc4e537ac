//! Targets whose operators have tensors of eight bits before and after them.

use super::scale::division;
use super::{Target, refused};
use crate::error::GraphError;
use crate::graph::{Graph, Node, TensorId};
use crate::numbers::Numbers;
use crate::ops::{Convolution, Operator, Rounding, Windows};

/// What a target does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) target: Target,
    pub(super) rescaling: Rescaling,
    /// Bits of a sum, sign included, whatever the order of its terms.
    pub(super) sum_bits: u32,
}

/// How a sum becomes eight bits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rescaling {
    /// A multiplier of 31 bits and a shift by 31, half up, into 32 bits; then a shift, half away from
    /// zero.
    Twice,
    /// A multiplier of 31 bits and one shift, half up.
    Once,
    /// A shift.
    Shift {
        rounding: Rounding,
        /// Whether each channel has a shift of its own.
        per_channel: bool,
    },
}

/// A tensor of the new graph, for one of the old.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) id: TensorId,
    pub(super) state: State,
}

/// What a tensor is on the target.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// A tensor, of eight bits.
    Bytes,
    /// Sums within an operator, that become eight bits before it ends.
    Sums(Sums),
    /// A tensor of eight bits, in steps as large as so many of the old graph's.
    Averages(u64),
}

/// Sums within an operator.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    /// How many channels may have constants of their own; 1 if none.
    pub(super) channels: usize,
    /// What the old graph's multiplier is multiplied with to be that of the target's sums.
    pub(super) ratio: (u64, u64),
    /// What the graph's integers are multiplied with to be the target's.
    pub(super) times: i64,
    /// The greatest shift, on targets that shift.
    pub(super) longest: u32,
}

impl Sums {
    /// Sums that are the old graph's.
    pub(super) fn plain(channels: usize) -> Self {
        Self {
            channels,
            ratio: (1, 1),
            times: 1,
            longest: 31,
        }
    }
}

/// A graph that is rebuilt node by node.
pub(super) struct Rebuild<'a> {
    pub(super) rules: Rules,
    pub(super) source: &'a Graph,
    pub(super) graph: Graph,
    /// Of each tensor of the source.
    made: Vec<Made>,
    pub(super) changed: Vec<String>,
}

/// The graph with a target's arithmetic, and the nodes that may have other integers.
pub(super) fn rebuild(source: &Graph, rules: Rules) -> Result<(Graph, Vec<String>), GraphError> {
    let mut rebuild = Rebuild {
        rules,
        source,
        graph: Graph::new(),
        made: Vec::new(),
        changed: Vec::new(),
    };
    let mut inputs = Vec::new();
    for &id in source.inputs() {
        let tensor = source.tensor(id);
        rebuild.bytes(tensor.name(), tensor.numbers())?;
        let input = rebuild
            .graph
            .input(tensor.name(), tensor.shape(), tensor.numbers())?;
        if let Some(rounding) = source.input_rounding(id) {
            rebuild.graph.round_input(input, rounding)?;
        }
        inputs.push((input, tensor.interval()));
        rebuild.made.push(Made {
            id: input,
            state: State::Bytes,
        });
    }
    for (input, interval) in inputs {
        rebuild.graph.limit(input, interval)?;
    }
    for node in source.nodes() {
        let made = rebuild.node(node)?;
        rebuild.made.push(made);
    }
    for &id in source.outputs() {
        let made = rebuild.made[id.0].clone();
        if !matches!(made.state, State::Bytes) {
            let reason = "is an output, expected a requantization to 8 bits before";
            return Err(GraphError::node(source.tensor(id).name(), reason));
        }
        rebuild.graph.output(made.id)?;
    }
    Ok((rebuild.graph, rebuild.changed))
}

impl Rebuild<'_> {
    /// What the target makes of a node.
    fn node(&mut self, node: &Node) -> Result<Made, GraphError> {
        match &node.operator {
            Operator::Convolution(convolution) => {
                self.check_convolution(node, convolution)?;
                self.weighted(node, convolution.bias.as_deref())
            }
            Operator::Linear(linear) => self.weighted(node, linear.bias.as_deref()),
            Operator::Mul(_) => match self.rules.rescaling {
                Rescaling::Shift { .. } => Err(self.refused(node, "has no products here")),
                Rescaling::Twice | Rescaling::Once => self.sums(node, 1),
            },
            Operator::Add(add) => self.add(node, add),
            Operator::AveragePool(pool) => {
                self.check_windows(node, &pool.windows)?;
                self.average(node, pool)
            }
            Operator::MaxPool(pool) => {
                self.check_windows(node, &pool.windows)?;
                self.passed(node)
            }
            Operator::Rectifier(_) | Operator::Flatten(_) => self.passed(node),
            Operator::Clamp(_) => match self.of(node.inputs[0]).state {
                State::Sums(Sums {
                    ratio: (1, 1),
                    times: 1,
                    ..
                })
                | State::Bytes => self.passed(node),
                _ => Err(self.refused(node, "has other integers here than the limits are of")),
            },
            Operator::Concat(_) => {
                let inputs = self.all_bytes(node)?;
                let id = self
                    .graph
                    .push(&node.name, node.operator.clone(), &inputs)?;
                let state = State::Bytes;
                Ok(Made { id, state })
            }
            Operator::Requantize(requantize) => self.requantize(node, requantize),
            Operator::LookUp(_) => Err(self.refused(node, "has no tables")),
            Operator::Embedding(_) => Err(self.refused(node, "has no embeddings")),
        }
    }

    pub(super) fn refused(&self, node: &Node, reason: &str) -> GraphError {
        refused(node, self.rules.target, reason)
    }

    /// What became of a tensor of the source.
    pub(super) fn of(&self, id: TensorId) -> &Made {
        &self.made[id.0]
    }

    /// Checks that numbers are those of a tensor of the target.
    pub(super) fn bytes(&self, name: &str, numbers: Numbers) -> Result<(), GraphError> {
        let target = self.rules.target;
        let (bits, signed) = (numbers.bits(), numbers.signed());
        let sign = if signed { "with" } else { "without" };
        let failed = |expected: &str| {
            let reason = format!("has {bits} bits {sign} sign, {target} has {expected}");
            Err(GraphError::node(name, reason))
        };
        match self.rules.rescaling {
            Rescaling::Twice | Rescaling::Once if bits > 8 => failed("8 or fewer"),
            Rescaling::Twice | Rescaling::Once => Ok(()),
            Rescaling::Shift { .. } if numbers.exponent().is_none() => {
                let reason = format!("has no power of two as scale, {target} has nothing else");
                Err(GraphError::node(name, reason))
            }
            Rescaling::Shift { .. } => match (bits, signed) {
                (8, true) | (7, false) => Ok(()),
                _ => failed("8 with sign or, of those, the 7 from zero on"),
            },
        }
    }

    /// The new inputs of a node, all of which are tensors of eight bits in the old steps.
    pub(super) fn all_bytes(&self, node: &Node) -> Result<Vec<TensorId>, GraphError> {
        let inputs = node.inputs.iter().map(|&id| {
            let made = self.of(id);
            if matches!(made.state, State::Bytes) {
                return Ok(made.id);
            }
            let name = self.source.tensor(id).name();
            let reason = format!("reads {name}, expected a requantization to 8 bits between");
            Err(GraphError::node(&node.name, reason))
        });
        inputs.collect()
    }

    /// A name of the node's own that no tensor has.
    pub(super) fn name(&self, node: &Node, what: &str) -> String {
        let mut name = format!("{}.{what}", node.name);
        while self.source.find(&name).is_some() || self.graph.find(&name).is_some() {
            name.push('_');
        }
        name
    }

    /// An operator that is the same on eight bits and, since rounding never falls, on what will be
    /// rounded.
    fn passed(&mut self, node: &Node) -> Result<Made, GraphError> {
        let Made { id, state } = self.of(node.inputs[0]).clone();
        if matches!(state, State::Sums(_)) {
            self.check_reader(node)?;
        }
        let id = self.graph.push(&node.name, node.operator.clone(), &[id])?;
        Ok(Made { id, state })
    }

    /// A convolution or linear layer.
    fn weighted(&mut self, node: &Node, bias: Option<&[i64]>) -> Result<Made, GraphError> {
        let weights = node.operator.weights().expect("such layers have weights");
        if let Some(weight) = weights.values.iter().find(|w| i8::try_from(**w).is_err()) {
            let reason = format!("has weights of 8 bits with sign, one is {weight}");
            return Err(self.refused(node, &reason));
        }
        let bias = bias.unwrap_or_default();
        if let Some(bias) = bias.iter().find(|b| i32::try_from(**b).is_err()) {
            let reason = format!("has biases of 32 bits, one is {bias}");
            return Err(self.refused(node, &reason));
        }
        let shape = self.source.tensor(node.output).shape();
        let of_channels = matches!(node.operator, Operator::Convolution(_)) || shape.len() == 1;
        self.sums(node, if of_channels { shape[0] } else { 1 })
    }

    /// An operator whose sums are the old ones.
    pub(super) fn sums(&mut self, node: &Node, channels: usize) -> Result<Made, GraphError> {
        let inputs = self.all_bytes(node)?;
        let id = self
            .graph
            .push(&node.name, node.operator.clone(), &inputs)?;
        self.check_sums(node)?;
        self.check_reader(node)?;
        let state = State::Sums(Sums::plain(channels));
        Ok(Made { id, state })
    }

    /// Checks that the sums of the node that was just made fit, in whatever order they are added.
    pub(super) fn check_sums(&self, node: &Node) -> Result<(), GraphError> {
        let made = self.graph.nodes().last().expect("a node was just made");
        let inputs = self.graph.inputs_of(made);
        let output = self.graph.tensor(made.output);
        let bounds = made.operator.operation().bounds(&inputs, &output.shape);
        let partial = bounds.unwrap_or_default();
        let partial = partial.iter().map(|bound| bound.partial);
        let most = partial.chain([output.interval()]).map(|i| i.bits()).max();
        let bits = most.unwrap_or(1);
        if bits > self.rules.sum_bits {
            let reason = format!("has sums of {} bits, here of {bits}", self.rules.sum_bits);
            return Err(self.refused(node, &reason));
        }
        Ok(())
    }

    /// Checks that sums are read once, and not by the world.
    pub(super) fn check_reader(&self, node: &Node) -> Result<(), GraphError> {
        let nodes = self.source.nodes().iter();
        let readers = nodes.filter(|n| n.inputs.contains(&node.output)).count();
        let output = usize::from(self.source.outputs().contains(&node.output));
        if readers + output > 1 {
            return Err(self.refused(node, "requantizes sums once, here they are read twice"));
        }
        Ok(())
    }

    /// Checks what kinds of convolution the target has.
    fn check_convolution(&self, node: &Node, convolution: &Convolution) -> Result<(), GraphError> {
        let dilated = convolution.sliding.dilation.iter().any(|&d| d != 1);
        let groups = convolution.groups;
        let transposed = convolution.transposed.as_ref();
        if let Rescaling::Shift { .. } = self.rules.rescaling {
            let outputs = self.source.tensor(node.output).shape()[0];
            let inputs = self.source.tensor(node.inputs[0]).shape()[0];
            if transposed.is_some() {
                return Err(self.refused(node, "has no transposed convolutions"));
            }
            if groups != 1 && (groups, groups) != (inputs, outputs) {
                return Err(self.refused(node, "has one group, or one for each channel"));
            }
        }
        if let Some(padding) = transposed
            && (groups != 1 || dilated || padding.iter().any(|&p| p != 0))
        {
            let reason = "has transposed convolutions without groups, dilation and output_padding";
            return Err(self.refused(node, reason));
        }
        Ok(())
    }

    /// Checks that windows are of one size, as sliding ones are.
    fn check_windows(&self, node: &Node, windows: &Windows) -> Result<(), GraphError> {
        if let Windows::Adaptive { output } = windows {
            let sizes = &self.source.tensor(node.inputs[0]).shape()[1..];
            let even = |(size, output): (&usize, &usize)| size.is_multiple_of(*output);
            if !sizes.iter().zip(output).all(even) {
                return Err(self.refused(node, "has windows of one size"));
            }
        }
        Ok(())
    }

    /// The multiplier and shift of a division, which is refused where there are none.
    pub(super) fn division(
        &self,
        node: &Node,
        divisor: u64,
        most: u64,
    ) -> Result<(i64, u32), GraphError> {
        division(divisor, most)
            .ok_or_else(|| GraphError::node(&node.name, "its windows are too large"))
    }
}
