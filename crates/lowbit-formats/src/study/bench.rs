//! The speed of the kernels, as a ratio to a copy of the same memory.

use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::FormatError;
use crate::format::Format;
use crate::kernel;
use crate::rounding::Rounding;
use crate::study::compare::Distribution;

/// What a run measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Elements per slice.
    pub elements: usize,
    /// Threads.
    pub threads: usize,
    /// The median over the kernels of the copies beside them.
    pub copy_elements_per_second: f64,
    /// One entry per format and rounding.
    pub kernels: Vec<Kernel>,
}

/// The speed of one kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kernel {
    /// The format's text.
    pub format: String,
    /// The rounding mode.
    pub rounding: Rounding,
    /// Out of place, on slices far larger than the caches.
    pub elements_per_second: f64,
    /// `elements_per_second` over that of a copy of the same slices, taken in turns with it.
    pub ratio_to_copy: f64,
    /// Out of place, on 2^14 elements, one thread.
    pub in_cache_elements_per_second: f64,
}

/// Numbers that are drawn; more would take longer to make than to measure.
const DISTINCT: usize = 1 << 20;

/// Elements of the measurement in cache.
pub const IN_CACHE: usize = 1 << 14;

/// Measures every case on slices of `elements` normally distributed numbers with `threads`
/// threads. Each time is the shortest of `repeats`; copies and kernels take turns.
///
/// # Errors
///
/// [`FormatError`] if a format cannot be applied to a slice; [`FormatError::Parameter`] if
/// `elements`, `threads` or `repeats` is 0, or the threads cannot be started.
pub fn kernels(
    cases: &[(Format, Rounding)],
    elements: usize,
    threads: usize,
    repeats: usize,
) -> Result<Report, FormatError> {
    at_least_one("elements", elements)?;
    at_least_one("threads", threads)?;
    at_least_one("repeats", repeats)?;
    let pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(|error| {
            FormatError::parameter(
                "bench",
                "threads",
                threads,
                format!("a number of threads that can be started ({error})"),
            )
        })
    };
    let (many, one) = (pool(threads)?, pool(1)?);
    let input = normal_numbers(elements);
    // Writing the output once gives it its pages before anything is timed.
    let mut output = vec![1.0; elements];
    let mut copies = Vec::new();
    let mut kernels = Vec::new();
    for (format, rounding) in cases {
        let (copy, large) = many.install(|| {
            let mut copy = f64::INFINITY;
            let mut large = f64::INFINITY;
            for _ in 0..repeats {
                copy = copy.min(seconds(|| self::copy(&input, &mut output)));
                let start = Instant::now();
                format.quantize(&input, &mut output, *rounding)?;
                large = large.min(start.elapsed().as_secs_f64());
            }
            Ok((copy, large))
        })?;
        let small = one.install(|| in_cache(format, *rounding, &input, &mut output, repeats))?;
        copies.push(elements as f64 / copy);
        kernels.push(Kernel {
            format: format.to_string(),
            rounding: *rounding,
            elements_per_second: elements as f64 / large,
            ratio_to_copy: copy / large,
            in_cache_elements_per_second: small,
        });
    }
    copies.sort_by(f64::total_cmp);
    Ok(Report {
        elements,
        threads,
        copy_elements_per_second: copies.get(copies.len() / 2).copied().unwrap_or(0.0),
        kernels,
    })
}

/// The yardstick: the same slices, the same chunks, the same threads.
fn copy(input: &[f32], output: &mut [f32]) {
    output
        .par_chunks_mut(kernel::CHUNK)
        .zip(input.par_chunks(kernel::CHUNK))
        .for_each(|(output, input)| output.copy_from_slice(input));
}

/// Elements per second on the first [`IN_CACHE`] elements.
fn in_cache(
    format: &Format,
    rounding: Rounding,
    input: &[f32],
    output: &mut [f32],
    repeats: usize,
) -> Result<f64, FormatError> {
    const PASSES: usize = 32;
    let length = IN_CACHE.min(input.len());
    let (input, output) = (&input[..length], &mut output[..length]);
    format.quantize(input, output, rounding)?;
    let mut shortest = f64::INFINITY;
    for _ in 0..repeats {
        let start = Instant::now();
        for _ in 0..PASSES {
            format.quantize(input, output, rounding)?;
        }
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    Ok((length * PASSES) as f64 / shortest)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Standard normal numbers, over and over from [`DISTINCT`] on.
fn normal_numbers(count: usize) -> Vec<f32> {
    let numbers = Distribution::Normal.samples(count.min(DISTINCT), 0);
    numbers.into_iter().cycle().take(count).collect()
}

fn at_least_one(field: &'static str, value: usize) -> Result<(), FormatError> {
    if value > 0 {
        return Ok(());
    }
    Err(FormatError::parameter("bench", field, "0", "at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_reported() {
        let cases = ["int8", "e4m3"].map(|text| (text.parse().unwrap(), Rounding::NearestEven));
        let report = kernels(&cases, 1000, 1, 1).unwrap();
        assert_eq!(report.kernels.len(), 2);
        for (kernel, (format, _)) in report.kernels.iter().zip(&cases) {
            assert_eq!(kernel.format, format.to_string());
            assert!(kernel.elements_per_second > 0.0);
            assert!(kernel.in_cache_elements_per_second.is_finite());
        }
        assert!(kernels(&cases, 0, 1, 1).is_err());
    }

    #[test]
    fn the_numbers_are_standard_normal() {
        let numbers = normal_numbers(1 << 16);
        let count = numbers.len() as f64;
        let mean = kernel::sum(&numbers) / count;
        let squares = kernel::map_to_vec(&numbers, |x| x * x);
        // Four standard errors: 4 / sqrt(65536), and 4 * sqrt(2 / 65536) for the variance.
        assert!(mean.abs() < 0.0157);
        assert!((kernel::sum(&squares) / count - 1.0).abs() < 0.0222);
    }
}
