//! Graphs at random, of all operators.

use lowbit_int::ops::{
    Add, AveragePool, Clamp, Concat, Convolution, Embedding, Flatten, Linear, LookUp, MaxPool, Mul,
    Rectifier, Requantize, Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Interval, Numbers, Operator, Rounding, TensorId};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

/// What graphs are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// Of all operators.
    Any,
    /// The same, with sums that several requantizations read, inputs of up to 16 bits, and multipliers of
    /// 31.
    WideSums,
}

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From `low` to `high`, both ends often.
    pub(crate) fn number(&mut self, low: i64, high: i64) -> i64 {
        match self.below(6) {
            0 => low,
            1 => high,
            _ => low + (u128::from(self.next()) % (high as i128 - low as i128 + 1) as u128) as i64,
        }
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn sizes(&mut self, count: usize, largest: usize) -> Vec<usize> {
        (0..count).map(|_| 1 + self.below(largest)).collect()
    }

    fn numbers(&mut self, most: usize) -> Numbers {
        let (bits, signed) = (1 + self.below(most) as u32, self.chance(2));
        if self.chance(4) {
            let grid = Numbers::power_of_two(bits, signed, 0).unwrap();
            let zero = self.number(grid.least(), grid.greatest());
            return Numbers::affine(bits, signed, 0.37, zero).unwrap();
        }
        Numbers::power_of_two(bits, signed, self.below(20) as i32 - 15).unwrap()
    }

    fn weights(&mut self, shape: Vec<usize>) -> Weights {
        let bits = if self.chance(6) { 12 } else { 8 };
        let (bits, signed) = (1 + self.below(bits) as u32, !self.chance(4));
        let numbers = Numbers::power_of_two(bits, signed, -(self.below(9) as i32)).unwrap();
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| self.number(numbers.least(), numbers.greatest()));
        Weights {
            values: values.collect(),
            shape,
            numbers,
        }
    }

    fn bias(&mut self, count: usize) -> Option<Vec<i64>> {
        let most = 1 << self.below(16);
        self.chance(2)
            .then(|| (0..count).map(|_| self.number(-most, most)).collect())
    }

    fn sliding(&mut self, dimensions: usize) -> Sliding {
        Sliding {
            stride: self.sizes(dimensions, 3),
            padding: (0..dimensions)
                .map(|_| [self.below(3), self.below(3)])
                .collect(),
            dilation: self.sizes(dimensions, 2),
        }
    }

    fn convolution(&mut self, shape: &[usize]) -> Convolution {
        let (channels, dimensions) = (shape[0], shape.len() - 1);
        let groups = match self.below(3) {
            0 => channels,
            1 if channels.is_multiple_of(2) => 2,
            _ => 1,
        };
        let outputs = match groups {
            1 if self.chance(20) => 48 + self.below(40),
            1 => 1 + self.below(40),
            _ => groups * (1 + self.below(3)),
        };
        let transposed = self.chance(4);
        let mut weight = if transposed {
            vec![channels, outputs / groups]
        } else {
            vec![outputs, channels / groups]
        };
        weight.extend(self.sizes(dimensions, 3));
        let bias = self.bias(outputs);
        let convolution = Convolution::new(self.weights(weight), bias).with_groups(groups);
        let sliding = self.sliding(dimensions);
        let convolution = convolution.with_sliding(sliding);
        if transposed {
            let padding = (0..dimensions).map(|_| self.below(2)).collect();
            convolution.with_transposed(padding)
        } else {
            convolution
        }
    }

    fn windows(&mut self, shape: &[usize]) -> Windows {
        let dimensions = shape.len() - 1;
        if self.chance(4) {
            return Windows::global(dimensions);
        }
        if self.chance(2) {
            let output = shape[1..]
                .iter()
                .map(|&size| 1 + self.below(size))
                .collect();
            return Windows::Adaptive { output };
        }
        Windows::Sliding {
            kernel: self.sizes(dimensions, 3),
            sliding: self.sliding(dimensions),
        }
    }

    fn offset(&mut self) -> i64 {
        if self.chance(4) {
            self.number(-9, 9)
        } else {
            0
        }
    }

    /// Constants for all, or for each channel its own. Multipliers are powers of two, which a longer
    /// shift takes back, or odd.
    fn requantize(&mut self, graph: &Graph, id: TensorId, draw: Draw) -> Requantize {
        let tensor = graph.tensor(id);
        let channels = if self.chance(4) { tensor.shape()[0] } else { 1 };
        let shift = self.below(tensor.numbers().bits() as usize + 1) as u32;
        let odd = self.chance(3);
        let most = if self.chance(5) { 20 } else { 8 };
        let mut numbers = self.numbers(most);
        if let (Some(from), Some(_), false) = (tensor.numbers().exponent(), numbers.exponent(), odd)
        {
            let (bits, signed) = (numbers.bits(), numbers.signed());
            let to = from + shift as i32;
            numbers = Numbers::power_of_two(bits, signed, to).unwrap_or(numbers);
        }
        let (mut multiplier, mut offset, mut shifts) = (vec![], vec![], vec![]);
        // As normalizations have them.
        let long = draw == Draw::WideSums && odd && self.chance(2);
        for _ in 0..channels {
            let (m, more) = if long {
                (
                    (1 << 30) + self.below(1 << 30) as i64,
                    30 + self.below(3) as u32,
                )
            } else if odd {
                (3 + 2 * self.below(2000) as i64, self.below(3) as u32)
            } else if channels > 1 || self.chance(4) {
                let more = self.below(4) as u32;
                (1 << more, more)
            } else {
                (1, 0)
            };
            multiplier.push(m);
            offset.push(self.offset() << if long { shift + 29 } else { 0 });
            shifts.push(shift + more);
        }
        // A list may hold one number for all beside lists of one for each.
        if self.chance(4) {
            offset.truncate(1);
        }
        Requantize {
            multiplier,
            offset,
            shift: shifts,
            rounding: Rounding::ALL[self.below(4)],
            numbers,
        }
    }

    /// An operator for a tensor, which may not fit it.
    fn operator(&mut self, graph: &Graph, id: TensorId, draw: Draw) -> Operator {
        let tensor = graph.tensor(id);
        let (shape, interval) = (tensor.shape(), tensor.interval());
        let more = if draw == Draw::WideSums { 3 } else { 0 };
        match self.below(19 + more) {
            0..=4 if shape.len() > 1 => self.convolution(shape).into(),
            5 | 6 if shape.len() > 1 => AveragePool {
                windows: self.windows(shape),
                include_padding: self.chance(2),
            }
            .into(),
            7 if shape.len() > 1 => MaxPool {
                windows: self.windows(shape),
            }
            .into(),
            8 => Rectifier {}.into(),
            9 => {
                let a = self.number(interval.least, interval.greatest);
                let b = self.number(interval.least, interval.greatest);
                Clamp {
                    least: a.min(b),
                    greatest: a.max(b),
                }
                .into()
            }
            10 => Flatten {}.into(),
            11 if tensor.numbers().bits() <= 10 => {
                let output = self.numbers(8);
                LookUp::of(tensor.numbers(), output, |x| x.tanh())
                    .unwrap()
                    .into()
            }
            12 if shape.len() == 1 && (0..99).contains(&interval.greatest) => Embedding {
                weights: self.weights(vec![interval.greatest as usize + 1, 3]),
            }
            .into(),
            13 => Mul {}.into(),
            14 | 16 | 17 => Add {
                multipliers: self.multipliers(),
            }
            .into(),
            19 => self.requantize(graph, id, draw).into(),
            20 if shape.len() > 1 => AveragePool {
                windows: Windows::global(shape.len() - 1),
                include_padding: false,
            }
            .into(),
            21 => Add {
                multipliers: self.multipliers(),
            }
            .into(),
            15 => Concat {
                axis: self.below(shape.len()),
            }
            .into(),
            _ => {
                let outputs = 1 + self.below(40);
                Linear {
                    weights: self.weights(vec![outputs, shape[shape.len() - 1]]),
                    bias: self.bias(outputs),
                }
                .into()
            }
        }
    }

    /// A tensor of the same shape, most often another one.
    fn partner(&mut self, graph: &Graph, id: TensorId) -> TensorId {
        let shape = graph.tensor(id).shape();
        let alike = graph
            .tensors()
            .filter(|(_, tensor)| tensor.shape() == shape);
        let alike: Vec<TensorId> = alike.map(|(id, _)| id).collect();
        alike[self.below(alike.len())]
    }

    /// Multipliers for a tensor and its partner: those that bring powers of two to one step where it
    /// is likely that they do.
    fn multipliers(&mut self) -> [i64; 2] {
        match self.below(4) {
            0 => [self.number(-9, 9), self.number(1, 9)],
            1 => [1, 1 << self.below(5)],
            2 => [1 << self.below(5), -1],
            _ => [1, 1],
        }
    }

    /// A graph of a few nodes, most of whose sums are brought to few bits, as networks have it.
    pub(crate) fn graph(&mut self) -> Graph {
        self.graph_of(Draw::Any)
    }

    /// The same, as is said which.
    pub(crate) fn graph_of(&mut self, draw: Draw) -> Graph {
        let mut graph = Graph::new();
        let dimensions = 1 + self.below(8).min(2);
        let mut shape = self.sizes(dimensions, 9);
        shape[0] = 1 + self.below(20);
        let most = match draw {
            Draw::WideSums if self.chance(4) => 16,
            _ => 8,
        };
        let mut last = graph.input("x", &shape, self.numbers(most)).unwrap();
        // Nothing is drawn for it.
        let rounding = Rounding::ALL[shape.iter().sum::<usize>() % 4];
        graph.round_input(last, rounding).unwrap();
        if self.chance(3) {
            let numbers = graph.tensor(last).numbers();
            let ends = [0; 2].map(|_| self.number(numbers.least(), numbers.greatest()));
            let [least, greatest] = [ends[0].min(ends[1]), ends[0].max(ends[1])];
            graph.limit(last, Interval { least, greatest }).unwrap();
        }
        for step in 0..2 + self.below(8) {
            let operator = self.operator(&graph, last, draw);
            let inputs = match operator {
                Operator::Mul(_) | Operator::Add(_) | Operator::Concat(_) => {
                    vec![last, self.partner(&graph, last)]
                }
                _ => vec![last],
            };
            // What does not fit is left out.
            let made = graph.push(&format!("n{step}"), operator, &inputs);
            let Ok(made) = made else { continue };
            last = made;
            if graph.tensor(last).numbers().bits() > 8 && !self.chance(6) {
                let (sums, name) = (last, format!("r{step}"));
                let requantize = self.requantize(&graph, sums, draw);
                let made = graph.push(&name, requantize.clone(), &[sums]);
                last = made.unwrap_or(sums);
                if draw == Draw::WideSums {
                    last = self.other_readers(&mut graph, sums, (&name, requantize), last);
                }
            }
            if self.chance(5) {
                let _ = graph.output(last);
            }
        }
        let _ = graph.output(last);
        graph
    }

    /// Requantizations that read the sums that another one reads, some of which make the same of them.
    /// Returns what goes on: what the other one makes or what one of these does.
    fn other_readers(
        &mut self,
        graph: &mut Graph,
        sums: TensorId,
        (name, requantize): (&str, Requantize),
        mut last: TensorId,
    ) -> TensorId {
        for other in 0..self.below(4) {
            let same = self.chance(3);
            let requantize = match same {
                true => requantize.clone(),
                false => self.requantize(graph, sums, Draw::WideSums),
            };
            let made = graph.push(&format!("{name}.{other}"), requantize, &[sums]);
            let Ok(made) = made else { continue };
            if self.chance(2) {
                let _ = graph.output(made);
            }
            if self.chance(2) {
                last = made;
            }
        }
        last
    }

    /// Images for a graph, one after the other, in each of its inputs.
    pub(crate) fn images(&mut self, graph: &Graph, count: usize) -> Vec<Vec<i64>> {
        let inputs = graph.inputs().iter();
        let images = inputs.map(|&id| {
            let tensor = graph.tensor(id);
            let Interval { least, greatest } = tensor.interval();
            let numbers = 0..count * tensor.elements();
            numbers.map(|_| self.number(least, greatest)).collect()
        });
        images.collect()
    }
}

/// The slices that the library asks for.
pub(crate) fn slices(images: &[Vec<i64>]) -> Vec<&[i64]> {
    images.iter().map(Vec::as_slice).collect()
}
