//! GPTQ: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
//! Pre-trained Transformers", arXiv 2210.17323.

use burn::module::Module;
use burn::tensor::Tensor;
use lowbit_formats::block::{BlockCodes, Granularity, Scales};
use lowbit_formats::{BlockFormat, FormatError, Rounding};
use rayon::prelude::*;

use super::cholesky::inverse_factor;
use super::gram::Gram;
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
    let factor = GptqFactor::of(&problem.moments.gram)?;
    let mut weight = problem.weight.clone();
    let rows = weight.par_chunks_mut(columns.max(1)).zip(&problem.grids);
    rows.for_each(|(row, grid)| {
        for j in 0..columns {
            let code = grid.nearest(row[j]);
            factor.make_up(row, j, code * grid.step);
            row[j] = code;
        }
    });
    Some(weight)
}

/// `U` of what layers read, for all weights that read it.
#[derive(Debug, Clone)]
pub struct GptqFactor {
    columns: usize,
    /// `[columns][columns]`
    upper: Vec<f64>,
}

impl GptqFactor {
    /// That of the sums; `None` where they are not finite, or so far from positive that there is none.
    pub fn of(gram: &Gram) -> Option<Self> {
        let columns = gram.columns();
        let mut hessian: Vec<f64> = gram.sums.iter().map(|x| 2.0 * x).collect();
        let diagonal = || (0..columns).map(|i| i * columns + i);
        let mean = diagonal().map(|i| hessian[i]).sum::<f64>() / columns.max(1) as f64;
        for i in diagonal() {
            // An input that is always zero.
            if hessian[i] == 0.0 {
                hessian[i] = 1.0;
            }
            hessian[i] += DAMPING * mean;
        }
        let upper = inverse_factor(&hessian, columns)?;
        Some(Self { columns, upper })
    }

    /// Moves the weights of a row after `j`, so that they make up for `row[j]` becoming `rounded`.
    fn make_up(&self, row: &mut [f64], j: usize, rounded: f64) {
        let of_column = &self.upper[j * self.columns..][..self.columns];
        let error = (row[j] - rounded) / of_column[j];
        let later = row[j + 1..].iter_mut().zip(&of_column[j + 1..]);
        later.for_each(|(w, u)| *w -= error * u);
    }
}

/// The codes of a weight `[rows][columns]` in a block format, rounded as [`gptq()`] rounds: one column after
/// the other, and the scales of a group of columns from what its weights are when its first one is rounded.
/// `factor` is of what the layer reads, and `kept` says what a file keeps of scales.
///
/// # Errors
/// If blocks do not lie along columns, or the shape does not fit.
pub fn gptq_blocks(
    weight: &[f32],
    factor: &GptqFactor,
    format: &BlockFormat,
    kept: &dyn Fn(Scales) -> Scales,
) -> Result<BlockCodes, FormatError> {
    let columns = factor.columns.max(1);
    let shape = [weight.len() / columns, columns];
    let together = columns_together(format, columns)?;
    let whole = format.scales(weight, &shape)?;
    let mut left: Vec<f64> = weight.iter().map(|&w| w.into()).collect();
    let mut scales = Vec::new();
    for first in (0..columns).step_by(together) {
        let end = columns.min(first + together);
        let rows = left.chunks_exact(columns).map(|row| &row[first..end]);
        let part: Vec<f32> = rows.flatten().map(|&w| w as f32).collect();
        let of_part = format.scales_of_part(&whole, &part, &[shape[0], end - first])?;
        let of_part = kept(of_part);
        for j in first..end {
            let column = left.iter().skip(j).step_by(columns);
            let column: Vec<f32> = column.map(|&w| w as f32).collect();
            let shape = [shape[0], 1];
            let codes = format.encode_with(&column, &shape, of_part.clone(), NEAR)?;
            let rounded = format.decode(&codes)?;
            let rows = left.par_chunks_exact_mut(columns).zip(&rounded);
            rows.for_each(|(row, &rounded)| {
                factor.make_up(row, j, rounded.into());
                row[j] = rounded.into();
            });
        }
        scales.push(of_part);
    }
    let rounded: Vec<f32> = left.iter().map(|&w| w as f32).collect();
    let scales = Scales::beside(&scales)
        .ok_or_else(|| unsupported(format, "scales that are quantized in their turn"))?;
    format.encode_with(&rounded, &shape, scales, NEAR)
}

const NEAR: Rounding = Rounding::NearestEven;

/// Columns that share scales.
fn columns_together(format: &BlockFormat, columns: usize) -> Result<usize, FormatError> {
    match format.granularity() {
        Granularity::Block {
            size,
            dim: None | Some(1),
        } => Ok(size as usize),
        Granularity::Tile { columns, .. } => Ok(columns as usize),
        Granularity::Tensor | Granularity::Dimension(0) => Ok(columns),
        _ => Err(unsupported(
            format,
            "blocks along other dimensions than columns",
        )),
    }
}

fn unsupported(format: &BlockFormat, operation: &str) -> FormatError {
    FormatError::Unsupported {
        format: format.to_string(),
        operation: operation.into(),
    }
}
