//! Rectifiers, pools, and shapes.

use super::constant::{integer, windows};
use super::elementwise::Part;
use super::held::{Held, Kind, Step};
use super::{Known, Reader};
use crate::onnx::float::flipped;
use crate::onnx::proto::NodeProto;
use crate::onnx::windows::average_matrix;
use crate::ops::{AveragePool, Flatten, MaxPool, Operator, Rectifier, Sliding, Windows};

impl Reader<'_> {
    /// What is below zero becomes zero, whatever the scales.
    pub(super) fn relu(&mut self, node: &NodeProto) -> Result<Known, String> {
        let mut held = self.held(node, 0)?;
        if held.kind != Kind::Float {
            return Err(format!("{} is not quantized", node.input[0]));
        }
        let product = held.product();
        if !product.is_some_and(|scale| scale.iter().all(|&s| s > 0.0)) {
            let name = self.name(node);
            let clip = Step::Clip(name, [0.0, f64::INFINITY]);
            return Ok(Known::Held(held.with(clip)));
        }
        held.id = self.push(node, Rectifier {}, &[held.id])?;
        Ok(Known::Held(held))
    }

    /// An operator whose output stands for its input's numbers.
    pub(super) fn same_scale(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
    ) -> Result<Known, String> {
        let mut held = self.held(node, 0)?;
        if held.kind == Kind::Float {
            let (_, scale) = self.real(node, 0)?;
            if scale.len() > 1 {
                return Err("the input has a scale for each channel".into());
            }
        } else if !held.steps.is_empty() {
            return Err("the input is rounded or moved".into());
        }
        held.id = self.push(node, operator, &[held.id])?;
        Ok(Known::Held(held))
    }

    /// A shape of two dimensions, of which the first is the batch.
    pub(super) fn reshape(&mut self, node: &NodeProto) -> Result<Known, String> {
        let shape = self.constant(node, 1)?;
        let x = self.held(node, 0)?;
        let elements = self.graph.tensor(x.id).elements() as i64;
        match shape.integers() {
            Some([-1 | 0, _] | [1, -1]) => self.same_scale(node, Flatten {}),
            // Of files with a batch of one.
            Some([1, count]) if *count == elements => self.same_scale(node, Flatten {}),
            _ => Err("a shape is not the batch and one dimension".into()),
        }
    }

    pub(super) fn max_pool(&mut self, node: &NodeProto) -> Result<Known, String> {
        let windows = windows(node)?;
        self.same_scale(node, MaxPool { windows })
    }

    pub(super) fn average(&mut self, node: &NodeProto) -> Result<Known, String> {
        let (x, scale) = self.real(node, 0)?;
        let rank = self.graph.tensor(x.id).shape().len();
        let windows = match node.op_type() {
            "GlobalAveragePool" => Windows::global(rank.saturating_sub(1)),
            _ => windows(node)?,
        };
        let pool = AveragePool {
            windows,
            include_padding: integer(node, "count_include_pad") == Some(1),
        };
        let before = self.graph.tensor(x.id).numbers().scale();
        let id = self.push(node, pool, &[x.id])?;
        let after = self.graph.tensor(id).numbers().scale();
        let scale: Vec<f64> = scale.iter().map(|scale| scale * after / before).collect();
        let is_exact = x.is_exact && self.is_exact(id, &scale);
        Ok(Known::Held(Held::real(id, scale, is_exact)))
    }

    /// Averages along one dimension of images, as the product with a matrix: that of the columns on the
    /// right, of the rows on the left. `at` is the input that is no constant.
    pub(super) fn average_by_matrix(
        &mut self,
        node: &NodeProto,
        at: usize,
    ) -> Result<Known, String> {
        const MISFIT: &str = "a matrix is not that of averages of an image";
        let held = self.held(node, at)?;
        let image = self.graph.tensor(held.id).shape().to_vec();
        let matrix = self.constant(node, 1 - at)?.quantized().ok_or(MISFIT)?;
        let super::constant::Values::Integers(mut values) = matrix.values else {
            return Err(MISFIT.into());
        };
        let (mut shape, scale) = (matrix.shape, matrix.scale);
        if image.len() != 3 || shape.len() != 2 || shape[0] * shape[1] == 0 || scale.len() > 1 {
            return Err(MISFIT.into());
        }
        if at == 1 {
            values = flipped(shape[0], &values);
            shape.reverse();
        }
        // Of the rows or of the columns.
        let dimension = 1 - at;
        let pool = average_pool(&image, dimension, &shape, &values).ok_or(MISFIT)?;
        let real = match held.kind {
            Kind::Float => Some(self.real(node, at)?),
            Kind::Integer(..) if scale == [1.0] && held.steps.is_empty() && held.shift == 0 => None,
            Kind::Integer(..) => return Err(MISFIT.into()),
        };
        let id = self.push(node, pool, &[held.id])?;
        let Some((x, before)) = real else {
            self.fits(id, held.kind)?;
            return Ok(Known::Held(Held::integers(id, held.kind, 0)));
        };
        let scale: Vec<f64> = before.iter().map(|before| before * scale[0]).collect();
        let is_exact = x.is_exact && self.is_exact(id, &scale);
        Ok(Known::Held(Held::real(id, scale, is_exact)))
    }

    /// The greatest element of each window along one dimension.
    pub(super) fn reduce_max(&mut self, node: &NodeProto) -> Result<Known, String> {
        let Known::Part(Part::Windows(mut held, axis, elements)) = self.get(node, 0)?.clone()
        else {
            return Err(format!("{} is no window's elements", node.input[0]));
        };
        let axes = self.constant(node, 1)?;
        let along = axes.integers() == Some(&[axis as i64 + 2]);
        if !along || integer(node, "keepdims") != Some(0) {
            return Err("is not along the windows".into());
        }
        let image = self.graph.tensor(held.id).shape();
        let windows = windows_of(image, axis - 1, &elements).into_iter().next();
        let windows = windows.ok_or("windows that neither slide nor are adaptive")?;
        held.id = self.push(node, MaxPool { windows }, &[held.id])?;
        Ok(Known::Held(held))
    }
}

/// The average pool along one dimension whose sums have a matrix `[inputs, outputs]`.
fn average_pool(
    image: &[usize],
    dimension: usize,
    shape: &[usize],
    values: &[i64],
) -> Option<AveragePool> {
    let [inputs, outputs] = [shape[0], shape[1]];
    if image[dimension + 1] != inputs {
        return None;
    }
    let window = |o: usize| {
        let elements = 0..inputs;
        elements.filter(|i| values[i * outputs + o] != 0).collect()
    };
    let elements: Vec<Vec<usize>> = (0..outputs).map(window).collect();
    let matches = |count| average_matrix(&elements, inputs, count) == values;
    let pools = windows_of(image, dimension, &elements).into_iter();
    let mut pools = pools.filter_map(|windows| {
        let count = match &windows {
            Windows::Sliding { kernel, .. } => Some(kernel[dimension]),
            Windows::Adaptive { .. } => None,
        };
        let include_padding = !matches(None);
        let found = !include_padding || count.is_some() && matches(count);
        found.then_some(AveragePool {
            windows,
            include_padding,
        })
    });
    pools.next()
}

/// Windows along one dimension of an image that have these elements: adaptive ones, and ones that slide.
fn windows_of(image: &[usize], dimension: usize, elements: &[Vec<usize>]) -> Vec<Windows> {
    let dimensions = image.len() - 1;
    let mut output = image[1..].to_vec();
    let size = output[dimension];
    output[dimension] = elements.len();
    if elements.iter().any(Vec::is_empty) || elements.is_empty() {
        return vec![];
    }
    let mut found = Vec::new();
    let adaptive = Windows::Adaptive { output };
    if elements.len() <= size && adaptive.elements(image)[dimension] == elements {
        found.push(adaptive);
    }
    if let Some((slide, after)) = Slide::of(size, elements) {
        let mut kernel = vec![1; dimensions];
        kernel[dimension] = slide.kernel;
        let mut sliding = Sliding::new(dimensions);
        sliding.stride[dimension] = slide.stride;
        sliding.dilation[dimension] = slide.dilation;
        sliding.padding[dimension] = [slide.before, after];
        found.push(Windows::Sliding { kernel, sliding });
    }
    found
}

/// Windows that slide over one dimension.
struct Slide {
    size: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    dilation: usize,
}

impl Slide {
    /// Windows over so many elements that have these, and the padding after the last one.
    fn of(size: usize, elements: &[Vec<usize>]) -> Option<(Self, usize)> {
        let longest = elements.iter().max_by_key(|window| window.len())?;
        // Windows of one element do not say how far apart others would be.
        let dilations = match longest[..] {
            [a, b, ..] => {
                let dilation = b.checked_sub(a).filter(|&d| d > 0)?;
                dilation..=dilation
            }
            _ => 1..=size,
        };
        let kernels = longest.len()..=longest.len() + size;
        let pairs = kernels.flat_map(|kernel| dilations.clone().map(move |d| (kernel, d)));
        let mut slides = pairs.flat_map(|(kernel, dilation)| {
            let befores = 0..dilation * (kernel - 1) + 1;
            befores.flat_map(move |before| {
                (1..=size).map(move |stride| Self {
                    size,
                    kernel,
                    stride,
                    before,
                    dilation,
                })
            })
        });
        slides.find_map(|slide| {
            let after = slide.after(elements)?;
            Some((slide, after))
        })
    }

    /// The padding after the last element with which the windows have these elements.
    fn after(&self, elements: &[Vec<usize>]) -> Option<usize> {
        let Self {
            size,
            kernel,
            stride,
            before,
            dilation,
        } = *self;
        let inside = |o: usize| {
            let places = (0..kernel).map(move |k| o * stride + k * dilation);
            let places = places.filter_map(move |at| at.checked_sub(before));
            places.filter(move |&at| at < size)
        };
        let mut windows = elements.iter().enumerate();
        if !windows.all(|(o, window)| inside(o).eq(window.iter().copied())) {
            return None;
        }
        let reach = dilation * (kernel - 1) + 1;
        let needed = (elements.len() - 1) * stride + reach;
        let after = needed.saturating_sub(size + before);
        let count = (size + before + after).checked_sub(reach)? / stride + 1;
        (count == elements.len()).then_some(after)
    }
}
