//! The greatest and the average of windows.

use super::Writer;
use super::convolution::window_attributes;
use super::linear::flipped;
use crate::graph::Node;
use crate::onnx::model::{Attribute, Model, sizes};
use crate::onnx::proto::DataType;
use crate::onnx::steps::{self, power};
use crate::onnx::windows;
use crate::ops::{AveragePool, MaxPool, Windows};

impl Writer<'_> {
    pub(super) fn max_pool(&mut self, node: &Node, pool: &MaxPool) -> String {
        let x = self.float(node.inputs()[0]);
        let shape = self.graph.tensor(node.inputs()[0]).shape();
        if let Some(plain) = windows::plain(&pool.windows, shape) {
            let mut attributes = window_attributes(&plain.kernel, &plain.sliding);
            attributes.push(Attribute::Ints("dilations", sizes(&plain.sliding.dilation)));
            return self.model.main("MaxPool", node.name(), &[&x], attributes);
        }
        max_by_gather(&mut self.model, node.name(), &x, &pool.windows, shape)
    }

    pub(super) fn average(&mut self, node: &Node, pool: &AveragePool) -> String {
        let (id, name) = (node.inputs()[0], node.name());
        let x = self.float(id);
        let tensor = self.graph.tensor(id);
        let output = self.graph.tensor(node.output()).numbers();
        let divisor = steps::divisor(tensor.numbers(), output) as u64;
        if let Some(plain) = average_as_it_is(pool, tensor.shape(), divisor) {
            if pool.windows.is_global() {
                return self.model.main("GlobalAveragePool", name, &[&x], vec![]);
            }
            let mut attributes = window_attributes(&plain.kernel, &plain.sliding);
            let include = pool.include_padding.into();
            attributes.push(Attribute::Int("count_include_pad", include));
            return self.model.main("AveragePool", name, &[&x], attributes);
        }
        let step = power(self.exponents[node.output().0] - self.exponents[id.0]);
        let matrices = average_matrices(pool, tensor.shape());
        let mut matrices = matrices.into_iter().rev();
        let (rows, values) = matrices.next().expect("an image has a dimension");
        let values: Vec<f32> = values.iter().map(|&v| v as f32 * step).collect();
        let columns = [rows, values.len() / rows];
        let matrix = self
            .model
            .floats(&format!("{name}/columns"), &columns, &values);
        let mut value = self.model.main("MatMul", name, &[&x, &matrix], vec![]);
        for (rows, values) in matrices {
            let values: Vec<f32> = flipped(rows, &values).iter().map(|&v| v as f32).collect();
            let shape = [values.len() / rows, rows];
            let matrix = self.model.floats(&format!("{name}/rows"), &shape, &values);
            value = self.model.node("MatMul", name, &[&matrix, &value], vec![]);
        }
        value
    }
}

/// Windows whose averages ONNX's pools have, exactly in floats: of one size, that is a power of two.
fn average_as_it_is(pool: &AveragePool, image: &[usize], divisor: u64) -> Option<windows::Plain> {
    let plain = windows::plain(&pool.windows, image)?;
    let padded = !plain.is_unpadded() && !pool.include_padding;
    let dilated = plain.sliding.dilation.iter().any(|&d| d != 1);
    (divisor.is_power_of_two() && !padded && !dilated).then_some(plain)
}

/// For each dimension its size and the matrix with which its elements become averages.
pub(in crate::onnx) fn average_matrices(
    pool: &AveragePool,
    image: &[usize],
) -> Vec<(usize, Vec<i64>)> {
    let elements = pool.windows.elements(image);
    let dimensions = elements.iter().enumerate();
    let matrix = |(d, elements): (usize, &Vec<Vec<usize>>)| {
        let count = match &pool.windows {
            Windows::Sliding { kernel, .. } if pool.include_padding => Some(kernel[d]),
            _ => None,
        };
        let size = image[d + 1];
        (size, windows::average_matrix(elements, size, count))
    };
    dimensions.map(matrix).collect()
}

/// The greatest of windows of any kind: each dimension's elements are gathered window by window.
pub(in crate::onnx) fn max_by_gather(
    model: &mut Model,
    name: &str,
    x: &str,
    windows: &Windows,
    image: &[usize],
) -> String {
    let elements = windows.elements(image);
    let mut value = x.to_owned();
    for (d, elements) in elements.iter().enumerate() {
        let (indices, most) = windows::repeated(elements);
        let shape = [elements.len(), most];
        let axis = d as i64 + 2;
        let indices = model.integers(
            &format!("{name}/windows"),
            DataType::Int64,
            &shape,
            &indices,
        );
        let gather = vec![Attribute::Int("axis", axis)];
        value = model.node("Gather", name, &[&value, &indices], gather);
        let axes = model.integers(&format!("{name}/axes"), DataType::Int64, &[1], &[axis + 1]);
        let keep = vec![Attribute::Int("keepdims", 0)];
        value = if d + 1 == elements_dimensions(image) {
            model.main("ReduceMax", name, &[&value, &axes], keep)
        } else {
            model.node("ReduceMax", name, &[&value, &axes], keep)
        };
    }
    value
}

/// The dimensions of an image beside its channels.
fn elements_dimensions(image: &[usize]) -> usize {
    image.len() - 1
}
