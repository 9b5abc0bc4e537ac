//! Pooling.

use burn_ir::TensorIr;
use lowbit_int::ops::{AveragePool, MaxPool, Sliding, Windows};

use super::line::{Kind, Line, Value};
use super::lower::{Lowering, no_grid, stem};
use crate::Error;
use crate::ops::{self, Pooling};

/// Windows of one size, with as many zeros after as before.
pub(super) fn sliding<const D: usize>(
    size: [usize; D],
    stride: [usize; D],
    padding: [usize; D],
    dilation: [usize; D],
) -> Windows {
    Windows::Sliding {
        kernel: size.to_vec(),
        sliding: Sliding {
            stride: stride.to_vec(),
            padding: padding.map(|p| [p, p]).to_vec(),
            dilation: dilation.to_vec(),
        },
    }
}

/// Windows that make an output of a size.
pub(super) fn adaptive<const D: usize>(size: [usize; D]) -> Windows {
    Windows::Adaptive {
        output: size.to_vec(),
    }
}

impl Lowering<'_> {
    /// What an operator of ours makes of the numbers under each window.
    pub(super) fn pool(&mut self, pooling: Pooling, x: &TensorIr) -> Result<Value, Error> {
        let windows = |s: ops::Sliding| sliding(s.size, s.stride, s.padding, s.dilation);
        match pooling {
            Pooling::Max(s) => self.max_pool(windows(s), x),
            Pooling::Average(s, include_padding) => {
                self.average_pool(windows(s), include_padding, x)
            }
            Pooling::AdaptiveAverage(size) => self.average_pool(adaptive(size), false, x),
            Pooling::Sum(_) => Err(no_grid(&self.data(x)?, "is summed over windows")),
        }
    }

    /// The greatest number under each window.
    pub(super) fn max_pool(&mut self, windows: Windows, x: &TensorIr) -> Result<Value, Error> {
        let value = self.data(x)?;
        let stem = stem(&value, "pool");
        let line = self.line(&value)?;
        let line = self.rising(line, &stem)?;
        let tensor = self.push(&stem, MaxPool { windows }, &[line.tensor])?;
        let line = Line { tensor, ..line };
        Ok(Value::made(Kind::Line(line), value.reader()))
    }

    /// The mean under each window, and whether zeros around the image count.
    pub(super) fn average_pool(
        &mut self,
        windows: Windows,
        include_padding: bool,
        x: &TensorIr,
    ) -> Result<Value, Error> {
        let value = self.data(x)?;
        let stem = stem(&value, "pool");
        let line = self.line(&value)?;
        let line = self.whole(line, &stem)?;
        let padded = match &windows {
            Windows::Sliding { sliding, .. } => sliding.padding.iter().any(|&p| p != [0, 0]),
            Windows::Adaptive { .. } => false,
        };
        if include_padding && padded && line.offset.iter().any(|&o| o != 0.0) {
            let reason = "is padded by zeros after a sum with no grid";
            return Err(no_grid(&value, reason));
        }
        let pool = AveragePool {
            windows,
            include_padding,
        };
        let before = self.graph.tensor(line.tensor).numbers().scale();
        let tensor = self.push(&stem, pool, &[line.tensor])?;
        let after = self.graph.tensor(tensor).numbers().scale();
        let scale = line.scale.iter().map(|s| s * (after / before));
        let line = Line {
            scale: scale.collect(),
            tensor,
            ..line
        };
        Ok(Value::made(Kind::Line(line), value.reader()))
    }
}
