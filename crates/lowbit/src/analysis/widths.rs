//! Which widths a network should have for a budget.

use serde::Serialize;

use super::budget::{Budget, Sizes, no_layer, too_small};
use super::choose::{Choice, choose};
use super::layer::LayerAnalysis;
use super::prediction::{Prediction, WIDTHS};
use crate::Error;
use crate::config::{QPlan, Widths};
use crate::quantizers::Slot;
use crate::train::Tested;

/// The widths of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerWidth {
    /// Its path.
    pub path: String,
    /// Bits of its weight.
    pub weight: u32,
    /// Bits of its input.
    pub input: u32,
}

/// Widths of every layer with a weight, and what they come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WidthPlan {
    /// The widths, layer by layer.
    pub layers: Vec<LayerWidth>,
    /// Bits of a weight on average.
    pub weight_bits: f64,
    /// Bits of an input on average.
    pub input_bits: f64,
    /// Bytes of all weights.
    pub bytes: f64,
    /// Products, each times both widths.
    pub bit_operations: f64,
    /// The loss that they are predicted to add to that of the network with its quantizers off, in nats.
    pub predicted_loss: f64,
    /// The accuracy that is predicted: that of the network with its quantizers off, less the predicted
    /// loss times what accuracy fell by for each nat with single layers quantized; none where no loss did.
    pub predicted_accuracy: Option<f64>,
    /// The network calibrated with these widths and not trained, on the same images.
    pub measured: Option<Tested>,
    /// The plan.
    pub plan: QPlan,
}

impl WidthPlan {
    /// The measured loss, infinite where it is none or no number.
    fn loss(&self) -> f64 {
        let loss = self.measured.map(|tested| tested.loss);
        loss.filter(|loss| !loss.is_nan()).unwrap_or(f64::INFINITY)
    }
}

/// How widths were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WidthKind {
    /// Each layer has its own, with the least loss that is predicted.
    Optimized,
    /// One for all weights, and one for all inputs.
    Uniform,
}

impl WidthKind {
    /// How the others were chosen.
    pub fn other(self) -> Self {
        match self {
            Self::Optimized => Self::Uniform,
            Self::Uniform => Self::Optimized,
        }
    }
}

/// Of widths that fit a budget, optimized and uniform ones, those with less measured loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuggestedWidths {
    /// What they may take.
    pub budget: Budget,
    /// Which they are.
    pub kind: WidthKind,
    /// The better ones.
    #[serde(flatten)]
    pub best: WidthPlan,
    /// The others, where they differ.
    pub other: Option<WidthPlan>,
}

/// A layer with a weight, with the predicted losses of every width.
struct Candidate<'a> {
    layer: &'a LayerAnalysis,
    weights: f64,
    inputs: f64,
    weight: Vec<(u32, f64)>,
    input: Vec<(u32, f64)>,
}

fn candidates(layers: &[LayerAnalysis]) -> Vec<Candidate<'_>> {
    let of_layer = |layer: &'_ LayerAnalysis| -> Option<(f64, f64, Vec<_>, Vec<_>)> {
        let numbers = |slot: &str| {
            let tensor = layer.tensor(slot)?;
            Some(tensor.shape.iter().product::<usize>() as f64)
        };
        let losses = |slot: &str| losses(layer.prediction(slot)?);
        Some((
            numbers(Slot::WEIGHT)?,
            numbers(Slot::INPUT)?,
            losses(Slot::WEIGHT)?,
            losses(Slot::INPUT)?,
        ))
    };
    let found = layers.iter().filter_map(|layer| {
        let (weights, inputs, weight, input) = of_layer(layer)?;
        Some(Candidate {
            layer,
            weights,
            inputs,
            weight,
            input,
        })
    });
    found.collect()
}

/// The predicted losses of integers of every width, none above that of a smaller width.
fn losses(prediction: &Prediction) -> Option<Vec<(u32, f64)>> {
    let mut least = f64::INFINITY;
    let found = WIDTHS.iter().map(|&bits| {
        let name = format!("int{bits}");
        let (_, loss) = prediction
            .formats
            .iter()
            .find(|(known, _)| *known == name)?;
        least = least.min(*loss);
        Some((bits, least))
    });
    found.collect()
}

impl Candidate<'_> {
    fn weight_choices(&self, cost_of_bit: f64) -> Vec<Choice> {
        let choice = |&(bits, loss): &(u32, f64)| Choice {
            cost: f64::from(bits) * self.weights * cost_of_bit,
            loss,
            weight: bits,
            input: 8,
        };
        self.weight.iter().map(choice).collect()
    }

    fn input_choices(&self) -> Vec<Choice> {
        let choice = |&(bits, loss): &(u32, f64)| Choice {
            cost: f64::from(bits) * self.inputs,
            loss,
            weight: 8,
            input: bits,
        };
        self.input.iter().map(choice).collect()
    }

    fn pairs(&self) -> Vec<Choice> {
        let operations = self.layer.operations as f64;
        let pair = |&(weight, of_weight): &(u32, f64), &(input, of_input): &(u32, f64)| Choice {
            cost: operations * f64::from(weight * input),
            loss: of_weight + of_input,
            weight,
            input,
        };
        let weights = self.weight.iter();
        weights
            .flat_map(|weight| self.input.iter().map(move |input| pair(weight, input)))
            .collect()
    }

    fn loss(&self, weight: u32, input: u32) -> f64 {
        let of = |losses: &[(u32, f64)], bits: u32| {
            losses
                .iter()
                .find(|known| known.0 == bits)
                .map_or(0.0, |known| known.1)
        };
        of(&self.weight, weight) + of(&self.input, input)
    }
}

/// Bits of weight and input of each layer.
type Pairs = Vec<(u32, u32)>;

/// The better of optimized and of uniform widths for a budget, as `measure` finds their plans. `off`
/// has its quantizers off, and `per_nat` is what accuracy falls by for each nat of loss.
///
/// # Errors
/// If the least widths do not fit the budget, nothing is predicted, or a plan cannot be measured.
pub(super) fn suggest(
    layers: &[LayerAnalysis],
    budget: Budget,
    base: &QPlan,
    (off, per_nat): (Tested, Option<f64>),
    mut measure: impl FnMut(&QPlan) -> Result<Tested, Error>,
) -> Result<SuggestedWidths, Error> {
    let items = candidates(layers);
    if items.is_empty() {
        return Err(no_layer());
    }
    let mut measured = |pairs: &Pairs| {
        let found = described(&items, pairs, base, (off, per_nat));
        let tested = measure(&found.plan)?;
        Ok::<_, Error>(WidthPlan {
            measured: Some(tested),
            ..found
        })
    };
    let own = optimized(&items, budget)?;
    let same = uniform(&items, budget).filter(|same| *same != own);
    let optimized = measured(&own)?;
    let uniform = same.as_ref().map(&mut measured).transpose()?;
    let is_uniform = own.iter().all(|pair| *pair == own[0]);
    let (kind, best, other) = match uniform {
        Some(uniform) if uniform.loss() < optimized.loss() => {
            (WidthKind::Uniform, uniform, Some(optimized))
        }
        None if is_uniform => (WidthKind::Uniform, optimized, None),
        uniform => (WidthKind::Optimized, optimized, uniform),
    };
    Ok(SuggestedWidths {
        budget,
        kind,
        best,
        other,
    })
}

/// The widths with the least predicted loss.
fn optimized(items: &[Candidate<'_>], budget: Budget) -> Result<Pairs, Error> {
    let all = |of: fn(&Candidate<'_>) -> f64| items.iter().map(of).sum::<f64>();
    let each = |of: &dyn Fn(&Candidate<'_>) -> Vec<Choice>| {
        let choices: Vec<Vec<Choice>> = items.iter().map(of).collect();
        choices
    };
    let pairs = |chosen: Vec<Choice>| chosen.iter().map(|c| (c.weight, c.input)).collect();
    let found: Option<Pairs> = match budget {
        Budget::Bits(bits) => {
            let weights = choose(&each(&|c| c.weight_choices(1.0)), bits * all(|c| c.weights));
            let inputs = choose(&each(&|c| c.input_choices()), bits * all(|c| c.inputs));
            weights.zip(inputs).map(|(weights, inputs)| {
                let both = weights.iter().zip(&inputs);
                both.map(|(w, i)| (w.weight, i.input)).collect()
            })
        }
        Budget::Bytes(bytes) => choose(&each(&|c| c.weight_choices(0.125)), bytes).map(pairs),
        Budget::BitOperations(count) => choose(&each(&|c| c.pairs()), count).map(pairs),
    };
    found.ok_or_else(|| too_small(budget))
}

/// The largest width that all weights and inputs can have; with a budget of bytes, inputs have 8 bits.
fn uniform(items: &[Candidate<'_>], budget: Budget) -> Option<Pairs> {
    let sum = |of: fn(&Candidate<'_>) -> f64| items.iter().map(of).sum::<f64>();
    let sizes = Sizes {
        weights: sum(|c| c.weights),
        operations: sum(|c| c.layer.operations as f64),
    };
    let fitting = WIDTHS.into_iter().filter(|&bits| sizes.fit(bits, budget));
    let bits = fitting.max()?;
    let input = match budget {
        Budget::Bytes(_) => 8,
        _ => bits,
    };
    Some(vec![(bits, input); items.len()])
}

/// What widths of the layers come to, not measured.
fn described(
    items: &[Candidate<'_>],
    pairs: &Pairs,
    base: &QPlan,
    (off, per_nat): (Tested, Option<f64>),
) -> WidthPlan {
    let each = || items.iter().zip(pairs.iter().copied());
    let sum = |of: &dyn Fn(&Candidate<'_>, (u32, u32)) -> f64| {
        each().map(|(item, pair)| of(item, pair)).sum::<f64>()
    };
    let layers: Vec<LayerWidth> = each()
        .map(|(item, (weight, input))| LayerWidth {
            path: item.layer.path.clone(),
            weight,
            input,
        })
        .collect();
    let weight_bits = sum(&|item, (weight, _)| f64::from(weight) * item.weights);
    let input_bits = sum(&|item, (_, input)| f64::from(input) * item.inputs);
    let predicted_loss = sum(&|item, (weight, input)| item.loss(weight, input));
    WidthPlan {
        weight_bits: weight_bits / sum(&|item, _| item.weights),
        input_bits: input_bits / sum(&|item, _| item.inputs),
        bytes: weight_bits / 8.0,
        bit_operations: sum(&|item, (w, i)| item.layer.operations as f64 * f64::from(w * i)),
        predicted_loss,
        predicted_accuracy: per_nat
            .map(|per_nat| (off.accuracy - per_nat * predicted_loss).clamp(0.0, 1.0)),
        measured: None,
        plan: with_widths(base, &layers),
        layers,
    }
}

/// A plan with these widths for weight and input of each layer, behind those that it has, since the last
/// that matches a layer counts.
fn with_widths(base: &QPlan, layers: &[LayerWidth]) -> QPlan {
    let own = layers.iter().map(|layer| {
        Widths::of_path(layer.path.as_str())
            .with(Slot::WEIGHT, layer.weight)
            .with(Slot::INPUT, layer.input)
    });
    QPlan {
        widths: base.widths.iter().cloned().chain(own).collect(),
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::tensor::{TensorAnalysis, TensorCounts};
    use crate::quantizers::Place;

    const FLOAT: Tested = Tested {
        loss: 0.0,
        accuracy: 1.0,
    };

    /// A layer of ten weights, `inputs` inputs and 40 products, whose weights lose `of_weight / b^2` in
    /// `b` bits and whose inputs a hundredth of that.
    fn layer(path: &str, inputs: usize, of_weight: f64) -> LayerAnalysis {
        let tensor = |slot: &str, numbers: usize| {
            let place = Place {
                layer: path.into(),
                layer_type: "Linear".into(),
                slot: slot.into(),
            };
            TensorAnalysis {
                shape: vec![numbers],
                ..TensorCounts::new(place, slot == Slot::WEIGHT, 0, None).finish()
            }
        };
        let prediction = |slot: &str, loss: f64| Prediction {
            path: format!("{path}.{slot}"),
            now: None,
            refit: None,
            formats: WIDTHS
                .map(|bits| (format!("int{bits}"), loss / f64::from(bits).powi(2)))
                .into(),
        };
        LayerAnalysis {
            path: path.into(),
            layer_type: "Linear".into(),
            reads: Vec::new(),
            shape: vec![4],
            weight_bits: None,
            input_bits: None,
            parameters: 10,
            bits: 320,
            operations: 40,
            bit_operations: 40 * 32 * 32,
            accumulator: None,
            tensors: vec![tensor(Slot::WEIGHT, 10), tensor(Slot::INPUT, inputs)],
            measured: None,
            predicted: vec![
                prediction(Slot::WEIGHT, of_weight),
                prediction(Slot::INPUT, 0.01 * of_weight),
            ],
        }
    }

    /// Of 20 weights in all: 10 bytes are 80 bits, 4 of each; 40 products in each layer and 16 times 80
    /// bit operations are 4 by 4 bits.
    #[test]
    fn uniform_widths_by_hand() {
        let layers = [layer("a", 1, 1.0), layer("b", 3, 100.0)];
        let items = candidates(&layers);
        let found = |budget| uniform(&items, budget);
        assert_eq!(found(Budget::Bits(4.5)), Some(vec![(4, 4); 2]));
        assert_eq!(found(Budget::Bytes(10.0)), Some(vec![(4, 8); 2]));
        assert_eq!(
            found(Budget::BitOperations(16.0 * 80.0)),
            Some(vec![(4, 4); 2])
        );
        assert_eq!(found(Budget::Bits(1.9)), None);
        let came = described(
            &items,
            &vec![(4, 8), (2, 4)],
            &QPlan::float(),
            (FLOAT, None),
        );
        // (10 * 4 + 10 * 2) / 20 bits of a weight, (8 + 3 * 4) / 4 of an input.
        assert_eq!((came.weight_bits, came.input_bits), (3.0, 5.0));
        assert_eq!((came.bytes, came.bit_operations), (7.5, 1600.0));
        let loss = 1.0 / 16.0 + 0.01 / 64.0 + 100.0 / 4.0 + 1.0 / 16.0;
        assert!((came.predicted_loss - loss).abs() < 1e-12);
    }

    /// The second layer loses a hundred times more, so that it gets more bits than the first.
    #[test]
    fn the_better_measured_plan_is_suggested() {
        let layers = [layer("a", 1, 1.0), layer("b", 3, 100.0)];
        let suggested = |budget, of_uniform: f64, of_optimized: f64| {
            let measure = |plan: &QPlan| {
                let bits = |i: usize| plan.widths[i].bits.get(Slot::WEIGHT).copied();
                let loss = match bits(0) == bits(1) {
                    true => of_uniform,
                    false => of_optimized,
                };
                Ok(Tested {
                    loss,
                    accuracy: 0.5,
                })
            };
            let float = (FLOAT, None);
            suggest(&layers, budget, &QPlan::float(), float, measure).unwrap()
        };
        let bits = Budget::Bits(4.0);
        let widths = |plan: &WidthPlan| [plan.layers[0].weight, plan.layers[1].weight];
        for (of_uniform, of_optimized, kind) in [
            (0.1, 0.2, WidthKind::Uniform),
            (0.2, 0.1, WidthKind::Optimized),
            (0.2, f64::NAN, WidthKind::Uniform),
            (f64::NAN, 0.2, WidthKind::Optimized),
        ] {
            let found = suggested(bits, of_uniform, of_optimized);
            let other = found.other.unwrap();
            let (uniform, optimized) = match kind {
                WidthKind::Uniform => (&found.best, &other),
                WidthKind::Optimized => (&other, &found.best),
            };
            assert_eq!(found.kind, kind);
            assert_eq!(widths(uniform), [4, 4]);
            assert!(widths(optimized)[0] < widths(optimized)[1]);
            let loss = found.best.measured.unwrap().loss;
            assert_eq!(loss, of_uniform.min(of_optimized));
        }
        // All of 8 bits fit: both are the same, and that is measured once.
        let found = suggested(Budget::Bits(8.0), 0.1, 0.2);
        assert_eq!((found.kind, found.other), (WidthKind::Uniform, None));
        assert_eq!(widths(&found.best), [8, 8]);
        let measure = |_: &QPlan| unreachable!("nothing fits");
        let float = (FLOAT, None);
        let small = suggest(&layers, Budget::Bytes(4.9), &QPlan::float(), float, measure);
        assert_eq!(
            small.unwrap_err().to_string(),
            "budget: is bytes=4.9, less than what 2 bits everywhere take"
        );
    }

    #[test]
    fn a_plan_has_the_widths_of_each_layer() {
        let layers = ["a", "b"].map(|path| LayerWidth {
            path: path.into(),
            weight: 3,
            input: 5,
        });
        let of_sums = Widths::of_path("a").with(Slot::ACCUMULATOR, 24);
        let base = QPlan {
            widths: vec![of_sums.clone()],
            ..QPlan::tqt(8, 8)
        };
        let plan = with_widths(&base, &layers);
        let own = |path: &str| {
            Widths::of_path(path)
                .with(Slot::WEIGHT, 3)
                .with(Slot::INPUT, 5)
        };
        assert_eq!(plan.widths, [of_sums, own("a"), own("b")]);
        assert_eq!(plan.default, base.default);
    }
}
