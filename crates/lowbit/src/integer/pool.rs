//! Pooling.

use burn_ir::TensorIr;
use lowbit_int::ops::{AveragePool, MaxPool, Sliding, Windows};

use super::line::{Kind, Line, Value};
use super::lower::{Lowering, no_grid, stem};
use crate::Error;
use crate::ops::{self, Pooling};

impl Lowering<'_> {
    /// What is made of the numbers under each window.
    pub(super) fn pool(&mut self, pooling: Pooling, x: &TensorIr) -> Result<Value, Error> {
        let value = self.data(x)?;
        let stem = stem(&value, "pool");
        let line = self.line(&value)?;
        let sliding = |s: ops::Sliding| Windows::Sliding {
            kernel: s.size.to_vec(),
            sliding: Sliding {
                stride: s.stride.to_vec(),
                padding: s.padding.map(|p| [p, p]).to_vec(),
                dilation: s.dilation.to_vec(),
            },
        };
        let line = match pooling {
            Pooling::Max(s) => {
                let line = self.rising(line, &stem)?;
                let windows = sliding(s);
                let tensor = self.push(&stem, MaxPool { windows }, &[line.tensor])?;
                Line { tensor, ..line }
            }
            Pooling::Average(s, include_padding) => {
                let line = self.whole(line, &stem)?;
                if include_padding && s.padding != [0, 0] && line.offset.iter().any(|&o| o != 0.0) {
                    return Err(no_grid(
                        &value,
                        "is padded by zeros after a sum with no grid",
                    ));
                }
                let windows = sliding(s);
                self.average(&stem, windows, include_padding, line)?
            }
            Pooling::AdaptiveAverage(size) => {
                let line = self.whole(line, &stem)?;
                let windows = Windows::Adaptive {
                    output: size.to_vec(),
                };
                self.average(&stem, windows, false, line)?
            }
            Pooling::Sum(_) => return Err(no_grid(&value, "is summed over windows")),
        };
        Ok(Value::made(Kind::Line(line), value.reader()))
    }

    fn average(
        &mut self,
        stem: &str,
        windows: Windows,
        include_padding: bool,
        line: Line,
    ) -> Result<Line, Error> {
        let pool = AveragePool {
            windows,
            include_padding,
        };
        let before = self.graph.tensor(line.tensor).numbers().scale();
        let tensor = self.push(stem, pool, &[line.tensor])?;
        let after = self.graph.tensor(tensor).numbers().scale();
        let scale = line.scale.iter().map(|s| s * (after / before));
        Ok(Line {
            scale: scale.collect(),
            tensor,
            ..line
        })
    }
}
