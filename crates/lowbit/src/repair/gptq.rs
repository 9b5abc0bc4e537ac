//! GPTQ: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
//! Pre-trained Transformers", arXiv 2210.17323.

use burn::module::Module;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::cholesky::inverse_factor;
use super::rounding::{Problem, round};
use super::{Algorithm, Repaired};
use crate::Error;
use crate::capture::ModelInput;
use crate::config::Layer;

/// What is added to the diagonal of the Hessian, over its mean (section 3.3, step 3).
const DAMPING: f64 = 0.01;

/// Rounds weights one input after the other, so that those which are not rounded yet make up for the error
/// of those which are.
///
/// Of every row `w` of a weight, `|w X - q X|^2` over what the layer reads, `X`, has the Hessian
/// `H = 2 X X^T`. With `U` upper and `U^T U = (H + 0.01 mean(diag H) 1)^-1`, for each column `j` in order
/// (arXiv 2210.17323, algorithm 1; the blocks there are for speed alone):
/// `q_j = round(w_j)`, `e = (w_j - q_j) / U_jj`, `w_k -= e U_jk` for all `k > j`.
///
/// `X` is what the layer reads with all layers before it as they are: quantized, and their weights rounded.
/// The columns of a convolution are the numbers under its kernel; each group has its own. The step is that
/// of the weight's quantizer, for the tensor or for each output channel, and what is stored is `q` itself.
///
/// `layers` are the network's; `batches` are what it is shown.
///
/// # Errors
/// If there are no batches, the forward cannot be recorded, a quantized weight is on no grid of integers
/// times a power of two, or learns its width, or a layer reads a NaN or an infinity; with the layer.
pub fn gptq<M: Module, I: ModelInput, const O: usize>(
    model: M,
    layers: &[Layer],
    batches: &[I],
    forward: impl Fn(&M, I) -> Tensor<O>,
) -> Result<(M, Repaired), Error> {
    round(model, layers, batches, &forward, Algorithm::Gptq, &codes)
}

/// The integers of the weights, `[rows][columns]`.
pub(super) fn codes(problem: &Problem) -> Option<Vec<f64>> {
    let columns = problem.moments.columns;
    let mut hessian: Vec<f64> = problem.moments.gram.iter().map(|x| 2.0 * x).collect();
    let diagonal = || (0..columns).map(|i| i * columns + i);
    let mean = diagonal().map(|i| hessian[i]).sum::<f64>() / columns.max(1) as f64;
    for i in diagonal() {
        // An input that is always zero.
        if hessian[i] == 0.0 {
            hessian[i] = 1.0;
        }
        hessian[i] += DAMPING * mean;
    }
    let factor = inverse_factor(&hessian, columns)?;
    let mut weight = problem.weight.clone();
    let rows = weight.par_chunks_mut(columns.max(1)).zip(&problem.grids);
    rows.for_each(|(row, grid)| {
        for j in 0..columns {
            let code = grid.nearest(row[j]);
            let of_column = &factor[j * columns..][..columns];
            let error = (row[j] - code * grid.step) / of_column[j];
            row[j] = code;
            let later = row[j + 1..].iter_mut().zip(&of_column[j + 1..]);
            later.for_each(|(w, u)| *w -= error * u);
        }
    });
    Some(weight)
}
