//! ResNet-20 for images of 32 x 32 (He et al., arXiv 1512.03385, section 4.2), with 1x1 convolutions in
//! its two shortcuts that change the size, weights at random: in 8 bits, or with weights of -1 and 1 and
//! activations of one or two bits between a first and a last layer of 8.

use lowbit_int::ops::{
    Add, AveragePool, Convolution, Flatten, Linear, Requantize, Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Numbers, Rounding, TensorId};

type Made = Result<TensorId, Box<dyn std::error::Error>>;

/// A network that grows, and its products for an image.
pub(crate) struct Network {
    pub(crate) graph: Graph,
    pub(crate) products: usize,
    random: u64,
    /// Bits of the activations that convolutions read; weights are -1 and 1 where these are not 8.
    bits: u32,
}

/// What a tensor stands for.
#[derive(Clone, Copy)]
struct Grid {
    bits: u32,
    signed: bool,
    exponent: i32,
}

/// What blocks make.
const EXPONENT: i32 = -4;

impl Network {
    pub(crate) fn byte(&mut self) -> i64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.random >> 40) & 255) as i64 - 128
    }

    fn weights(&mut self, shape: &[usize]) -> Result<Weights, String> {
        let count = shape.iter().product();
        Ok(Weights {
            shape: shape.to_vec(),
            numbers: Numbers::power_of_two(8, true, -7)?,
            values: (0..count).map(|_| self.byte()).collect(),
        })
    }

    /// Of -1 and 1, in sixteenths.
    fn signs(&mut self, shape: &[usize]) -> Result<Weights, String> {
        let count = shape.iter().product();
        Ok(Weights {
            shape: shape.to_vec(),
            numbers: Numbers::power_of_two(2, true, -4)?,
            values: (0..count).map(|_| self.byte() & 2).map(|b| b - 1).collect(),
        })
    }

    /// What a convolution's rectifier leaves.
    fn activation(&self) -> Grid {
        Grid {
            bits: self.bits,
            signed: false,
            exponent: EXPONENT,
        }
    }

    /// What is added at a block's end.
    fn branch(&self) -> Grid {
        let finer = if self.bits == 8 { 0 } else { 2 };
        Grid {
            bits: 8,
            signed: true,
            exponent: EXPONENT - finer,
        }
    }

    /// A requantization.
    fn narrow(&mut self, name: &str, sums: TensorId, grid: Grid) -> Made {
        let exponent = self.graph.tensor(sums).numbers().exponent().unwrap_or(0);
        let numbers = Numbers::power_of_two(grid.bits, grid.signed, grid.exponent)?;
        let shift = (grid.exponent - exponent) as u32;
        let requantize = Requantize::by_shift(shift, Rounding::HalfEven, numbers);
        Ok(self.graph.push(name, requantize, &[sums])?)
    }

    /// A convolution and its requantization, whose saturation at zero is the rectifier.
    fn convolution(
        &mut self,
        name: &str,
        x: TensorId,
        weights: Weights,
        stride: usize,
        grid: Grid,
    ) -> Made {
        let [outputs, inputs, kernel] = [0, 1, 2].map(|d| weights.shape[d]);
        let sliding = Sliding::new(2).with_stride(stride).with_padding(kernel / 2);
        let bias = vec![if self.bits == 8 { 100 } else { 3 }; outputs];
        let convolution = Convolution::new(weights, Some(bias)).with_sliding(sliding);
        let sums = self.graph.push(name, convolution, &[x])?;
        let pixels: usize = self.graph.tensor(sums).shape()[1..].iter().product();
        self.products += pixels * outputs * inputs * kernel * kernel;
        self.narrow(&format!("{name}.requantize"), sums, grid)
    }

    /// A convolution within a block.
    fn inner(
        &mut self,
        name: &str,
        x: TensorId,
        [outputs, kernel, stride]: [usize; 3],
        grid: Grid,
    ) -> Made {
        let shape = [outputs, self.graph.tensor(x).shape()[0], kernel, kernel];
        let weights = match self.bits {
            8 => self.weights(&shape)?,
            _ => self.signs(&shape)?,
        };
        self.convolution(name, x, weights, stride, grid)
    }

    fn block(&mut self, name: &str, x: TensorId, outputs: usize, stride: usize) -> Made {
        let (activation, branch) = (self.activation(), self.branch());
        let sizes = [outputs, 3, stride];
        let first = self.inner(&format!("{name}.conv1"), x, sizes, activation)?;
        let sizes = [outputs, 3, 1];
        let second = self.inner(&format!("{name}.conv2"), first, sizes, branch)?;
        let (shortcut, multiplier) = if stride == 1 {
            (x, 1 << (activation.exponent - branch.exponent))
        } else {
            let sizes = [outputs, 1, stride];
            (
                self.inner(&format!("{name}.shortcut"), x, sizes, branch)?,
                1,
            )
        };
        let multipliers = [1, multiplier];
        let add = Add { multipliers };
        let sum = self
            .graph
            .push(&format!("{name}.add"), add, &[second, shortcut])?;
        self.narrow(&format!("{name}.out"), sum, activation)
    }
}

/// The network in 8 bits.
pub(crate) fn resnet20() -> Result<Network, Box<dyn std::error::Error>> {
    resnet20_of(8)
}

/// The network with activations of so many bits; weights are -1 and 1 if they are not 8.
pub(crate) fn resnet20_of(bits: u32) -> Result<Network, Box<dyn std::error::Error>> {
    let mut net = Network {
        graph: Graph::new(),
        products: 0,
        random: 20,
        bits,
    };
    let image = net
        .graph
        .input("image", &[3, 32, 32], Numbers::power_of_two(8, true, -6)?)?;
    let weights = net.weights(&[16, 3, 3, 3])?;
    let activation = net.activation();
    let mut x = net.convolution("conv", image, weights, 1, activation)?;
    for (stage, outputs) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&format!("layer{stage}.{block}"), x, outputs, stride)?;
        }
    }
    let windows = Windows::global(2);
    let average = AveragePool {
        windows,
        include_padding: false,
    };
    let average = net.graph.push("average", average, &[x])?;
    let byte = Grid {
        bits: 8,
        ..activation
    };
    let average = net.narrow("average.requantize", average, byte)?;
    let flat = net.graph.push("flatten", Flatten {}, &[average])?;
    let weights = net.weights(&[10, 64])?;
    net.products += 640;
    let linear = Linear {
        weights,
        bias: None,
    };
    let logits = net.graph.push("linear", linear, &[flat])?;
    net.graph.output(logits)?;
    Ok(net)
}
