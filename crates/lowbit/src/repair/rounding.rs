//! Layers whose weights are rounded one after the other, by what they read.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::moments::Moments;
use super::patches::{Images, Window, results};
use super::wiring::{Wired, WiredKind, Wiring};
use super::{Algorithm, Repaired, RepairedTensor};
use crate::Error;
use crate::capture::ModelInput;
use crate::config::Layer;
use crate::models::{Parameters, with_parameters};
use crate::quantizers::{Integers, Quantizer, Selection, Slot, Tapped, Taps, set_quantization};

/// Numbers under kernels that are looked at together.
const TOGETHER: usize = 1 << 22;

/// The grid of one row of a weight: integers from `min` to `max` times `step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) step: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Grid {
    /// The integer next to a number, of two the even one.
    pub(super) fn nearest(&self, x: f64) -> f64 {
        self.clip((x / self.step).round_ties_even())
    }

    /// A number in steps within the ends.
    pub(super) fn clip(&self, code: f64) -> f64 {
        code.clamp(self.min, self.max)
    }
}

/// A weight, or one group of its channels, that is to be rounded.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    /// `[rows][columns]`
    pub(super) weight: Vec<f64>,
    /// Of each row.
    pub(super) grids: Vec<Grid>,
    /// What is read, and what is to be made of it.
    pub(super) moments: Moments,
}

impl Problem {
    /// The grid of the weight at a place.
    pub(super) fn grid(&self, i: usize) -> &Grid {
        &self.grids[i / self.moments.columns]
    }

    /// The product of a weight with `sum x x^T`.
    pub(super) fn times_gram(&self, weight: &[f64]) -> Vec<f64> {
        let columns = self.moments.columns;
        let mut product = vec![0.0; weight.len()];
        let rows = product
            .par_chunks_mut(columns)
            .zip(weight.par_chunks(columns));
        rows.for_each(|(sums, row)| {
            for (w, of_gram) in row.iter().zip(self.moments.gram.sums.chunks_exact(columns)) {
                sums.iter_mut()
                    .zip(of_gram)
                    .for_each(|(sum, g)| *sum += w * g);
            }
        });
        product
    }

    /// `sum |y - W x|^2` of a weight.
    pub(super) fn error(&self, weight: &[f64]) -> f64 {
        let both = self.times_gram(weight).into_iter().zip(&self.moments.cross);
        let sum = both
            .zip(weight)
            .map(|((product, y), w)| w * (product - 2.0 * y));
        (sum.sum::<f64>() + self.moments.power).max(0.0)
    }

    /// The numbers that integers of the weights are.
    fn numbers(&self, codes: &[f64]) -> Vec<f64> {
        let all = codes.iter().enumerate();
        all.map(|(i, code)| code * self.grid(i).step).collect()
    }

    /// The integers to nearest.
    fn nearest(&self) -> Vec<f64> {
        let all = self.weight.iter().enumerate();
        all.map(|(i, &w)| self.grid(i).nearest(w)).collect()
    }
}

/// What chooses the integers of a weight; none where the moments are of no use.
pub(super) type Choose = dyn Fn(&Problem) -> Option<Vec<f64>> + Sync;

/// Rounds the weight of every layer that has a quantizer for it.
///
/// # Errors
/// As [`gptq`](super::gptq()).
pub(super) fn round<M: Module, I: ModelInput, const O: usize>(
    mut model: M,
    layers: &[Layer],
    batches: &[I],
    forward: &impl Fn(&M, I) -> Tensor<O>,
    algorithm: Algorithm,
    choose: &Choose,
) -> Result<(M, Repaired), Error> {
    let quantized = layers
        .iter()
        .filter(|layer| layer.config.get(Slot::WEIGHT).is_some());
    let quantized: Vec<&Layer> = quantized.collect();
    algorithm.check_layers(layers)?;
    let wiring = Wiring::of(&model, first(batches, algorithm)?, forward)?;
    let (float, _) = set_quantization(model.valid(), false, |_| true);
    let mut repaired = Repaired {
        algorithm,
        tensors: Vec::new(),
        notes: left(&quantized, &wiring),
    };
    for wired in &wiring.layers {
        let Some(layer) = quantized.iter().find(|layer| layer.path == wired.path) else {
            continue;
        };
        let parameters = Parameters::of(&model);
        let weight = Weight::new(wired, layer, &parameters)?;
        let mut problems = weight.problems();
        let now = model.valid();
        for batch in batches {
            let read = passed(&now, &[wired], Slot::INPUT, |now| {
                forward(now, batch.clone())
            });
            let made = passed(&float, &[wired], Slot::OUTPUT, |float| {
                forward(float, batch.clone())
            });
            for ((_, read), (_, made)) in read.iter().zip(&made) {
                weight.add(&mut problems, read, made);
            }
        }
        let codes = weight.chosen(&problems, choose)?;
        repaired.tensors.push(weight.improved(&problems, &codes));
        let data = weight.stored(&problems, &codes)?;
        model = with_parameters(model, BTreeMap::from([(wired.weight.clone(), data)]));
    }
    Ok((model, repaired))
}

/// The first of the batches.
pub(super) fn first<I>(batches: &[I], algorithm: Algorithm) -> Result<&I, Error> {
    batches.first().ok_or_else(|| Error::Calibration {
        path: algorithm.name().into(),
        message: "needs images, and there are none".into(),
    })
}

/// Which layers keep their weights, and why.
fn left(quantized: &[&Layer], wiring: &Wiring) -> Vec<String> {
    let unwired = quantized
        .iter()
        .filter(|layer| wiring.layer(&layer.path).is_none());
    let notes = unwired.map(|layer| {
        let (path, name) = (&layer.path, layer.description.name);
        format!(
            "{path} ({name}) is no convolution or linear layer with a weight of its own; it stays"
        )
    });
    let mut notes: Vec<String> = notes.collect();
    if quantized.is_empty() {
        notes.push("no weight is quantized; nothing to round".into());
    }
    notes
}

/// The quantizer of a layer's weight, and its integers.
fn weight_quantizer(
    layer: &Layer,
    parameters: &Parameters,
) -> Result<(Quantizer, Integers), Error> {
    let quantizer = parameters.quantizer_in(layer, Slot::WEIGHT);
    let both = quantizer.and_then(|quantizer| {
        let integers = quantizer.integers()?;
        Some((quantizer, integers))
    });
    let message = "has not all that its quantizer learns, expected a calibrated network";
    both.ok_or_else(|| Error::config(format!("{}.weight", layer.path), message))
}

/// The tensors that pass a slot of layers, as their operators read them, with the layer.
pub(super) fn passed<'a, M: Module, R>(
    model: &M,
    layers: &[&'a Wired],
    slot: &str,
    forward: impl FnOnce(&M) -> R,
) -> Vec<(&'a Wired, TensorData)> {
    let paths = layers.iter().map(|layer| layer.path.as_str());
    let selection = paths.fold(Selection::all(), Selection::path).slot(slot);
    let taps = Taps::attach(model, selection);
    forward(model);
    let seen = taps.detach().into_iter();
    let of_layer = |tapped: Tapped| {
        let path = &tapped.place.layer;
        let layer = layers.iter().find(|layer| layer.path == *path)?;
        Some((*layer, tapped.read.convert::<f32>()))
    };
    seen.filter_map(of_layer).collect()
}

/// The numbers of a tensor of `f32`.
pub(super) fn numbers(data: &TensorData) -> &[f32] {
    data.as_slice::<f32>().expect("it was made f32")
}

/// The weight of a layer, with its rows and groups.
struct Weight<'a> {
    wired: &'a Wired,
    shape: Vec<usize>,
    /// Of each output channel what it sums up.
    rows: Vec<Vec<f64>>,
    bias: Vec<f32>,
    quantizer: Quantizer,
    grids: Vec<Grid>,
}

impl<'a> Weight<'a> {
    fn new(wired: &'a Wired, layer: &Layer, parameters: &Parameters) -> Result<Self, Error> {
        let (quantizer, integers) = weight_quantizer(layer, parameters)?;
        let data = parameters.get(&wired.weight).expect("a recorded parameter");
        let shape = data.shape().to_vec();
        let values: Vec<f64> = data.iter::<f32>().map(f64::from).collect();
        let rows: Vec<Vec<f64>> = match wired.kind {
            WiredKind::Linear => {
                let of = |o| values.iter().skip(o).step_by(shape[1]).copied().collect();
                (0..shape[1]).map(of).collect()
            }
            WiredKind::Conv2d(_) => {
                let columns: usize = shape[1..].iter().product();
                values.chunks(columns.max(1)).map(<[f64]>::to_vec).collect()
            }
        };
        let grid = |row| Grid {
            step: f64::from(integers.log2_step(row)).exp2(),
            min: integers.min as f64,
            max: integers.max as f64,
        };
        let bias = wired.bias.as_ref().and_then(|key| parameters.get(key));
        Ok(Self {
            wired,
            grids: (0..rows.len()).map(grid).collect(),
            bias: bias.map_or(vec![0.0; rows.len()], |bias| bias.iter::<f32>().collect()),
            shape,
            rows,
            quantizer,
        })
    }

    fn groups(&self) -> usize {
        match &self.wired.kind {
            WiredKind::Linear => 1,
            WiredKind::Conv2d(window) => window.groups,
        }
    }

    /// What is to be rounded, group by group, before anything was seen.
    fn problems(&self) -> Vec<Problem> {
        let of_group = self.rows.len() / self.groups().max(1);
        let groups = self.rows.chunks(of_group.max(1));
        let groups = groups.zip(self.grids.chunks(of_group.max(1)));
        let problem = |(rows, grids): (&[Vec<f64>], &[Grid])| Problem {
            weight: rows.concat(),
            grids: grids.to_vec(),
            moments: Moments::new(rows[0].len(), rows.len()),
        };
        groups.map(problem).collect()
    }

    /// Adds what the layer reads of a batch, and what it makes of it in float.
    fn add(&self, problems: &mut [Problem], read: &TensorData, made: &TensorData) {
        match &self.wired.kind {
            WiredKind::Linear => {
                let outputs = self.rows.len();
                let mut y = numbers(made).to_vec();
                for row in y.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y -= b);
                }
                problems[0].moments.add(numbers(read), &y);
            }
            WiredKind::Conv2d(window) => self.add_images(window, problems, read, made),
        }
    }

    fn add_images(
        &self,
        window: &Window,
        problems: &mut [Problem],
        read: &TensorData,
        made: &TensorData,
    ) {
        let &[_, channels, height, width] = &read.shape()[..] else {
            return;
        };
        let kernel = [self.shape[2], self.shape[3]];
        let places = window
            .places([height, width], kernel)
            .iter()
            .product::<usize>();
        let outputs = self.rows.len();
        let of_group = [channels / window.groups, outputs / window.groups];
        let image = channels * height * width;
        let at_once = (TOGETHER / (places * problems[0].moments.columns).max(1)).max(1);
        let parts = numbers(read).chunks(at_once * image);
        let parts = parts.zip(numbers(made).chunks(at_once * outputs * places));
        for (pixels, made) in parts {
            problems
                .par_iter_mut()
                .enumerate()
                .for_each(|(group, problem)| {
                    let images = Images {
                        pixels,
                        channels,
                        size: [height, width],
                        first: group * of_group[0],
                        count: of_group[0],
                    };
                    let x = window.patches(&images, kernel);
                    let first = group * of_group[1];
                    let mut y = results(made, outputs, places, first, of_group[1]);
                    for row in y.chunks_exact_mut(of_group[1]) {
                        let bias = &self.bias[first..];
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y -= b);
                    }
                    problem.moments.add(&x, &y);
                });
        }
    }

    /// The integers of every group.
    fn chosen(&self, problems: &[Problem], choose: &Choose) -> Result<Vec<Vec<f64>>, Error> {
        let chosen: Option<Vec<_>> = problems
            .par_iter()
            .map(|problem| choose(problem).filter(|_| problem.moments.are_finite()))
            .collect();
        chosen.ok_or_else(|| Error::Calibration {
            path: format!("{}.input", self.wired.path),
            message: "saw a NaN or an infinity".into(),
        })
    }

    /// How much of the sums is error, to nearest and as chosen.
    fn improved(&self, problems: &[Problem], codes: &[Vec<f64>]) -> RepairedTensor {
        let power: f64 = problems.iter().map(|problem| problem.moments.power).sum();
        let share = |error: f64| if power > 0.0 { error / power } else { 0.0 };
        let of = |(problem, codes): (&Problem, &Vec<f64>)| problem.error(&problem.numbers(codes));
        let nearest = problems.iter().map(|p| p.error(&p.numbers(&p.nearest())));
        RepairedTensor {
            path: format!("{}.weight", self.wired.path),
            before: share(nearest.sum()),
            after: share(problems.iter().zip(codes).map(of).sum()),
        }
    }

    /// The weight on its grid, in its own order.
    ///
    /// # Errors
    /// If its quantizer makes something else of it.
    fn stored(&self, problems: &[Problem], codes: &[Vec<f64>]) -> Result<TensorData, Error> {
        let groups = problems.iter().zip(codes);
        let rows: Vec<f64> = groups.flat_map(|(p, codes)| p.numbers(codes)).collect();
        let columns = rows.len() / self.rows.len().max(1);
        let values: Vec<f32> = match self.wired.kind {
            WiredKind::Linear => {
                let (inputs, outputs) = (columns, self.rows.len());
                let at = |i: usize| rows[(i % outputs) * inputs + i / outputs] as f32;
                (0..rows.len()).map(at).collect()
            }
            WiredKind::Conv2d(_) => rows.iter().map(|&w| w as f32).collect(),
        };
        let data = TensorData::new(values, self.shape.clone());
        let device = Device::flex();
        let kept = match self.wired.kind {
            WiredKind::Linear => {
                let x = Tensor::<2>::from_data(data.clone(), &device);
                self.quantizer.operand(x).quantized().into_data()
            }
            WiredKind::Conv2d(_) => {
                let x = Tensor::<4>::from_data(data.clone(), &device);
                self.quantizer.operand(x).quantized().into_data()
            }
        };
        let same = kept
            .iter::<f32>()
            .zip(data.iter::<f32>())
            .all(|(a, b)| a == b);
        match same {
            true => Ok(data),
            false => {
                let message = "is moved from its grid by its quantizer, expected to stay";
                Err(Error::config(
                    format!("{}.weight", self.wired.path),
                    message,
                ))
            }
        }
    }
}
