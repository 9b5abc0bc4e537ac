//! Small networks as they are deployed, with weights at random.

use lowbit_int::ops::{
    Add, AveragePool, Clamp, Convolution, Flatten, Linear, LookUp, MaxPool, Mul, Rectifier,
    Requantize, Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Numbers, Operator, Rounding, TensorId};

use super::random::Random;

/// A network that grows, layer by layer.
struct Network {
    graph: Graph,
    random: Random,
    last: TensorId,
    bits: u32,
}

impl Network {
    fn new(seed: u64, shape: &[usize], numbers: Numbers, bits: u32) -> Self {
        let mut graph = Graph::new();
        let last = graph.input("image", shape, numbers).unwrap();
        Self {
            graph,
            random: Random(seed),
            last,
            bits,
        }
    }

    fn push(&mut self, name: &str, operator: impl Into<Operator>, inputs: &[TensorId]) -> TensorId {
        self.last = self.graph.push(name, operator, inputs).unwrap();
        self.last
    }

    fn channels(&self) -> usize {
        self.graph.tensor(self.last).shape()[0]
    }

    fn weights(&mut self, shape: &[usize]) -> Weights {
        let numbers = Numbers::power_of_two(self.bits, true, 1 - self.bits as i32).unwrap();
        let count = shape.iter().product();
        let (least, greatest) = (numbers.least() + 1, numbers.greatest());
        let span = (greatest - least + 1) as usize;
        let values = (0..count).map(|_| least + self.random.below(span) as i64);
        Weights {
            shape: shape.to_vec(),
            values: values.collect(),
            numbers,
        }
    }

    fn bias(&mut self, count: usize) -> Option<Vec<i64>> {
        Some((0..count).map(|_| self.random.number(-200, 200)).collect())
    }

    fn convolution(
        &mut self,
        name: &str,
        outputs: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
    ) {
        let inputs = self.channels();
        let weights = self.weights(&[outputs, inputs / groups, kernel, kernel]);
        let sliding = Sliding::new(2).with_stride(stride).with_padding(kernel / 2);
        let bias = self.bias(outputs);
        let convolution = Convolution::new(weights, bias)
            .with_sliding(sliding)
            .with_groups(groups);
        self.push(name, convolution, &[self.last]);
    }

    fn linear(&mut self, name: &str, outputs: usize) {
        let inputs = self.channels();
        let linear = Linear {
            weights: self.weights(&[outputs, inputs]),
            bias: self.bias(outputs),
        };
        self.push(name, linear, &[self.last]);
    }

    /// A shift to a width, by so much that most of what is there fits.
    fn shift(&mut self, name: &str, bits: u32, signed: bool, rounding: Rounding) {
        let tensor = self.graph.tensor(self.last);
        let shift = tensor.interval().bits().saturating_sub(bits + 2);
        let exponent = tensor.numbers().exponent().unwrap() + shift as i32;
        let numbers = Numbers::power_of_two(bits, signed, exponent).unwrap();
        self.push(
            name,
            Requantize::by_shift(shift, rounding, numbers),
            &[self.last],
        );
    }

    /// A multiplier of 31 bits for each channel, and a zero point.
    fn scale(&mut self, name: &str, zero: i64) {
        let tensor = self.graph.tensor(self.last);
        let (channels, bits) = (tensor.shape()[0], tensor.interval().bits());
        let numbers = Numbers::affine(8, zero < 0, 0.1, zero).unwrap();
        let multiplier =
            (0..channels).map(|_| (1 << 30) + 1 + 2 * self.random.below(1 << 20) as i64);
        let requantize = Requantize {
            multiplier: multiplier.collect(),
            offset: vec![0],
            shift: vec![30 + bits - 10],
            rounding: Rounding::HalfAway,
            numbers,
        };
        self.push(name, requantize, &[self.last]);
    }

    fn pool(&mut self, name: &str) {
        let windows = Windows::Sliding {
            kernel: vec![2, 2],
            sliding: Sliding::new(2).with_stride(2),
        };
        self.push(name, MaxPool { windows }, &[self.last]);
    }

    fn average(&mut self, name: &str) {
        let average = AveragePool {
            windows: Windows::global(2),
            include_padding: false,
        };
        self.push(name, average, &[self.last]);
    }

    fn finish(mut self) -> Graph {
        self.graph.output(self.last).unwrap();
        self.graph
    }
}

fn byte() -> Numbers {
    Numbers::power_of_two(8, false, -8).unwrap()
}

/// LeNet-5 (LeCun et al., 1998) with rectifiers and the greatest of windows, 4 bits.
pub(crate) fn lenet() -> Graph {
    let mut net = Network::new(1, &[1, 28, 28], byte(), 4);
    for (name, outputs) in [("conv1", 6), ("conv2", 16)] {
        net.convolution(name, outputs, 5, 1, 1);
        net.push(&format!("{name}.relu"), Rectifier {}, &[net.last]);
        net.shift(&format!("{name}.out"), 4, false, Rounding::HalfEven);
        net.pool(&format!("{name}.pool"));
    }
    net.push("flatten", Flatten {}, &[net.last]);
    for (name, outputs) in [("fc1", 120), ("fc2", 84)] {
        net.linear(name, outputs);
        net.shift(&format!("{name}.out"), 4, false, Rounding::HalfEven);
    }
    net.linear("fc3", 10);
    net.finish()
}

/// Two residual blocks, the second with half the size.
pub(crate) fn residual() -> Graph {
    residual_blocks(2, 12, &[(8, 1), (16, 2)])
}

/// ResNet-8 for images of 32 x 32 (MLPerf Tiny's).
pub(crate) fn resnet8() -> Graph {
    residual_blocks(5, 32, &[(16, 1), (32, 2), (64, 2)])
}

/// A convolution, residual blocks with so many channels and such a stride, the average and a linear
/// layer: 8 bits, a multiplier for each channel, zero points.
fn residual_blocks(seed: u64, size: usize, blocks: &[(usize, usize)]) -> Graph {
    let image = Numbers::affine(8, false, 0.02, 117).unwrap();
    let mut net = Network::new(seed, &[3, size, size], image, 8);
    net.convolution("conv", blocks[0].0, 3, 1, 1);
    net.scale("conv.out", 10);
    for (index, &(outputs, stride)) in blocks.iter().enumerate() {
        let name = format!("block{}", index + 1);
        let mut shortcut = net.last;
        net.convolution(&format!("{name}.conv1"), outputs, 3, stride, 1);
        net.scale(&format!("{name}.out1"), 20);
        net.convolution(&format!("{name}.conv2"), outputs, 3, 1, 1);
        net.scale(&format!("{name}.out2"), -3);
        let second = net.last;
        if stride > 1 {
            net.last = shortcut;
            net.convolution(&format!("{name}.conv3"), outputs, 1, stride, 1);
            net.scale(&format!("{name}.out3"), -7);
            shortcut = net.last;
        }
        let add = Add {
            multipliers: [3, 2],
        };
        net.push(&format!("{name}.add"), add, &[second, shortcut]);
        net.scale(&name, 0);
    }
    net.average("average");
    net.scale("average.out", 0);
    net.push("flatten", Flatten {}, &[net.last]);
    net.linear("linear", 10);
    net.finish()
}

/// Depthwise and pointwise convolutions, of which the second pair is weighed by a table's sigmoid of
/// its averages (squeeze and excitation).
pub(crate) fn depthwise() -> Graph {
    let mut net = Network::new(
        3,
        &[3, 16, 16],
        Numbers::power_of_two(8, true, -7).unwrap(),
        8,
    );
    net.convolution("stem", 8, 3, 2, 1);
    net.shift("stem.out", 8, false, Rounding::HalfUp);
    for (name, outputs, stride) in [("first", 12, 1), ("second", 16, 2)] {
        let channels = net.channels();
        net.convolution(&format!("{name}.depthwise"), channels, 3, stride, channels);
        net.shift(&format!("{name}.middle"), 8, true, Rounding::HalfUp);
        let clamp = Clamp {
            least: 0,
            greatest: 96,
        };
        net.push(&format!("{name}.clamp"), clamp, &[net.last]);
        net.convolution(&format!("{name}.pointwise"), outputs, 1, 1, 1);
        net.shift(&format!("{name}.out"), 8, true, Rounding::Floor);
    }
    let features = net.last;
    net.average("average");
    net.shift("average.out", 8, true, Rounding::HalfEven);
    let numbers = net.graph.tensor(net.last).numbers();
    let table = LookUp::of(numbers, byte(), |x| 1.0 / (1.0 + (-x).exp())).unwrap();
    let gate = net.push("gate", table, &[net.last]);
    net.push("weighed", Mul {}, &[features, gate]);
    net.shift("weighed.out", 8, true, Rounding::HalfEven);
    net.push("flatten", Flatten {}, &[net.last]);
    net.linear("linear", 10);
    net.finish()
}

/// A network for the digits of 8 x 8 pixels from 0 to 16: two convolutions and a linear layer of 8
/// bits.
pub(crate) fn digits() -> Graph {
    let pixels = Numbers::power_of_two(5, false, -4).unwrap();
    let mut net = Network::new(4, &[1, 8, 8], pixels, 8);
    for (name, outputs) in [("conv1", 16), ("conv2", 32)] {
        net.convolution(name, outputs, 3, 1, 1);
        net.shift(&format!("{name}.out"), 8, false, Rounding::HalfEven);
        net.pool(&format!("{name}.pool"));
    }
    net.push("flatten", Flatten {}, &[net.last]);
    net.linear("linear", 10);
    net.finish()
}

/// All of them, each with its name.
pub(crate) fn all() -> [(&'static str, Graph); 5] {
    [
        ("lenet", lenet()),
        ("residual", residual()),
        ("resnet8", resnet8()),
        ("depthwise", depthwise()),
        ("digits", digits()),
    ]
}
