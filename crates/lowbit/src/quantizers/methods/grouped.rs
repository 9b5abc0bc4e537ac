//! Runs of numbers along a dimension, each with a scale of its own.

use burn::tensor::Tensor;

/// How a tensor lies in runs: lines along one dimension, each cut into runs of so many numbers, of
/// which the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Groups<const D: usize> {
    dims: [usize; D],
    axis: usize,
    length: usize,
}

impl<const D: usize> Groups<D> {
    /// Runs of `length` numbers along `axis` of a tensor of these dimensions; of a shorter line, one run.
    pub(super) fn new(dims: [usize; D], axis: usize, length: usize) -> Self {
        let length = length.min(dims[axis]).max(1);
        Self { dims, axis, length }
    }

    /// The runs, `[runs, length]`, in the order of the lines; short ones end in zeros.
    pub(super) fn split(self, x: Tensor<D>) -> Tensor<2> {
        let line = self.dims[self.axis];
        let lines = x.swap_dims(self.axis, D - 1).reshape([-1, line as i32]);
        let [count, _] = lines.dims();
        let padding = self.padding();
        let lines = match padding {
            0 => lines,
            _ => {
                let zeros = Tensor::zeros([count, padding], &lines.device());
                Tensor::cat(vec![lines, zeros], 1)
            }
        };
        lines.reshape([-1, self.length as i32])
    }

    /// The tensor of which those are the runs.
    pub(super) fn join(self, runs: Tensor<2>) -> Tensor<D> {
        let line = self.dims[self.axis];
        let padded = line + self.padding();
        let lines = runs.reshape([-1, padded as i32]).narrow(1, 0, line);
        let mut dims = self.dims;
        dims.swap(self.axis, D - 1);
        lines.reshape(dims).swap_dims(self.axis, D - 1)
    }

    /// Zeros at the end of a line.
    fn padding(self) -> usize {
        self.dims[self.axis].next_multiple_of(self.length) - self.dims[self.axis]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// 0 to 5 in two lines of three: along the last dimension in runs of two, 0 1, 2, 3 4, 5; along the
    /// first, 0 3, 1 4, 2 5.
    #[test]
    fn runs_by_hand() {
        let numbers: Vec<f32> = (0..6u8).map(f32::from).collect();
        let data = TensorData::new(numbers, [2, 3]);
        let x = Tensor::<2>::from_data(data.clone(), &Device::flex());
        for (axis, runs) in [
            (1, [[0.0, 1.0], [2.0, 0.0], [3.0, 4.0], [5.0, 0.0]].concat()),
            (0, [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]].concat()),
        ] {
            let groups = Groups::new([2, 3], axis, 2);
            let split = groups.split(x.clone());
            assert_eq!(split.to_data().iter::<f32>().collect::<Vec<_>>(), runs);
            assert_eq!(groups.join(split).into_data(), data);
        }
    }

    #[test]
    fn a_run_is_no_longer_than_its_line() {
        let x = Tensor::<2>::ones([2, 3], &Device::flex());
        for (axis, runs) in [(1, [2, 3]), (0, [3, 2])] {
            let groups = Groups::new([2, 3], axis, 1_000_000);
            let split = groups.split(x.clone());
            assert_eq!(split.dims(), runs);
            assert_eq!(groups.join(split).into_data(), x.to_data());
        }
    }
}
