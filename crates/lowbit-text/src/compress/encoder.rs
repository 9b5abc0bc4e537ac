//! Encoders, whose layers may be applied several times: all read what the network in float makes.

use burn::tensor::{Int, Tensor};
use lowbit::nn::Linear;
use lowbit::quantizers::Taps;
use lowbit::repair::Gram;

use super::rounding::{Rounder, Together, add, inputs};
use crate::Error;
use crate::models::{EncoderInput, QuestionAnswering};

/// Rounds the weights of all layers but the head.
pub(super) fn round(
    mut network: QuestionAnswering,
    windows: &[Tensor<2, Int>],
    rounder: &mut Rounder<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<QuestionAnswering, Error> {
    let mut groups = Vec::new();
    for group in self::groups(&mut network) {
        for (path, layer) in &group.layers {
            let [columns, _] = layer.weight.val().dims();
            rounder.check(path, columns)?;
        }
        let (path, layer) = &group.layers[0];
        let [columns, _] = layer.weight.val().dims();
        groups.push((path.clone(), if windows.is_empty() { 0 } else { columns }));
    }
    let mut grams: Vec<Gram> = groups
        .iter()
        .map(|(_, columns)| Gram::new(*columns))
        .collect();
    let all = windows.len() + groups.len();
    for (index, window) in windows.iter().enumerate() {
        progress(index, all);
        let taps = Taps::attach(
            &network,
            inputs(groups.iter().map(|(path, _)| path.as_str())),
        );
        network.forward(EncoderInput {
            tokens: window.clone(),
            types: window.zeros_like(),
            padding: None,
        });
        let of = |path: &str| groups.iter().position(|(first, _)| first == path);
        add(taps.detach(), of, &mut grams);
    }
    for (index, group) in self::groups(&mut network).into_iter().enumerate() {
        progress(windows.len() + index, all);
        rounder.round(group, rounder.sees.then(|| &grams[index]))?;
    }
    progress(all, all);
    Ok(network)
}

/// The linear layers, those together that read the same.
fn groups(network: &mut QuestionAnswering) -> Vec<Together<'_>> {
    let encoder = &mut network.encoder;
    let mapping = encoder.mapping.iter_mut();
    let mapping = mapping.map(|layer| Together {
        layers: vec![("encoder.mapping".to_string(), layer)],
    });
    let mut groups: Vec<Together<'_>> = mapping.collect();
    for (index, layer) in encoder.layers.iter_mut().enumerate() {
        let together = |layers: Vec<(&str, _)>| {
            let named = layers.into_iter();
            let named: Vec<(String, &mut Linear)> = named
                .map(|(path, layer)| (format!("encoder.layers.{index}.{path}"), layer))
                .collect();
            Together { layers: named }
        };
        groups.push(together(vec![
            ("query", &mut layer.query),
            ("key", &mut layer.key),
            ("value", &mut layer.value),
        ]));
        groups.push(together(vec![("dense", &mut layer.dense)]));
        groups.push(together(vec![("up", &mut layer.up)]));
        groups.push(together(vec![("down", &mut layer.down)]));
    }
    groups
}
