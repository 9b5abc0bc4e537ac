//! ResNet-20 for images of 32 x 32 (He et al., arXiv 1512.03385, section 4.2), with 1x1 convolutions in
//! its two shortcuts that change the size, in 8 bits with weights at random.

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
}

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

    /// A requantization to a byte with exponent -4.
    fn narrow(&mut self, name: &str, sums: TensorId, signed: bool) -> Made {
        let exponent = self.graph.tensor(sums).numbers().exponent().unwrap_or(0);
        let numbers = Numbers::power_of_two(8, signed, -4)?;
        let shift = (-4 - exponent) as u32;
        let requantize = Requantize::by_shift(shift, Rounding::HalfEven, numbers);
        Ok(self.graph.push(name, requantize, &[sums])?)
    }

    /// A convolution and its requantization, whose saturation at zero is the rectifier.
    fn convolution(
        &mut self,
        name: &str,
        x: TensorId,
        outputs: usize,
        kernel: usize,
        stride: usize,
        signed: bool,
    ) -> Made {
        let inputs = self.graph.tensor(x).shape()[0];
        let weights = self.weights(&[outputs, inputs, kernel, kernel])?;
        let sliding = Sliding::new(2).with_stride(stride).with_padding(kernel / 2);
        let convolution = Convolution::new(weights, Some(vec![100; outputs])).with_sliding(sliding);
        let sums = self.graph.push(name, convolution, &[x])?;
        let pixels: usize = self.graph.tensor(sums).shape()[1..].iter().product();
        self.products += pixels * outputs * inputs * kernel * kernel;
        self.narrow(&format!("{name}.requantize"), sums, signed)
    }

    fn block(&mut self, name: &str, x: TensorId, outputs: usize, stride: usize) -> Made {
        let first = self.convolution(&format!("{name}.conv1"), x, outputs, 3, stride, false)?;
        let second = self.convolution(&format!("{name}.conv2"), first, outputs, 3, 1, true)?;
        let shortcut = if stride == 1 {
            x
        } else {
            self.convolution(&format!("{name}.shortcut"), x, outputs, 1, stride, true)?
        };
        let sum = self.graph.push(
            &format!("{name}.add"),
            Add {
                multipliers: [1, 1],
            },
            &[second, shortcut],
        )?;
        self.narrow(&format!("{name}.out"), sum, false)
    }
}

/// The network.
pub(crate) fn resnet20() -> Result<Network, Box<dyn std::error::Error>> {
    let mut net = Network {
        graph: Graph::new(),
        products: 0,
        random: 20,
    };
    let image = net
        .graph
        .input("image", &[3, 32, 32], Numbers::power_of_two(8, true, -6)?)?;
    let mut x = net.convolution("conv", image, 16, 3, 1, false)?;
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
    let average = net.narrow("average.requantize", average, false)?;
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
