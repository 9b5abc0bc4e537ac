//! `lowbit analyze quantizer`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::{CurveConfig, QuantizerCurve};
use lowbit::train::Method;

use crate::commands::Ended;
use crate::picture::write_svg;

/// Draw a quantizer: the transfer curve, its gradients to the number and to the threshold, and
/// those of the loss (q(x) - x)^2 / 2, as figure 1 of TQT (arXiv 1903.08066) shows them.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How it quantizes; only tqt has curves
    #[arg(long, value_name = "NAME", default_value = "tqt")]
    method: Method,
    /// Bits of the integers
    #[arg(long, value_name = "N", default_value_t = 3)]
    bits: u32,
    /// The threshold
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    threshold: f32,
    /// Integers from 0 on
    #[arg(long)]
    unsigned: bool,
    /// The picture, an SVG file
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        if self.method != Method::TQT {
            return Err(format!("--method {}: expected tqt", self.method).into());
        }
        let curve = QuantizerCurve::new(CurveConfig {
            bits: self.bits,
            threshold: self.threshold,
            signed: !self.unsigned,
        })?;
        write_svg(&self.out, &curve.svg())?;
        Ok(ExitCode::SUCCESS)
    }
}
