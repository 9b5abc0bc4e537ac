//! What a trained threshold does to a number, and which gradients it sends back.

use burn::tensor::{Device, Tensor};
use lowbit_formats::IntegerGrid;
use lowbit_formats::svg::{Panel, document, title};
use serde::Serialize;

use crate::Error;
use crate::ops::trained_threshold;
use crate::quantizers::TrainedThresholdConfig;

/// Numbers along a curve.
const POINTS: usize = 1601;

/// A quantizer with a trained threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurveConfig {
    /// Bits of the integers, sign included, 2 to 24.
    pub bits: u32,
    /// The threshold before its logarithm is rounded up, from 2^-100 to 2^100.
    pub threshold: f32,
    /// Whether the integers are signed.
    pub signed: bool,
}

impl CurveConfig {
    /// The integers of its results.
    fn grid(&self) -> IntegerGrid {
        let log2_t = self.threshold.log2();
        let grid = IntegerGrid::from_log2_threshold(log2_t, self.bits, self.signed);
        grid.expect("the threshold is a number")
    }
}

/// Transfer curves of a quantizer as figure 1 of TQT (arXiv 1903.08066) shows them, there for
/// 3 bits, signed, and threshold 1.0. All were computed by the operator that training uses,
/// [`trained_threshold`](crate::ops::trained_threshold()).
#[derive(Debug, Clone, Serialize)]
pub struct QuantizerCurve {
    /// The quantizer.
    pub config: CurveConfig,
    /// The step between two quantized numbers.
    pub scale: f64,
    /// Numbers from minus to plus twice the effective threshold (from minus half of it, if
    /// unsigned).
    pub x: Vec<f64>,
    /// Each number quantized.
    pub q: Vec<f64>,
    /// The gradient of `q` to the number.
    pub dq_dx: Vec<f64>,
    /// The gradient of `q` to the logarithm to base 2 of the threshold.
    pub dq_dlog2_t: Vec<f64>,
}

impl QuantizerCurve {
    /// Computes the curves.
    ///
    /// # Errors
    /// If the width or the threshold is out of its range.
    pub fn new(config: CurveConfig) -> Result<Self, Error> {
        let range = TrainedThresholdConfig::BITS;
        if !range.contains(&config.bits) {
            let message = format!("is {}, expected 2 to 24", config.bits);
            return Err(Error::config("bits", message));
        }
        let least = 2f32.powi(-100);
        if !(least..=1.0 / least).contains(&config.threshold) {
            let message = format!(
                "is {}, expected a positive number from 2^-100 to 2^100",
                config.threshold
            );
            return Err(Error::config("threshold", message));
        }
        let effective = f64::from(config.threshold.log2().ceil()).exp2();
        let low = if config.signed { -2.0 } else { -0.5 };
        let x: Vec<f64> = (0..POINTS)
            .map(|i| effective * (low + (2.0 - low) * i as f64 / (POINTS - 1) as f64))
            .collect();
        let (q, dq_dx, dq_dlog2_t) = evaluate(&config, &x);
        Ok(Self {
            config,
            scale: config.grid().step().into(),
            x,
            q,
            dq_dx,
            dq_dlog2_t,
        })
    }

    /// The loss `(q - x)^2 / 2` of each number.
    pub fn loss(&self) -> Vec<f64> {
        self.error().map(|error| error * error / 2.0).collect()
    }

    /// The gradient of the loss to the number, `(q - x) (dq/dx - 1)`.
    pub fn dloss_dx(&self) -> Vec<f64> {
        let slopes = self.error().zip(&self.dq_dx);
        slopes.map(|(error, slope)| error * (slope - 1.0)).collect()
    }

    /// The gradient of the loss to the logarithm of the threshold, `(q - x) dq/d(log2 t)`: negative
    /// where a larger threshold would lower the loss.
    pub fn dloss_dlog2_t(&self) -> Vec<f64> {
        let slopes = self.error().zip(&self.dq_dlog2_t);
        slopes.map(|(error, slope)| error * slope).collect()
    }

    fn error(&self) -> impl Iterator<Item = f64> + '_ {
        self.q.iter().zip(&self.x).map(|(q, x)| q - x)
    }

    /// The numbers between which nothing is clipped: half a step beyond the ends of the grid.
    fn unclipped(&self) -> (f64, f64) {
        let (least, greatest) = self.config.grid().ends();
        (least.into(), greatest.into())
    }

    /// The curves as a picture: above, the quantizer and its two gradients; below, the loss
    /// `(q - x)^2 / 2` and its two. The band is where nothing is clipped.
    pub fn svg(&self) -> String {
        let blue = "#0072B2";
        let orange = "#D55E00";
        let green = "#009E73";
        let log2_t =
            "log<tspan dy=\"4\" font-size=\"10\">2</tspan><tspan dy=\"-4\">\u{2009}t</tspan>";
        let (loss, to_x, to_t) = (self.loss(), self.dloss_dx(), self.dloss_dlog2_t());
        let panels = [
            ("q(x)".to_string(), &self.q, blue),
            ("\u{2202}q / \u{2202}x".into(), &self.dq_dx, green),
            (
                format!("\u{2202}q / \u{2202}{log2_t}"),
                &self.dq_dlog2_t,
                orange,
            ),
            ("L = (q(x) \u{2212} x)\u{b2} / 2".into(), &loss, blue),
            ("\u{2202}L / \u{2202}x".into(), &to_x, green),
            (format!("\u{2202}L / \u{2202}{log2_t}"), &to_t, orange),
        ];
        let CurveConfig {
            bits,
            threshold,
            signed,
        } = self.config;
        let sign = if signed { "signed" } else { "unsigned" };
        let scale = self.scale;
        let heading =
            format!("Trained threshold: {bits} bits, {sign}, t = {threshold}, step {scale}");
        let mut svg = title((60.0, 36.0), 18, &heading);
        for (i, (name, values, color)) in panels.iter().enumerate() {
            let (column, row) = ((i % 3) as f64, (i / 3) as f64);
            let panel = Panel {
                frame: [60.0 + 358.0 * column, 92.0 + 312.0 * row, 300.0, 210.0],
                x: (self.x[0], self.x[POINTS - 1]),
                y: padded(values),
            };
            svg += &panel.band(self.unclipped(), "#f3f6fa");
            svg += &panel.axes(name, "x");
            let points = |values: &[f64]| {
                let points = self.x.iter().copied().zip(values.iter().copied());
                points.collect::<Vec<_>>().into_iter()
            };
            if i == 0 {
                let (low, high) = panel.y;
                let identity = points(&self.x).filter(|(_, y)| (low..=high).contains(y));
                svg += &panel.line(
                    identity,
                    "stroke=\"#888\" stroke-width=\"1.2\" stroke-dasharray=\"4 4\"",
                );
            }
            let style = format!("stroke=\"{color}\" stroke-width=\"2\"");
            svg += &panel.line(points(values), &style);
        }
        document((1120.0, 700.0), 12, &svg)
    }
}

/// The quantized numbers, and the gradients to each and to its own threshold.
fn evaluate(config: &CurveConfig, x: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let device = Device::flex().autodiff();
    let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    let count = x.len();
    let x = Tensor::<1>::from_floats(&x[..], &device).require_grad();
    // A threshold for each number, so that the gradients are not summed.
    let log2_t = Tensor::<1>::full([count], config.threshold.log2(), &device).require_grad();
    let signed = Tensor::<1>::full([1], if config.signed { 1.0 } else { 0.0 }, &device);
    let even = lowbit_formats::Rounding::NearestEven;
    let q = trained_threshold(x.clone(), log2_t.clone(), signed, (config.bits, even), 0);
    let grads = q.clone().sum().backward();
    let values = |t: Tensor<1>| t.into_data().iter::<f64>().collect::<Vec<_>>();
    let gradient = |t: &Tensor<1>| t.grad(&grads).map(values).unwrap_or_default();
    (values(q), gradient(&x), gradient(&log2_t))
}

/// The range of the values and a little more.
fn padded(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(0.0, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    let room = 0.08 * (high - low).max(f64::MIN_POSITIVE);
    (low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> QuantizerCurve {
        QuantizerCurve::new(CurveConfig {
            bits: 3,
            threshold: 1.0,
            signed: true,
        })
        .unwrap()
    }

    /// The paper's example, 3 bits, signed, t = 1.0, from its formulas: s = 2^(0 - 2) = 1/4, n = -4,
    /// p = 3. Columns: x; q by equation 4; dq/d(log2 t) = s ln 2 times (round(x/s) - x/s), or n, or
    /// p, by equation 7; dq/dx by equation 8.
    #[test]
    fn the_papers_example_from_its_formulas() {
        let s_ln_2 = 0.25 * std::f64::consts::LN_2;
        let rows = [
            // x / s = -8: clipped to n.
            (-2.0, -1.0, -4.0 * s_ln_2, 0.0),
            // x / s = -4.6 rounds to -5, below n.
            (-1.15, -1.0, -4.0 * s_ln_2, 0.0),
            // x / s = -4.4 rounds to -4.
            (-1.1, -1.0, 0.4 * s_ln_2, 1.0),
            (-0.4, -0.5, -0.4 * s_ln_2, 1.0),
            (0.0, 0.0, 0.0, 1.0),
            (0.3, 0.25, -0.2 * s_ln_2, 1.0),
            // x / s = 3.4 rounds to 3, 3.6 to 4, above p.
            (0.85, 0.75, -0.4 * s_ln_2, 1.0),
            (0.9, 0.75, 3.0 * s_ln_2, 0.0),
            (1.5, 0.75, 3.0 * s_ln_2, 0.0),
            (2.0, 0.75, 3.0 * s_ln_2, 0.0),
        ];
        let curve = figure();
        let x: Vec<f64> = rows.iter().map(|row| row.0).collect();
        let (q, dq_dx, dq_dlog2_t) = evaluate(&curve.config, &x);
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(q[i], row.1, "q({})", row.0);
            assert!((dq_dlog2_t[i] - row.2).abs() < 1e-6, "x = {}", row.0);
            assert_eq!(dq_dx[i], row.3, "x = {}", row.0);
        }
    }

    /// The loss's gradients, from the same formulas: at 1.5 the error is -0.75, so to the number
    /// 0.75, and to the threshold -0.75 * 3 s ln 2; within the range none to the number, and
    /// 0.4 * s times 0.4 s ln 2 at -1.1, both against growth.
    #[test]
    fn the_gradients_of_the_loss() {
        let curve = figure();
        let at = |x: f64| curve.x.iter().position(|c| (c - x).abs() < 1e-9).unwrap();
        let (loss, to_x, to_t) = (curve.loss(), curve.dloss_dx(), curve.dloss_dlog2_t());
        let s_ln_2 = 0.25 * std::f64::consts::LN_2;
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(loss[at(1.5)], 0.28125);
        near(to_x[at(1.5)], 0.75);
        near(to_t[at(1.5)], -2.25 * s_ln_2);
        near(to_x[at(-1.1)], 0.0);
        near(to_t[at(-1.1)], 0.1 * 0.4 * s_ln_2);
        // Beyond the range the loss pulls the threshold outwards, within it inwards: the signs of
        // figure 1.
        for (x, gradient) in curve.x.iter().zip(&to_t) {
            // -4.5 rounds to the even -4, which is n, but 3.5 to 4, above p.
            let outside = !(-1.125..0.875).contains(x);
            assert!(
                if outside {
                    *gradient <= 0.0
                } else {
                    *gradient >= 0.0
                },
                "{x}"
            );
        }
    }

    #[test]
    fn the_picture_has_six_curves() {
        let svg = figure().svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 6);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |bits, threshold| {
            let config = CurveConfig {
                bits,
                threshold,
                signed: true,
            };
            QuantizerCurve::new(config).unwrap_err().to_string()
        };
        assert_eq!(refused(1, 1.0), "bits: is 1, expected 2 to 24");
        for threshold in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(refused(8, threshold).starts_with("threshold: is "));
        }
    }
}
