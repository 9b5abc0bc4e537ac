//! Decoders, layer by layer: each reads what those before it make of rounded weights.

use burn::tensor::{Int, Tensor};
use lowbit::models::transformer::Seen;
use lowbit::nn::Linear;
use lowbit::quantizers::Taps;
use lowbit::repair::Gram;

use super::rounding::{Rounder, Together, add, change, inputs};
use crate::Error;
use crate::models::{DecoderConfig, DecoderLayer, FeedForward, LanguageModel, Norm};

/// The linear layers of a layer that read the same, by their paths in it.
struct Group {
    paths: &'static [&'static str],
    /// What makes what they read, so that it can be divided.
    before: Before,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    AttentionNorm,
    /// The rows of values, one for each feature of a head that asks.
    Values,
    Norm,
    /// The rows of what is multiplied by the gate.
    Up,
    /// Something that is not linear.
    Other,
}

impl Group {
    const fn new(paths: &'static [&'static str], before: Before) -> Self {
        Self { paths, before }
    }

    fn all(sizes: &DecoderConfig, ff: &FeedForward) -> Vec<Self> {
        let values = match sizes.n_heads == sizes.n_heads_kv {
            true => Before::Values,
            false => Before::Other,
        };
        let [up, down]: [&'static [&'static str]; 2] = match ff {
            FeedForward::Plain(_) => [&["ff.Plain.up"], &["ff.Plain.down"]],
            FeedForward::Gated(_) => [&["ff.Gated.gate", "ff.Gated.up"], &["ff.Gated.down"]],
        };
        let of_down = match ff {
            FeedForward::Plain(_) => Before::Other,
            FeedForward::Gated(_) => Before::Up,
        };
        vec![
            Self::new(&["query", "key", "value"], Before::AttentionNorm),
            Self::new(&["dense"], values),
            Self::new(up, Before::Norm),
            Self::new(down, of_down),
        ]
    }
}

/// Rounds the weights of all layers.
pub(super) fn round(
    mut network: LanguageModel,
    sizes: &DecoderConfig,
    windows: &[Tensor<2, Int>],
    rounder: &mut Rounder<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<LanguageModel, Error> {
    let decoder = &mut network.decoder;
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        for (path, linear) in linears(layer) {
            let [columns, _] = linear.weight.val().dims();
            rounder.check(&format!("decoder.layers.{index}.{path}"), columns)?;
        }
    }
    let begun = windows
        .iter()
        .map(|window| decoder.begin(window.clone(), None, 0));
    let mut passing: Vec<(Tensor<3>, Seen)> = begun.collect();
    let count = decoder.layers.len();
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        progress(index, count);
        let groups = Group::all(sizes, &layer.ff);
        let mut grams = read(layer, &groups, &passing);
        if rounder.scales() {
            for (group, gram) in groups.iter().zip(&mut grams) {
                scale(layer, group, gram, rounder, index)?;
            }
        }
        for (at, group) in groups.iter().enumerate() {
            let gram = rounder.sees.then(|| &grams[at]);
            rounder.round(together(layer, group, index), gram)?;
        }
        // Nobody reads what the last one makes.
        let read = passing.iter_mut().filter(|_| index + 1 < count);
        for (x, seen) in read {
            *x = layer.forward(x.clone(), seen, &mut None);
        }
    }
    progress(count, count);
    Ok(network)
}

/// What each group reads.
fn read(layer: &mut DecoderLayer, groups: &[Group], passing: &[(Tensor<3>, Seen)]) -> Vec<Gram> {
    let first = |group: &Group| group.paths[0];
    let columns = groups.iter().map(|group| {
        let [columns, _] = linear_mut(layer, first(group)).weight.val().dims();
        // Sums of what nobody reads would only take room.
        if passing.is_empty() { 0 } else { columns }
    });
    let mut grams: Vec<Gram> = columns.map(Gram::new).collect();
    for (x, seen) in passing {
        let taps = Taps::attach(&*layer, inputs(groups.iter().map(first)));
        layer.forward(x.clone(), seen, &mut None);
        let of = |path: &str| groups.iter().position(|group| first(group) == path);
        add(taps.detach(), of, &mut grams);
    }
    grams
}

/// Multiplies the columns of a group's weights and divides what it reads, so that the network computes the same.
fn scale(
    layer: &mut DecoderLayer,
    group: &Group,
    gram: &mut Gram,
    rounder: &Rounder<'_>,
    index: usize,
) -> Result<(), Error> {
    if group.before == Before::Other {
        return Ok(());
    }
    let factors = rounder.factors(&together(layer, group, index), gram)?;
    *gram = gram.divided(&factors);
    for path in group.paths {
        let weight = &mut linear_mut(layer, path).weight;
        let device = weight.val().device();
        let factors = Tensor::<1>::from_floats(&factors[..], &device).unsqueeze_dim::<2>(1);
        change(weight, |weight| weight * factors);
    }
    let device = layer.dense.weight.val().device();
    let factors = Tensor::<1>::from_floats(&factors[..], &device);
    let divide = Divide {
        factors,
        rounder,
        path: format!("decoder.layers.{index}"),
    };
    match group.before {
        Before::AttentionNorm => divide.norm("attention_norm", &mut layer.attention_norm),
        Before::Norm => divide.norm("norm", &mut layer.norm),
        Before::Values => divide.rows("value", &mut layer.value),
        Before::Up => divide.rows("ff.Gated.up", linear_mut(layer, "ff.Gated.up")),
        Before::Other => {}
    }
    Ok(())
}

/// What parts of a layer are divided by.
struct Divide<'a> {
    factors: Tensor<1>,
    rounder: &'a Rounder<'a>,
    path: String,
}

impl Divide<'_> {
    fn norm(&self, name: &str, norm: &mut Norm) {
        let (kind, gamma, beta) = match norm {
            Norm::LayerNorm(norm) => ("LayerNorm", &mut norm.gamma, norm.beta.as_mut()),
            Norm::RmsNorm(norm) => ("RmsNorm", &mut norm.gamma, None),
        };
        let path = format!("{}.{name}.{kind}", self.path);
        let both = [("gamma", Some(gamma)), ("beta", beta)];
        for (field, param) in both.into_iter().filter_map(|(f, param)| Some((f, param?))) {
            let factors = self.factors.clone();
            change(param, |x| self.rounder.written(&path, field, x / factors));
        }
    }

    /// What a linear layer makes. Its weight is rounded later.
    fn rows(&self, name: &str, layer: &mut Linear) {
        let columns = self.factors.clone().unsqueeze_dim::<2>(0);
        change(&mut layer.weight, |weight| weight / columns);
        if let Some(bias) = &mut layer.bias {
            let (factors, path) = (self.factors.clone(), format!("{}.{name}", self.path));
            change(bias, |bias| {
                self.rounder.written(&path, "bias", bias / factors)
            });
        }
    }
}

fn together<'a>(layer: &'a mut DecoderLayer, group: &Group, index: usize) -> Together<'a> {
    let all = linears(layer).into_iter();
    let own = all.filter(|(path, _)| group.paths.contains(path));
    let named = own.map(|(path, layer)| (format!("decoder.layers.{index}.{path}"), layer));
    Together {
        layers: named.collect(),
    }
}

/// The linear layers of a layer, with their paths in it.
fn linears(layer: &mut DecoderLayer) -> Vec<(&'static str, &mut Linear)> {
    let mut all = vec![
        ("query", &mut layer.query),
        ("key", &mut layer.key),
        ("value", &mut layer.value),
        ("dense", &mut layer.dense),
    ];
    match &mut layer.ff {
        FeedForward::Plain(ff) => {
            all.push(("ff.Plain.up", &mut ff.up));
            all.push(("ff.Plain.down", &mut ff.down));
        }
        FeedForward::Gated(ff) => {
            all.push(("ff.Gated.gate", &mut ff.gate));
            all.push(("ff.Gated.up", &mut ff.up));
            all.push(("ff.Gated.down", &mut ff.down));
        }
    }
    all
}

fn linear_mut<'a>(layer: &'a mut DecoderLayer, path: &str) -> &'a mut Linear {
    let found = linears(layer).into_iter().find(|(own, _)| *own == path);
    found.expect("a group's path is a layer's").1
}
