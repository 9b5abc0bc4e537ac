//! Look-up in a table of vectors.

use burn::tensor::module::embedding as rows;
use burn::tensor::{Int, Tensor};

use crate::ops::backend::capture::has_way_back;
use crate::ops::quantization::Operand;

/// The rows of a quantized table at the given indices.
///
/// Where numbers are rounded one by one and no gradient comes back, only the rows that are looked up are.
///
/// # Shapes
/// - `weight`: `[rows, d_model]`
/// - `indices`: `[batch, length]`
/// - result: `[batch, length, d_model]`
pub fn embedding(weight: Operand<2>, indices: Tensor<2, Int>) -> Tensor<3> {
    if has_way_back(&weight.device()) {
        return rows(weight.quantized(), indices);
    }
    let parts = weight.into_parts();
    let rows = rows(parts.tensor, indices);
    parts.quantization.apply(rows, parts.parameters)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::quantizers::FormatQuantizerConfig;

    /// The same bits whether the table or its rows are rounded, of numbers alone and of those that share a
    /// scale.
    #[test]
    fn rows_are_those_of_the_rounded_table() {
        let device = Device::flex();
        let table = Tensor::<2>::random([20, 32], Distribution::Normal(0.0, 1.0), &device);
        let indices = || Tensor::<2, Int>::from_ints([[7, 0, 19], [7, 3, 4]], &device);
        for format in ["posit(6,1)", "mxfp4", "bfp(8)", "affine(4,symmetric)"] {
            let quantizer = FormatQuantizerConfig::new(format.parse().unwrap()).init();
            let operand = quantizer.operand(table.clone());
            assert!(operand.quantization().is_some());
            let found = embedding(operand.clone(), indices());
            let expected = rows(operand.quantized(), indices());
            assert_eq!(found.into_data(), expected.into_data(), "{format}");
        }
    }
}
