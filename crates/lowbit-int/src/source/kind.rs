//! The kinds of calls, and which of them a node is.

use super::SourceError;
use super::plan::Place;
use super::storage::Int;
use super::window::{self, Axis};
use crate::graph::{Graph, Node};
use crate::ops::{Add, AveragePool, Convolution, Embedding, Linear, LookUp, Operator, Windows};
use crate::tensor::{Interval, Tensor};

/// Constants in a list of their own.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(crate) values: Vec<i64>,
    pub(crate) int: Int,
    /// Whether there are two numbers of four bits in a byte.
    pub(crate) packed: bool,
}

impl List {
    fn new(values: &[i64]) -> Self {
        Self {
            int: Int::of_all(values.iter().copied()),
            values: values.to_vec(),
            packed: false,
        }
    }

    /// Packed where all numbers have four bits.
    fn weights(values: &[i64]) -> Self {
        let packed = values.iter().all(|w| (-8..8).contains(w));
        Self {
            packed,
            ..Self::new(values)
        }
    }

    fn bytes(&self) -> usize {
        let count = self.values.len();
        if self.packed {
            count.div_ceil(2)
        } else {
            count * self.int.bytes()
        }
    }
}

/// A kind of call and its constants. `pixels` are how many elements of the output have one channel's
/// constants; zeros are those of inputs as they are stored.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Convolve {
        transposed: bool,
        weights: List,
        bias: Vec<i64>,
        zero: i64,
        axes: [Axis; 2],
        /// Input and output channels of a group, and groups.
        channels: [usize; 3],
        sum: Int,
    },
    Linear {
        weights: List,
        bias: Vec<i64>,
        zero: i64,
        inputs: usize,
        outputs: usize,
        pixels: usize,
        sum: Int,
    },
    Add {
        multipliers: [i64; 2],
        zeros: [i64; 2],
        pixels: usize,
        sum: Int,
    },
    Mul {
        zeros: [i64; 2],
        shape: Vec<[usize; 2]>,
        pixels: usize,
        sum: Int,
    },
    MaxPool {
        axes: [Axis; 2],
    },
    AveragePool {
        zero: i64,
        axes: [Axis; 2],
        common: u64,
        sum: Int,
    },
    Map {
        pixels: usize,
    },
    Place {
        length: usize,
        step: usize,
        at: usize,
    },
    LookUp {
        table: List,
        least: i64,
        pixels: usize,
        sum: Int,
    },
    Embedding {
        table: List,
        least: i64,
        features: usize,
        sum: Int,
    },
}

/// A call for a node, with which of its inputs it reads.
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<usize>,
    /// What its values are less than those of the node.
    pub(crate) base: i64,
}

impl Kind {
    /// The function that is called, in either language.
    pub(crate) fn function(&self) -> &'static str {
        match self {
            Self::Convolve {
                transposed: false, ..
            } => "convolve",
            Self::Convolve { .. } => "convolve_transposed",
            Self::Linear { .. } => "linear",
            Self::Add { .. } => "add",
            Self::Mul { .. } => "mul",
            Self::MaxPool { .. } => "max_pool",
            Self::AveragePool { .. } => "average_pool",
            Self::Map { .. } => "map",
            Self::Place { .. } => "place",
            Self::LookUp { .. } => "look_up",
            Self::Embedding { .. } => "embedding",
        }
    }

    /// Weights or a table.
    pub(crate) fn list(&self) -> Option<&List> {
        match self {
            Self::Convolve { weights: list, .. }
            | Self::Linear { weights: list, .. }
            | Self::LookUp { table: list, .. }
            | Self::Embedding { table: list, .. } => Some(list),
            _ => None,
        }
    }

    /// What its list is called.
    pub(crate) fn list_name(&self) -> &'static str {
        match self {
            Self::LookUp { .. } | Self::Embedding { .. } => "table",
            _ => "weights",
        }
    }

    /// Biases.
    pub(crate) fn bias(&self) -> Option<&[i64]> {
        match self {
            Self::Convolve { bias, .. } | Self::Linear { bias, .. } => Some(bias),
            _ => None,
        }
    }

    /// Bytes of its weights, biases and tables.
    pub(crate) fn constants(&self, sum: Int) -> usize {
        let bias = self.bias().map_or(0, <[i64]>::len);
        self.list().map_or(0, List::bytes) + bias * sum.bytes()
    }

    /// The type of its sums, or of the numbers that say a place in a table.
    pub(crate) fn sum(&self, inputs: &[Place]) -> Int {
        match self {
            Self::LookUp { sum, .. } | Self::Embedding { sum, .. } => *sum,
            _ => self.values(inputs),
        }
    }

    /// The type of its values before they are requantized.
    pub(crate) fn values(&self, inputs: &[Place]) -> Int {
        match self {
            Self::Convolve { sum, .. }
            | Self::Linear { sum, .. }
            | Self::Add { sum, .. }
            | Self::Mul { sum, .. }
            | Self::AveragePool { sum, .. } => *sum,
            Self::MaxPool { .. } | Self::Map { .. } | Self::Place { .. } => {
                inputs[0].storage.int.widened()
            }
            Self::LookUp { table, .. } | Self::Embedding { table, .. } => table.int.widened(),
        }
    }
}

/// A node, its tensors, and how its inputs are stored.
pub(crate) struct Call<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
    pub(crate) read: &'a [Place],
}

impl Call<'_> {
    fn input(&self, index: usize) -> &Tensor {
        self.graph.tensor(self.node.inputs[index])
    }

    fn output(&self) -> &Tensor {
        self.graph.tensor(self.node.output)
    }

    fn shift(&self, index: usize) -> i64 {
        self.read[index].storage.shift
    }

    /// What stands for zero in an input, as it is stored.
    fn zero(&self, index: usize) -> i64 {
        self.input(index).numbers.zero_point() - self.shift(index)
    }

    fn pixels(&self) -> usize {
        self.output().elements() / self.output().shape[0]
    }

    /// The calls of the node.
    pub(crate) fn parts(&self) -> Result<Vec<Part>, SourceError> {
        let one = |kind, base| {
            let inputs = (0..self.read.len()).collect();
            Ok(vec![Part { kind, inputs, base }])
        };
        match &self.node.operator {
            Operator::Convolution(convolution) => one(self.convolution(convolution)?, 0),
            Operator::Linear(linear) => one(self.linear(linear), 0),
            Operator::Add(add) => one(self.add(add), 0),
            Operator::Mul(_) => one(self.mul(), 0),
            Operator::MaxPool(pool) => {
                let axes = window::of_pool(&pool.windows, &self.input(0).shape);
                let axes = axes.map_err(|reason| self.failed(reason))?;
                one(Kind::MaxPool { axes }, self.shift(0))
            }
            Operator::AveragePool(pool) => one(self.average(pool)?, 0),
            Operator::Rectifier(_)
            | Operator::Clamp(_)
            | Operator::Requantize(_)
            | Operator::Flatten(_) => {
                let pixels = self.pixels();
                one(Kind::Map { pixels }, self.shift(0))
            }
            Operator::Concat(concat) => Ok(self.places(concat.axis)),
            Operator::LookUp(look_up) => one(self.look_up(look_up), 0),
            Operator::Embedding(embedding) => one(self.embedding(embedding), 0),
        }
    }

    fn failed(&self, reason: String) -> SourceError {
        SourceError::new(&self.node.name, reason)
    }

    /// The type of sums that holds every number on the way, with these factors among them.
    fn sum(&self, factors: impl IntoIterator<Item = i64>) -> Int {
        let inputs = self.graph.inputs_of(self.node);
        let mut numbers: Vec<i128> = factors.into_iter().map(i128::from).collect();
        for (index, input) in inputs.iter().enumerate() {
            let Interval { least, greatest } = input.interval();
            let zero = i128::from(input.numbers.zero_point());
            numbers.push(self.zero(index).into());
            for end in [least, greatest].map(i128::from) {
                numbers.extend([end - i128::from(self.shift(index)), end - zero]);
            }
        }
        let operation = self.node.operator.operation();
        let bounds = operation.bounds(&inputs, &self.output().shape);
        for bound in bounds.unwrap_or_default() {
            let Interval { least, greatest } = bound.partial;
            numbers.extend([least, greatest].map(i128::from));
        }
        let Interval { least, greatest } = self.output().interval();
        numbers.extend([least, greatest].map(i128::from));
        let read = self.read.iter().map(|place| place.storage.int.widened());
        read.fold(Int::of_sums(numbers), Int::max)
    }

    fn convolution(&self, c: &Convolution) -> Result<Kind, SourceError> {
        let geometry = c.geometry_over(&self.input(0).shape);
        let geometry = geometry.map_err(|reason| self.failed(reason))?;
        let bias = c.bias.clone().unwrap_or(vec![0]);
        let axes = geometry.axes.map(|axis| Axis {
            input: axis.input,
            output: axis.output,
            kernel: axis.kernel,
            stride: axis.stride,
            before: axis.before,
            dilation: axis.dilation,
        });
        Ok(Kind::Convolve {
            transposed: c.transposed.is_some(),
            weights: List::weights(&c.weights.values),
            zero: self.zero(0),
            axes,
            channels: [geometry.inputs, geometry.outputs, geometry.groups],
            sum: self.sum(c.weights.values.iter().chain(&bias).copied()),
            bias,
        })
    }

    fn linear(&self, linear: &Linear) -> Kind {
        let bias = linear.bias.clone().unwrap_or(vec![0]);
        Kind::Linear {
            weights: List::weights(&linear.weights.values),
            zero: self.zero(0),
            inputs: linear.weights.shape[1],
            outputs: linear.weights.shape[0],
            pixels: self.pixels(),
            sum: self.sum(linear.weights.values.iter().chain(&bias).copied()),
            bias,
        }
    }

    fn add(&self, add: &Add) -> Kind {
        Kind::Add {
            multipliers: add.multipliers,
            zeros: [self.zero(0), self.zero(1)],
            pixels: self.pixels(),
            sum: self.sum(add.multipliers),
        }
    }

    fn mul(&self) -> Kind {
        let (a, b) = (&self.input(0).shape, &self.input(1).shape);
        Kind::Mul {
            zeros: [self.zero(0), self.zero(1)],
            shape: a.iter().zip(b).map(|(&a, &b)| [a, b]).collect(),
            pixels: self.pixels(),
            sum: self.sum([]),
        }
    }

    fn average(&self, pool: &AveragePool) -> Result<Kind, SourceError> {
        let axes = window::of_pool(&pool.windows, &self.input(0).shape);
        let axes = axes.map_err(|reason| self.failed(reason))?;
        let slides = matches!(pool.windows, Windows::Sliding { .. });
        let common = window::common(&axes, pool.include_padding && slides);
        Ok(Kind::AveragePool {
            zero: self.zero(0),
            axes,
            common,
            sum: self.sum([common as i64]),
        })
    }

    /// Copies of each input to where it lies in the output.
    fn places(&self, axis: usize) -> Vec<Part> {
        let shape = &self.output().shape;
        let rows: usize = shape[..axis].iter().product();
        let step = self.output().elements() / rows;
        let mut at = 0;
        let parts = (0..self.read.len()).map(|input| {
            let length = self.input(input).elements() / rows;
            let kind = Kind::Place { length, step, at };
            at += length;
            Part {
                kind,
                inputs: vec![input],
                base: self.shift(input),
            }
        });
        parts.collect()
    }

    /// The part of the table that is proven to be read.
    fn look_up(&self, look_up: &LookUp) -> Kind {
        let Interval { least, greatest } = self.input(0).interval();
        let first = self.input(0).numbers.least();
        let entries = (least - first) as usize..=(greatest - first) as usize;
        let least = least - self.shift(0);
        Kind::LookUp {
            table: List::new(&look_up.table[entries]),
            least,
            pixels: self.pixels(),
            sum: self.sum([least]),
        }
    }

    /// The rows that are proven to be read.
    fn embedding(&self, embedding: &Embedding) -> Kind {
        let Interval { least, greatest } = self.input(0).interval();
        let features = embedding.weights.shape[1];
        let rows = least as usize * features..(greatest as usize + 1) * features;
        let least = least - self.shift(0);
        Kind::Embedding {
            table: List::new(&embedding.weights.values[rows]),
            least,
            features,
            sum: self.sum([least]),
        }
    }
}
