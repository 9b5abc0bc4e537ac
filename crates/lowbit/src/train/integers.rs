//! Trained networks as integers.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::task::batch;
use crate::Error;
use crate::data::ImageSet;
use crate::integer::{Comparison, IntegerNetwork, lower};
use crate::models::{Classifier, Network};

/// Images that run at a time.
const BATCH: usize = 128;

/// Makes integers of a trained network; see [`lower`].
///
/// # Errors
/// As [`lower`].
pub fn to_integers(
    model: &Network,
    set: &ImageSet,
    device: &Device,
) -> Result<IntegerNetwork, Error> {
    let example = batch(set, &[0], None, device).images;
    lower(model, &example, forward)
}

fn forward(model: &Network, images: Tensor<4>) -> Tensor<2> {
    model.forward(images)
}

/// Compares a network of integers with the simulation on all images of a set, and on the first
/// `in_slots` of them in every slot, too.
///
/// # Errors
/// If the images do not fit the network.
pub fn compare_integers(
    network: &IntegerNetwork,
    model: &Network,
    set: &ImageSet,
    in_slots: usize,
    device: &Device,
) -> Result<Comparison, Error> {
    let all: Vec<u32> = (0..set.len() as u32).collect();
    let (first, others) = all.split_at(in_slots.min(set.len()));
    let mut comparison = compare_integers_on(network, model, (set, first), device)?;
    for indices in others.chunks(BATCH) {
        let images = batch(set, indices, None, device).images;
        comparison.extend(network.compare(model, &images, forward)?);
    }
    Ok(comparison)
}

/// Compares a network of integers with the simulation on some images of a set, in every slot.
///
/// # Errors
/// If the images do not fit the network.
pub fn compare_integers_on(
    network: &IntegerNetwork,
    model: &Network,
    (set, images): (&ImageSet, &[u32]),
    device: &Device,
) -> Result<Comparison, Error> {
    let mut comparison = Comparison::default();
    for indices in images.chunks(BATCH) {
        let images = batch(set, indices, None, device).images;
        comparison.extend(network.compare_tensors(model, &images, forward)?);
    }
    Ok(comparison)
}

/// The integers of a set's first images, for each input of the graph.
///
/// # Errors
/// If the images do not fit the network.
pub fn first_integers(
    network: &IntegerNetwork,
    set: &ImageSet,
    images: usize,
) -> Result<Vec<Vec<i64>>, Error> {
    let indices: Vec<u32> = (0..images.min(set.len()) as u32).collect();
    network.integers(batch(set, &indices, None, &Device::flex()).images)
}

/// Compares a network of integers with the simulation on random inputs: integers of the input's width, each
/// as likely as any other, drawn from `seed`.
///
/// # Errors
/// If the network has another input than images.
pub fn compare_random_integers(
    network: &IntegerNetwork,
    model: &Network,
    items: usize,
    seed: u64,
    device: &Device,
) -> Result<Comparison, Error> {
    let mut comparison = Comparison::default();
    for first in (0..items).step_by(BATCH) {
        let count = BATCH.min(items - first);
        let inputs = network.random(count, first as u64, seed);
        let [images] = &inputs[..] else {
            let message = format!("has {} inputs, expected 1", inputs.len());
            return Err(Error::capture("the network", message));
        };
        let images = Tensor::<4>::from_data(images.clone(), device);
        comparison.extend(network.compare(model, &images, forward)?);
    }
    Ok(comparison)
}

/// The share of a set's images whose class has the highest score; of equal scores, the first is highest.
///
/// # Errors
/// If the images do not fit the network.
pub fn integer_accuracy(network: &IntegerNetwork, set: &ImageSet) -> Result<f64, Error> {
    let device = Device::flex();
    let all: Vec<u32> = (0..set.len() as u32).collect();
    // Images are read by one thread of those that run others.
    let right = all
        .par_chunks(BATCH)
        .map(|indices| -> Result<usize, Error> {
            let images = batch(set, indices, None, &device).images;
            let predicted = classes(&network.run(images)?);
            let labels = indices.iter().map(|&i| usize::from(set.labels[i as usize]));
            let pairs = predicted.iter().zip(labels);
            Ok(pairs.filter(|(a, b)| **a == *b).count())
        });
    let right = right.try_reduce(|| 0, |a, b| Ok(a + b))?;
    Ok(right as f64 / set.len().max(1) as f64)
}

/// The class and the scores of each of the images in a tensor of `[images, ..]`, normalized as the network
/// was trained to see them.
///
/// # Errors
/// If the shape is not that of the network's input.
pub fn run_images(
    network: &IntegerNetwork,
    shape: &[usize],
    numbers: Vec<f32>,
) -> Result<Vec<(usize, Vec<f32>)>, Error> {
    let graph = network.graph();
    let expected = graph.inputs().first().map(|&id| graph.tensor(id).shape());
    let expected = expected.unwrap_or_default();
    let fits = shape.get(1..) == Some(expected);
    let (Some(&images), true) = (shape.first(), fits && graph.inputs().len() == 1) else {
        let message = format!("shape is {shape:?}, expected [images] and {expected:?}");
        return Err(Error::capture("images", message));
    };
    let flat = TensorData::new(numbers, [images, expected.iter().product()]);
    let scores = network.run(Tensor::<2>::from_data(flat, &Device::flex()))?;
    let classes = classes(&scores);
    let numbers: Vec<f32> = scores.iter::<f32>().collect();
    let each = (numbers.len() / images.max(1)).max(1);
    let scores = numbers.chunks(each).map(<[f32]>::to_vec);
    Ok(classes.into_iter().zip(scores).collect())
}

/// The class with the highest score of each item; of equal scores, the first.
fn classes(scores: &TensorData) -> Vec<usize> {
    let items = scores.shape().first().copied().unwrap_or(0).max(1);
    let numbers: Vec<f32> = scores.iter::<f32>().collect();
    let each = (numbers.len() / items).max(1);
    let highest = |scores: &[f32]| {
        let before = |a: usize, b: usize| scores[b] > scores[a];
        (1..scores.len()).fold(0, |best, i| if before(best, i) { i } else { best })
    };
    numbers.chunks(each).map(highest).collect()
}
