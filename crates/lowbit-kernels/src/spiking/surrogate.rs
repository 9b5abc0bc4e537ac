//! Surrogate gradients: what stands for the derivative of a spike, which is zero almost everywhere.

use serde::{Deserialize, Serialize};

use super::step::{BLOCK, Block, block};
use crate::exp::exp_within;

/// The derivative of a spike to the membrane potential `u` on the way back, with the threshold `t`
/// and `x = u - t`. Widths and deviations are positive; `scale` multiplies the whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Surrogate {
    /// `scale / (width t) e^(-|x| / (width t))` (Shrestha and Orchard, "SLAYER", NeurIPS 2018,
    /// arXiv 1810.08646, section 3.2).
    SingleExponential {
        /// In thresholds.
        width: f32,
        /// Multiplies it.
        scale: f32,
    },
    /// `scale ((1 + h) G(x; 0, d) - h G(x; d, s d) - h G(x; -d, s d))` with the density `G(x; m, d)`
    /// of the normal distribution of mean `m` and deviation `d` (Yin, Corradi, Bohte, arXiv
    /// 2103.12593, section "Surrogate gradients").
    MultiGaussian {
        /// Of the density in the middle.
        deviation: f32,
        /// Height of the negative parts.
        h: f32,
        /// Their deviation, in deviations.
        s: f32,
        /// Multiplies it.
        scale: f32,
    },
    /// `scale G(x; 0, deviation)`.
    Gaussian {
        /// Of the density.
        deviation: f32,
        /// Multiplies it.
        scale: f32,
    },
    /// `scale / (1 + slope |x|)^2`, the derivative of a fast sigmoid (Zenke and Ganguli, "SuperSpike",
    /// arXiv 1705.11146, section 2.2).
    FastSigmoid {
        /// Steepness, per unit of potential.
        slope: f32,
        /// Multiplies it.
        scale: f32,
    },
    /// `scale / width` where `|x| < width / 2`, 0 elsewhere (Wu et al., "STBP", arXiv 1706.02609,
    /// equation 24).
    Box {
        /// Of the whole box.
        width: f32,
        /// Multiplies it.
        scale: f32,
    },
    /// `scale e^(-|d| / width)`: below the threshold `d = x`; above it `d` runs from `-t` to `t` around
    /// every multiple of `t`, where it is 0, so that every further spike of the same step has its
    /// own peak (Weidel and Sheik, "WaveSense", arXiv 2111.01456, section 2.2).
    PeriodicExponential {
        /// In units of potential.
        width: f32,
        /// Multiplies it.
        scale: f32,
    },
}

/// A single exponential half a threshold wide, the usual one of sinabs.
impl Default for Surrogate {
    fn default() -> Self {
        Self::SingleExponential {
            width: 0.5,
            scale: 1.0,
        }
    }
}

impl Surrogate {
    /// The derivative at each of a block's potentials `u`, with thresholds `t`.
    #[inline(always)]
    pub(super) fn slopes(self, u: &Block, t: &Block) -> Block {
        match self {
            Self::SingleExponential { width, scale } => block!(|j| {
                let width = t[j] * width;
                scale / width * exp(-(u[j] - t[j]).abs() / width)
            }),
            Self::MultiGaussian {
                deviation,
                h,
                s,
                scale,
            } => block!(|j| {
                let (x, wide) = (u[j] - t[j], s * deviation);
                let sides = density(x - deviation, wide) + density(x + deviation, wide);
                scale * ((1.0 + h) * density(x, deviation) - h * sides)
            }),
            Self::Gaussian { deviation, scale } => {
                block!(|j| scale * density(u[j] - t[j], deviation))
            }
            Self::FastSigmoid { slope, scale } => block!(|j| {
                let below = 1.0 + slope * (u[j] - t[j]).abs();
                scale / (below * below)
            }),
            Self::Box { width, scale } => block!(|j| {
                let inside = (u[j] - t[j]).abs() < width * 0.5;
                if inside { scale / width } else { 0.0 }
            }),
            Self::PeriodicExponential { width, scale } => block!(|j| {
                let phase = u[j] / t[j] - 0.5;
                let above = t[j] * (2.0 * (phase - phase.floor()) - 1.0);
                let d = if u[j] < t[j] { u[j] - t[j] } else { above };
                scale * exp(-d.abs() / width)
            }),
        }
    }
}

/// The density of the normal distribution around zero.
#[inline(always)]
fn density(x: f32, deviation: f32) -> f32 {
    /// `1 / sqrt(2 pi)`.
    const HEIGHT: f32 = 0.398_942_3;
    let x = x / deviation;
    HEIGHT / deviation * exp(-0.5 * x * x)
}

/// `e^x` for `x <= 0`; below -87, `e^-87`, which is no less than the least normal number. A NaN gives a
/// NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    exp_within(if x < -87.0 { -87.0 } else { x })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_agrees_with_the_exact_one() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
        assert_eq!(exp(-1e9), exp(-87.0));
        assert!(exp(f32::NAN).is_nan());
    }

    /// The formulas of the papers in f64, at potentials around two thresholds.
    #[test]
    fn slopes_are_those_of_the_formulas() {
        let normal = |x: f64, m: f64, d: f64| {
            (-(x - m).powi(2) / (2.0 * d * d)).exp() / (d * (2.0 * std::f64::consts::PI).sqrt())
        };
        let threshold = 0.8f64;
        let cases: [(Surrogate, &dyn Fn(f64) -> f64); 6] = [
            (
                Surrogate::SingleExponential {
                    width: 0.5,
                    scale: 2.0,
                },
                &|u| 2.0 / 0.4 * (-(u - threshold).abs() / 0.4).exp(),
            ),
            (
                Surrogate::MultiGaussian {
                    deviation: 0.5,
                    h: 0.15,
                    s: 6.0,
                    scale: 1.0,
                },
                &|u| {
                    let x = u - threshold;
                    1.15 * normal(x, 0.0, 0.5) - 0.15 * (normal(x, 0.5, 3.0) + normal(x, -0.5, 3.0))
                },
            ),
            (
                Surrogate::Gaussian {
                    deviation: 0.5,
                    scale: 3.0,
                },
                &|u| 3.0 * normal(u - threshold, 0.0, 0.5),
            ),
            (
                Surrogate::FastSigmoid {
                    slope: 25.0,
                    scale: 1.0,
                },
                &|u| 1.0 / (1.0 + 25.0 * (u - threshold).abs()).powi(2),
            ),
            (
                Surrogate::Box {
                    width: 0.5,
                    scale: 1.0,
                },
                &|u| {
                    if (u - threshold).abs() < 0.25 {
                        2.0
                    } else {
                        0.0
                    }
                },
            ),
            (
                Surrogate::PeriodicExponential {
                    width: 0.5,
                    scale: 1.0,
                },
                &|u| {
                    // The distance to the nearest peak: below the first threshold to that one; above,
                    // twice as steep, to the nearest multiple.
                    let peak = (u / threshold).round();
                    let d = if u < threshold {
                        u - threshold
                    } else {
                        2.0 * (u - peak * threshold)
                    };
                    (-d.abs() / 0.5).exp()
                },
            ),
        ];
        let mut u = [0.0; BLOCK];
        for (i, u) in u.iter_mut().enumerate() {
            *u = i as f32 * 0.05 - 0.813;
        }
        for (surrogate, exact) in cases {
            let slopes = surrogate.slopes(&u, &[0.8; BLOCK]);
            for (&u, &slope) in u.iter().zip(&slopes) {
                let exact = exact(f64::from(u));
                let error = (f64::from(slope) - exact).abs();
                assert!(
                    error < 3e-6 * (1.0 + exact.abs()),
                    "{surrogate:?} {u}: {slope} {exact}"
                );
            }
        }
    }
}
