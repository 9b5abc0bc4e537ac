//! Quantized parameters as integers with scales beside.

use burn::module::Module;
use burn::tensor::Tensor;

use super::captured::{Captured, State, parameter};
use super::output::ModelOutput;
use super::record::ModelInput;
use crate::Error;
use crate::quantizers::Channels;

/// Integers beyond which f32 does not hold all.
const MOST: f64 = (1 << 24) as f64;

/// A quantized parameter: `integers * scale`, with one scale or one for each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerParameter {
    /// Its path, such as `conv1.weight`.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The integers, the last dimension fastest.
    pub integers: Vec<i32>,
    /// What each is a multiple of: one for all, or one for each channel.
    pub scales: Vec<f32>,
    /// The dimension that has one index for each scale, where there are several.
    pub channels: Option<Channels>,
}

impl IntegerParameter {
    /// The integers of values that are multiples of a step, one for all of them or one for each channel.
    fn of(
        path: String,
        shape: Vec<usize>,
        values: &[f32],
        channels: Option<Channels>,
    ) -> Option<Self> {
        if let Some(scale) = step(values.iter().copied()) {
            let integers = values.iter().map(|v| multiple(*v, scale));
            return Some(Self {
                path,
                shape,
                integers: integers.collect(),
                scales: vec![scale as f32],
                channels: None,
            });
        }
        let channels = channels?;
        let inner: usize = shape[channels.axis + 1..].iter().product();
        let of = |i: usize| i / inner % channels.count;
        let scales = (0..channels.count).map(|channel| {
            let own = values.iter().enumerate().filter(|(i, _)| of(*i) == channel);
            step(own.map(|(_, v)| *v))
        });
        let scales: Vec<f64> = scales.collect::<Option<_>>()?;
        let integers = values.iter().enumerate();
        Some(Self {
            path,
            shape,
            integers: integers.map(|(i, v)| multiple(*v, scales[of(i)])).collect(),
            scales: scales.into_iter().map(|scale| scale as f32).collect(),
            channels: Some(channels),
        })
    }
}

fn multiple(value: f32, scale: f64) -> i32 {
    (f64::from(value) / scale).round() as i32
}

/// The largest step that all values are multiples of, to the rounding of f32, among the least magnitude,
/// the least distance of two values, and their halves, thirds and quarters.
fn step(values: impl Iterator<Item = f32>) -> Option<f64> {
    let mut distinct: Vec<f32> = values.collect();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    let largest = distinct.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    if largest == 0.0 {
        return Some(1.0);
    }
    let gaps = distinct
        .windows(2)
        .map(|pair| f64::from(pair[1]) - f64::from(pair[0]));
    let magnitudes = distinct
        .iter()
        .filter(|v| **v != 0.0)
        .map(|v| f64::from(v.abs()));
    let least = [
        gaps.fold(f64::INFINITY, f64::min),
        magnitudes.fold(f64::INFINITY, f64::min),
    ];
    let mut candidates: Vec<f64> = (1..=4)
        .flat_map(|k| least.map(|x| x / f64::from(k)))
        .collect();
    candidates.sort_by(|a, b| b.total_cmp(a));
    let candidates = candidates.into_iter().filter(|x| x.is_finite());
    candidates.into_iter().find_map(|gap| {
        // The largest value tells the step best.
        let count = (f64::from(largest) / gap).round().max(1.0);
        let scale = f64::from((f64::from(largest) / count) as f32);
        let tolerance = f64::from(largest) * f64::from(f32::EPSILON);
        let fits = |v: &f32| {
            let v = f64::from(*v);
            ((v / scale).round() * scale - v).abs() <= tolerance
        };
        (count <= MOST && distinct.iter().all(fits)).then_some(scale)
    })
}

impl<M: Module, I: ModelInput, O: ModelOutput> Captured<M, I, O> {
    /// Each quantized parameter as integers and scales.
    ///
    /// # Errors
    /// If the values of one are no multiples of a step, with its path.
    pub fn to_integers(&self) -> Result<Vec<IntegerParameter>, Error> {
        let state = State::of(&self.model().valid());
        let mut all = Vec::new();
        for (path, layer, slot) in self.quantized_parameters() {
            let Some(value) = state.parameters.get(path) else {
                continue;
            };
            let value = parameter(&self.quantizers[layer].valid(), slot, value.clone());
            let data = burn::backend::TensorMetadata::shape(&value);
            let shape: Vec<usize> = data.iter().copied().collect();
            let values = numbers(value, &shape);
            let channels = self.layers()[layer]
                .description
                .weight
                .filter(|_| slot == "weight");
            let integers = IntegerParameter::of(path.into(), shape, &values, channels);
            all.push(integers.ok_or_else(|| {
                Error::capture(path, "has values that are no multiples of a step")
            })?);
        }
        Ok(all)
    }
}

fn numbers(x: burn::backend::DispatchTensor, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let flat = super::captured::reshaped(x, count);
    let flat: Tensor<1> = Tensor::from_dispatch(flat);
    flat.into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], shape: [usize; 2]) -> Option<IntegerParameter> {
        let channels = Channels {
            axis: 0,
            count: shape[0],
        };
        IntegerParameter::of("w".into(), shape.to_vec(), values, Some(channels))
    }

    #[test]
    fn steps_are_found_from_values() {
        let found = of(&[0.75, -0.5, 0.25, 0.0], [2, 2]).unwrap();
        assert_eq!(
            (found.integers, found.scales),
            (vec![3, -2, 1, 0], vec![0.25])
        );
        // Without zero, all are odd multiples of half the distance: DoReFa-Net's two bits.
        let found = of(&[-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0], [2, 2]).unwrap();
        assert_eq!(found.integers, [-3, -1, 1, 3]);
        assert_eq!(found.scales, [1.0 / 3.0]);
        // Rows with steps of their own.
        let found = of(&[0.31, -0.62, 7.0, 35.0], [2, 2]).unwrap();
        assert_eq!(
            (found.integers, found.scales),
            (vec![1, -2, 1, 5], vec![0.31, 7.0])
        );
        assert!(of(&[1.0, std::f32::consts::PI, 0.0, 2.0f32.sqrt()], [1, 4]).is_none());
    }
}
