//! Which widths a network should have for a budget.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::layer::LayerAnalysis;
use super::prediction::{Prediction, WIDTHS};
use crate::Error;
use crate::config::{QPlan, Widths};
use crate::quantizers::Slot;
use crate::train::Tested;

/// What widths may take, as text: `bits=4`, `bytes=60000`, `bitops=5e8`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Budget {
    /// Bits of a weight on average over all weights, and of an input over all inputs.
    Bits(f64),
    /// Bytes of all weights; inputs have 8 bits.
    Bytes(f64),
    /// Products of an image, each times the bits of its weight and of its input.
    BitOperations(f64),
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "bits={bits}"),
            Self::Bytes(bytes) => write!(f, "bytes={bytes}"),
            Self::BitOperations(count) => write!(f, "bitops={count}"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            let message =
                format!("is `{text}`, expected such as bits=4, bytes=60000 or bitops=5e8");
            Error::config("budget", message)
        };
        let (kind, number) = text.split_once('=').ok_or_else(refused)?;
        let number: f64 = number.trim().parse().map_err(|_| refused())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(refused());
        }
        match kind.trim() {
            "bits" => Ok(Self::Bits(number)),
            "bytes" => Ok(Self::Bytes(number)),
            "bitops" => Ok(Self::BitOperations(number)),
            _ => Err(refused()),
        }
    }
}

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

/// Widths that fit a budget, with the least loss that is predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuggestedWidths {
    /// What they may take.
    pub budget: Budget,
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
    /// The loss that they are predicted to add to that of the float network, in nats.
    pub predicted_loss: f64,
    /// The accuracy that is predicted: that of the float network, less the predicted loss times what
    /// accuracy fell by for each nat with single layers quantized.
    pub predicted_accuracy: f64,
    /// The network calibrated with these widths and not trained, on the same images.
    pub measured: Option<Tested>,
    /// The same with one width everywhere that takes no more.
    pub uniform: Option<UniformWidths>,
    /// The plan.
    pub plan: QPlan,
}

/// One width for all weights and inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UniformWidths {
    /// The bits.
    pub bits: u32,
    /// The loss that they are predicted to add.
    pub predicted_loss: f64,
    /// The network calibrated with them and not trained.
    pub measured: Option<Tested>,
}

/// A choice for one tensor or layer: what it takes, and the loss that it adds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    cost: f64,
    loss: f64,
    weight: u32,
    input: u32,
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

/// One choice for each item, whose costs together are within the budget, with a small loss: that of a
/// price of the cost (Lagrange), and then what still fits. `None` if the least cost does not fit.
fn choose(items: &[Vec<Choice>], budget: f64) -> Option<Vec<Choice>> {
    let at = |price: f64| -> Vec<Choice> {
        let value = |choice: &Choice| choice.loss + price * choice.cost;
        let best = |choices: &Vec<Choice>| {
            let least = choices.iter().min_by(|a, b| value(a).total_cmp(&value(b)));
            least.copied()
        };
        items.iter().filter_map(best).collect()
    };
    let cost = |chosen: &[Choice]| chosen.iter().map(|choice| choice.cost).sum::<f64>();
    let cheapest = |choices: &Vec<Choice>| {
        choices
            .iter()
            .min_by(|a, b| a.cost.total_cmp(&b.cost))
            .copied()
    };
    let mut chosen: Vec<Choice> = items.iter().filter_map(cheapest).collect();
    let budget = budget * (1.0 + 1e-9);
    if cost(&chosen) > budget {
        return None;
    }
    let (mut low, mut high) = (-80.0f64, 40.0f64);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        let tried = at(middle.exp2());
        match cost(&tried) <= budget {
            true => (chosen, high) = (tried, middle),
            false => low = middle,
        }
    }
    while let Some((item, choice)) = upgrade(items, &chosen, budget - cost(&chosen)) {
        chosen[item] = choice;
    }
    Some(chosen)
}

/// The change that takes most loss off for what it takes, and fits.
fn upgrade(items: &[Vec<Choice>], chosen: &[Choice], left: f64) -> Option<(usize, Choice)> {
    let options = items.iter().zip(chosen).enumerate();
    let options = options.flat_map(|(item, (choices, now))| {
        let better = choices
            .iter()
            .filter(move |choice| choice.loss < now.loss && choice.cost - now.cost <= left);
        better.map(move |choice| {
            let more = (choice.cost - now.cost).max(f64::MIN_POSITIVE);
            ((now.loss - choice.loss) / more, item, *choice)
        })
    });
    let best = options.max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, item, choice)| (item, choice))
}

/// The widths of every layer with a weight for a budget, in their order, with what they come to.
///
/// # Errors
/// If the least widths do not fit the budget, or nothing is predicted.
pub(super) fn suggest(
    layers: &[LayerAnalysis],
    budget: Budget,
    base: &QPlan,
    (float, per_nat): (Tested, f64),
) -> Result<SuggestedWidths, Error> {
    let items = candidates(layers);
    if items.is_empty() {
        return Err(Error::config(
            "budget",
            "no layer has a weight and an input to quantize",
        ));
    }
    let too_small = || {
        let least = WIDTHS[0];
        let message = format!("is {budget}, less than what {least} bits everywhere take");
        Error::config("budget", message)
    };
    let all = |of: fn(&Candidate<'_>) -> f64| items.iter().map(of).sum::<f64>();
    let (weights, inputs) = (all(|c| c.weights), all(|c| c.inputs));
    let each =
        |of: &dyn Fn(&Candidate<'_>) -> Vec<Choice>| items.iter().map(of).collect::<Vec<_>>();
    let widths: Vec<(u32, u32)> = match budget {
        Budget::Bits(bits) => {
            let of_weights = choose(&each(&|c| c.weight_choices(1.0)), bits * weights);
            let of_inputs = choose(&each(&|c| c.input_choices()), bits * inputs);
            let pairs = of_weights.ok_or_else(too_small)?.into_iter();
            let pairs = pairs.zip(of_inputs.ok_or_else(too_small)?);
            pairs.map(|(w, i)| (w.weight, i.input)).collect()
        }
        Budget::Bytes(bytes) => {
            let chosen = choose(&each(&|c| c.weight_choices(0.125)), bytes);
            chosen
                .ok_or_else(too_small)?
                .iter()
                .map(|c| (c.weight, c.input))
                .collect()
        }
        Budget::BitOperations(count) => {
            let chosen = choose(&each(&|c| c.pairs()), count);
            chosen
                .ok_or_else(too_small)?
                .iter()
                .map(|c| (c.weight, c.input))
                .collect()
        }
    };
    let sum = |of: &dyn Fn(&Candidate<'_>, (u32, u32)) -> f64| {
        items
            .iter()
            .zip(&widths)
            .map(|(item, &pair)| of(item, pair))
            .sum::<f64>()
    };
    let predicted_loss = sum(&|item, (weight, input)| item.loss(weight, input));
    let weight_bits = sum(&|item, (weight, _)| f64::from(weight) * item.weights);
    let layers: Vec<LayerWidth> = items
        .iter()
        .zip(&widths)
        .map(|(item, &(weight, input))| LayerWidth {
            path: item.layer.path.clone(),
            weight,
            input,
        })
        .collect();
    let bit_operations = sum(&|item, (w, i)| item.layer.operations as f64 * f64::from(w * i));
    Ok(SuggestedWidths {
        budget,
        weight_bits: weight_bits / weights,
        input_bits: sum(&|item, (_, input)| f64::from(input) * item.inputs) / inputs,
        bytes: weight_bits / 8.0,
        bit_operations,
        predicted_loss,
        predicted_accuracy: (float.accuracy - per_nat * predicted_loss).clamp(0.0, 1.0),
        measured: None,
        uniform: uniform(&items, budget),
        plan: with_widths(base, &layers),
        layers,
    })
}

/// The largest width that all weights and inputs can have.
fn uniform(items: &[Candidate<'_>], budget: Budget) -> Option<UniformWidths> {
    let fits = |bits: u32| {
        let sum = |of: fn(&Candidate<'_>) -> f64| items.iter().map(of).sum::<f64>();
        let width = f64::from(bits);
        match budget {
            Budget::Bits(most) => width <= most,
            Budget::Bytes(most) => width * sum(|c| c.weights) / 8.0 <= most,
            Budget::BitOperations(most) => {
                width * width * sum(|c| c.layer.operations as f64) <= most
            }
        }
    };
    let bits = WIDTHS.into_iter().filter(|&bits| fits(bits)).max()?;
    let input = if matches!(budget, Budget::Bytes(_)) {
        8
    } else {
        bits
    };
    Some(UniformWidths {
        bits,
        predicted_loss: items.iter().map(|item| item.loss(bits, input)).sum(),
        measured: None,
    })
}

/// A plan with these widths for weight and input of each layer.
pub(super) fn with_widths(base: &QPlan, layers: &[LayerWidth]) -> QPlan {
    let widths = layers.iter().map(|layer| {
        Widths::of_path(layer.path.as_str())
            .with(Slot::WEIGHT, layer.weight)
            .with(Slot::INPUT, layer.input)
    });
    QPlan {
        widths: widths.collect(),
        layer_widths: Vec::new(),
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(cost: f64, loss: f64) -> Choice {
        Choice {
            cost,
            loss,
            weight: 0,
            input: 0,
        }
    }

    /// Two items of costs 1, 2, 3: the first loses much with 1, the second little. Within 4, 3 and 1
    /// lose 0.1 + 0.2; 2 and 2 lose 1.1; 1 and 3 lose 10.
    #[test]
    fn what_matters_gets_the_bits() {
        let items = [
            vec![choice(1.0, 10.0), choice(2.0, 1.0), choice(3.0, 0.1)],
            vec![choice(1.0, 0.2), choice(2.0, 0.1), choice(3.0, 0.0)],
        ];
        let cost = |budget| {
            let chosen = choose(&items, budget).unwrap();
            chosen.iter().map(|c| c.cost).collect::<Vec<_>>()
        };
        assert_eq!(cost(4.0), [3.0, 1.0]);
        assert_eq!(cost(2.0), [1.0, 1.0]);
        assert_eq!(cost(100.0), [3.0, 3.0]);
        assert_eq!(choose(&items, 1.0), None);
    }

    #[test]
    fn budgets_are_texts() {
        for text in ["bits=4", "bytes=60000", "bitops=500000000"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        for text in ["4", "bits", "bits=0", "bits=x", "watts=3"] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.starts_with("budget: is `"), "{error}");
        }
    }
}
