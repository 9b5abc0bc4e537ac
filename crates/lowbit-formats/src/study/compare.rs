//! Formats side by side: facts, and the noise they add to numbers of known distributions.

use serde::Serialize;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::rounding::philox::{GROUP, Philox};
use crate::scalar::facts::Facts;
use crate::study::error_summary::{ErrorSummary, ErrorSums};

/// Numbers drawn for each distribution.
pub const SAMPLES: usize = 1 << 16;

/// Numbers on which a scale is chosen.
const SCALE_SAMPLES: usize = 1 << 16;

/// Distributions with mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// The normal distribution.
    Normal,
    /// Uniform between minus and plus the square root of 3.
    Uniform,
    /// Laplace, with density `exp(-sqrt(2) |x|) / sqrt(2)`.
    Laplace,
}

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Uniform, Self::Laplace];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Uniform => "uniform",
            Self::Laplace => "laplace",
        }
    }

    /// `count` numbers from the generator with this seed; each distribution has its own stream.
    ///
    /// Normal numbers come in pairs by Box and Muller's transform, the others by the inverse of
    /// the distribution function.
    pub fn samples(self, count: usize, seed: u64) -> Vec<f32> {
        let philox = Philox::new(seed, self as u64);
        let mut numbers = Vec::with_capacity(count + GROUP);
        let mut group = 0;
        while numbers.len() < count {
            let words = philox.group(group);
            group += 1;
            for pair in words.as_chunks::<2>().0 {
                numbers.extend(self.pair(pair.map(uniform)).map(|x| x as f32));
            }
        }
        numbers.truncate(count);
        numbers
    }

    /// Two numbers from two that are uniform in 0..1.
    fn pair(self, [u, v]: [f64; 2]) -> [f64; 2] {
        match self {
            Self::Normal => {
                let radius = (-2.0 * u.ln()).sqrt();
                let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
                [radius * cos, radius * sin]
            }
            Self::Uniform => [u, v].map(|u| (2.0 * u - 1.0) * 3f64.sqrt()),
            Self::Laplace => [u, v].map(|u| {
                let tail = 2.0 * u.min(1.0 - u);
                -tail.ln().copysign(0.5 - u) * std::f64::consts::FRAC_1_SQRT_2
            }),
        }
    }
}

/// The middle of the word's interval among 2^32 equal ones in 0..1.
fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// A tensor to try formats on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// Its numbers in row-major order.
    pub data: Vec<f32>,
}

/// Numbers that formats are compared on; several tensors count as one set of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What the table calls them.
    pub name: String,
    /// The tensors.
    pub tensors: Vec<Tensor>,
}

impl Sample {
    /// [`SAMPLES`] numbers of a distribution, as one tensor of one dimension.
    pub fn of(distribution: Distribution, seed: u64) -> Self {
        Self {
            name: distribution.name().into(),
            tensors: vec![Tensor {
                name: distribution.name().into(),
                shape: vec![SAMPLES],
                data: distribution.samples(SAMPLES, seed),
            }],
        }
    }
}

/// A format in the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The format's text.
    pub format: String,
    /// What there is to know about it.
    pub facts: Facts,
    /// Its error on each sample.
    pub samples: Vec<Fit>,
}

/// How a format does on a sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// The sample's name.
    pub sample: String,
    /// The error of the numbers as they are.
    pub plain: ErrorSummary,
    /// The error with the best of the powers of two that were tried as a scale: numbers are
    /// multiplied by it, rounded, and divided by it again. Errors are those of the numbers
    /// themselves.
    pub scaled: ErrorSummary,
    /// The scale's exponent.
    pub scale_log2: i32,
}

/// Compares formats on samples.
///
/// # Errors
///
/// [`FormatError`] if a format cannot round a tensor of a sample's shape, or has no facts.
pub fn compare(
    formats: &[Format],
    samples: &[Sample],
    rounding: Rounding,
) -> Result<Vec<Compared>, FormatError> {
    let compared = |format: &Format| {
        let fits = samples.iter().map(|sample| fit(format, sample, rounding));
        Ok(Compared {
            format: format.to_string(),
            facts: format.facts(),
            samples: fits.collect::<Result<_, _>>()?,
        })
    };
    formats.iter().map(compared).collect()
}

fn fit(format: &Format, sample: &Sample, rounding: Rounding) -> Result<Fit, FormatError> {
    let plain = error(format, &sample.tensors, 0, rounding)?;
    let scale_log2 = best_scale(format, sample, rounding)?;
    let scaled = match scale_log2 {
        0 => plain,
        _ => error(format, &sample.tensors, scale_log2, rounding)?,
    };
    Ok(Fit {
        sample: sample.name.clone(),
        plain,
        scaled,
        scale_log2,
    })
}

/// The error of tensors that are rounded at a scale of `2^scale_log2`.
fn error(
    format: &Format,
    tensors: &[Tensor],
    scale_log2: i32,
    rounding: Rounding,
) -> Result<ErrorSummary, FormatError> {
    let scale = (scale_log2 as f32).exp2();
    let unscale = (-f64::from(scale_log2)).exp2();
    let mut sums = ErrorSums::new(format);
    for (i, tensor) in tensors.iter().enumerate() {
        let rounding = rounding.of_tensor(i);
        let mut rounded: Vec<f32> = tensor.data.iter().map(|x| x * scale).collect();
        let scaled = rounded.clone();
        format.quantize_shaped_in_place(&mut rounded, &tensor.shape, rounding)?;
        let pair = |(x, y): (&f32, &f32)| (f64::from(*x), f64::from(*y));
        sums.add(scaled.iter().zip(&rounded).map(pair));
    }
    let mut summary = sums.summary();
    summary.max_error *= unscale;
    summary.rms_error *= unscale;
    Ok(summary)
}

/// The exponent of the power of two with the least noise, 0 where scaling has no use: in formats
/// that find a scale themselves, and in those of more than 16 bits.
fn best_scale(format: &Format, sample: &Sample, rounding: Rounding) -> Result<i32, FormatError> {
    if matches!(format, Format::Block(_)) || format.bits() > 16 {
        return Ok(0);
    }
    let thinned = [thin(&sample.tensors)];
    let finite = thinned[0].data.iter().filter(|x| x.is_finite());
    let largest = finite.fold(0f32, |max, x| max.max(x.abs()));
    if largest == 0.0 {
        return Ok(0);
    }
    let fills = (f64::from(format.facts().max) / f64::from(largest))
        .log2()
        .floor() as i32;
    // Around a scale of one, which tapered formats like, and around the one that fills the range,
    // with more room for clamping the largest numbers.
    let candidates = (-4..=4).chain(fills - 2..=fills + 6);
    let mut best = (f64::INFINITY, 0);
    for scale_log2 in candidates.filter(|k| (-60..=60).contains(k)) {
        let found = error(format, &thinned, scale_log2, rounding)?;
        let noise = if found.overflowed > 0 {
            f64::INFINITY
        } else {
            found.rms_error
        };
        // Among equals, the scale nearest to one.
        if noise < best.0 || noise == best.0 && scale_log2.abs() < i32::abs(best.1) {
            best = (noise, scale_log2);
        }
    }
    Ok(best.1)
}

/// At most [`SCALE_SAMPLES`] of the numbers, evenly chosen.
fn thin(tensors: &[Tensor]) -> Tensor {
    let count: usize = tensors.iter().map(|tensor| tensor.data.len()).sum();
    let step = count.div_ceil(SCALE_SAMPLES).max(1);
    let numbers = tensors.iter().flat_map(|tensor| &tensor.data);
    let data: Vec<f32> = numbers.step_by(step).copied().collect();
    Tensor {
        name: String::new(),
        shape: vec![data.len()],
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqnr(format: &str, distribution: Distribution) -> (f64, f64, i32) {
        let formats = [format.parse().unwrap()];
        let samples = [Sample::of(distribution, 0)];
        let found = compare(&formats, &samples, Rounding::NearestEven).unwrap();
        let fit = &found[0].samples[0];
        let db = |summary: &ErrorSummary| summary.sqnr_db.unwrap();
        (db(&fit.plain), db(&fit.scaled), fit.scale_log2)
    }

    /// Four standard errors of mean and variance; fourth moments are 3, 9/5 and 6.
    #[test]
    fn samples_have_their_moments() {
        let count = 1 << 16;
        for (distribution, fourth) in [
            (Distribution::Normal, 3.0),
            (Distribution::Uniform, 1.8),
            (Distribution::Laplace, 6.0),
        ] {
            let samples = distribution.samples(count, 3);
            assert_eq!(samples.len(), count);
            let moment = |power| {
                let powers = samples.iter().map(|&x| f64::from(x).powi(power));
                powers.sum::<f64>() / count as f64
            };
            assert!(moment(1).abs() < 4.0 / 256.0, "{distribution:?}");
            let error = 4.0 * f64::sqrt((fourth - 1.0) / count as f64);
            assert!((moment(2) - 1.0).abs() < error, "{distribution:?}");
        }
        assert_eq!(Distribution::Uniform.samples(7, 0).len(), 7);
    }

    /// A uniform number on a range of 2^b steps has 6.02 b dB (step^2 / 12 of noise). The range of
    /// 2 sqrt(3) takes 3.4641 * 64 = 221.7 steps of fixed(8,6), 46.92 dB.
    #[test]
    fn uniform_numbers_have_the_textbook_ratio() {
        let (plain, scaled, scale_log2) = sqnr("fixed(8,6)", Distribution::Uniform);
        assert!((plain - 46.92).abs() < 0.1, "{plain}");
        assert_eq!((scaled, scale_log2), (plain, 0));
        // int8 needs 2^6 to be fixed(8,6).
        let (_, scaled, scale_log2) = sqnr("int8", Distribution::Uniform);
        assert_eq!((scaled, scale_log2), (plain, 6));
    }

    #[test]
    fn blocks_find_their_scale_themselves() {
        let (plain, scaled, scale_log2) = sqnr("mxfp8(e4m3)", Distribution::Normal);
        assert_eq!((plain, scale_log2), (scaled, 0));
    }

    #[test]
    fn an_exact_format_has_no_ratio() {
        let formats = ["fp32".parse().unwrap()];
        let samples = [Sample::of(Distribution::Normal, 0)];
        let found = compare(&formats, &samples, Rounding::NearestEven).unwrap();
        assert_eq!(found[0].samples[0].plain.sqnr_db, None);
        assert_eq!(found[0].samples[0].plain.max_error, 0.0);
    }

    #[test]
    fn an_empty_sample_is_no_noise() {
        let sample = Sample {
            name: "empty".into(),
            tensors: vec![],
        };
        for text in ["e4m3", "mxfp4"] {
            let found = compare(
                &[text.parse().unwrap()],
                std::slice::from_ref(&sample),
                Rounding::Up,
            );
            assert_eq!(found.unwrap()[0].samples[0].plain.elements, 0);
        }
    }
}
