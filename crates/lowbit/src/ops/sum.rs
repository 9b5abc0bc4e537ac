//! A sum that is the same everywhere.

use burn::tensor::Tensor;

/// The sum, in halves that are added to each other: its order depends on the length alone, where
/// that of a reduction may follow the instruction set.
pub(crate) fn sum(mut values: Tensor<1>) -> Tensor<1> {
    loop {
        let [length] = values.dims();
        if length == 1 {
            return values;
        }
        let half = length / 2;
        let sums = values.clone().narrow(0, 0, half) + values.clone().narrow(0, half, half);
        values = match length % 2 {
            0 => sums,
            _ => Tensor::cat(vec![sums, values.narrow(0, length - 1, 1)], 0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_sum_of_any_length_is_whole() {
        for length in 1..20i32 {
            let values: Vec<f32> = (1..=length).map(|i| i as f32).collect();
            let values = Tensor::<1>::from_floats(&values[..], &Device::flex());
            let expected = (length * (length + 1) / 2) as f32;
            assert_eq!(sum(values).into_scalar::<f32>(), expected);
        }
    }
}
