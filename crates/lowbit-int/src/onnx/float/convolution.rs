//! Convolutions, and what ONNX says of their windows.

use super::Writer;
use crate::graph::Node;
use crate::onnx::ExportError;
use crate::onnx::model::{Attribute, sizes};
use crate::ops::{Convolution, Sliding};

impl Writer<'_> {
    pub(super) fn convolution(
        &mut self,
        node: &Node,
        convolution: &Convolution,
    ) -> Result<String, ExportError> {
        checked_output_padding(node.name(), convolution)?;
        let ratio = self.folded(node);
        let x = self.float(node.inputs()[0]);
        let weight = self.weights(node.name(), &convolution.weights, &ratio, 0, true)?;
        let mut inputs = vec![x, weight];
        if let Some(bias) = &convolution.bias {
            inputs.push(self.bias(node, bias, &ratio)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let op = match &convolution.transposed {
            None => "Conv",
            Some(_) => "ConvTranspose",
        };
        let attributes = convolution_attributes(convolution);
        Ok(self.model.main(op, node.name(), &inputs, attributes))
    }
}

/// Kernel, strides and paddings.
pub(in crate::onnx) fn window_attributes(
    kernel: &[usize],
    sliding: &Sliding,
) -> Vec<Attribute<'static>> {
    let before = sliding.padding.iter().map(|sides| sides[0] as i64);
    let after = sliding.padding.iter().map(|sides| sides[1] as i64);
    vec![
        Attribute::Ints("kernel_shape", sizes(kernel)),
        Attribute::Ints("strides", sizes(&sliding.stride)),
        Attribute::Ints("pads", before.chain(after).collect()),
    ]
}

/// The options of a convolution.
pub(in crate::onnx) fn convolution_attributes(
    convolution: &Convolution,
) -> Vec<Attribute<'static>> {
    let (kernel, sliding) = (&convolution.weights.shape[2..], &convolution.sliding);
    let (sliding, output_padding) = match &convolution.transposed {
        Some(_) => {
            let (sliding, padding) = without_wide_output_padding(convolution);
            (sliding, Some(padding))
        }
        None => (sliding.clone(), None),
    };
    let mut attributes = window_attributes(kernel, &sliding);
    attributes.push(Attribute::Ints("dilations", sizes(&sliding.dilation)));
    attributes.push(Attribute::Int("group", convolution.groups as i64));
    if let Some(padding) = output_padding {
        attributes.push(Attribute::Ints("output_padding", sizes(&padding)));
    }
    attributes
}

/// Of a transposed convolution: outputs that are added at the end of a dimension and taken away by its
/// padding are neither added nor taken away where there are as many as a stride, which runtimes refuse.
fn without_wide_output_padding(convolution: &Convolution) -> (Sliding, Vec<usize>) {
    let mut sliding = convolution.sliding.clone();
    let mut output_padding = convolution.transposed.clone().unwrap_or_default();
    for (d, added) in output_padding.iter_mut().enumerate() {
        if *added >= sliding.stride[d] {
            let both = sliding.padding[d][1].min(*added);
            sliding.padding[d][1] -= both;
            *added -= both;
        }
    }
    (sliding, output_padding)
}

/// Refuses outputs added by a transposed convolution that are as many as a stride.
pub(in crate::onnx) fn checked_output_padding(
    name: &str,
    convolution: &Convolution,
) -> Result<(), ExportError> {
    let (sliding, padding) = without_wide_output_padding(convolution);
    let mut pairs = padding.iter().zip(&sliding.stride);
    match pairs.find(|(added, stride)| added >= stride) {
        Some((added, stride)) => {
            let reason =
                format!("output_padding is {added}, and ONNX adds less than the stride, {stride}");
            Err(ExportError::new(name, reason))
        }
        None => Ok(()),
    }
}
