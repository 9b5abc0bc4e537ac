//! A network of integers beside the simulation that it was made of.

use std::collections::HashMap;
use std::fmt;

use burn::module::Module;
use burn::tensor::Tensor;
use lowbit_int::Engine;
use serde::Serialize;

use super::network::IntegerNetwork;
use crate::Error;
use crate::capture::ModelInput;
use crate::quantizers::{Selection, Slot, Tapped, Taps};

/// How often a tensor's integers were those of the simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorComparison {
    /// The slot, such as `conv1.input`.
    pub place: String,
    /// Numbers compared.
    pub numbers: u64,
    /// Those that differ.
    pub different: u64,
}

/// What came out of running both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Items compared.
    pub items: u64,
    /// Items whose results are not the same bits.
    pub different: u64,
    /// Each slot, in the order of the forward.
    pub tensors: Vec<TensorComparison>,
}

impl Comparison {
    /// Whether everything was the same.
    pub fn is_equal(&self) -> bool {
        self.different == 0 && self.tensors.iter().all(|t| t.different == 0)
    }

    /// Adds another one, of other items.
    pub fn extend(&mut self, other: Self) {
        self.items += other.items;
        self.different += other.different;
        for tensor in other.tensors {
            match self.tensors.iter_mut().find(|t| t.place == tensor.place) {
                Some(known) => {
                    known.numbers += tensor.numbers;
                    known.different += tensor.different;
                }
                None => self.tensors.push(tensor),
            }
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            items, different, ..
        } = self;
        write!(
            f,
            "{different} of {items} results differ from the simulation"
        )?;
        let numbers: u64 = self.tensors.iter().map(|t| t.numbers).sum();
        let tensors = self.tensors.iter().filter(|t| t.different > 0).count();
        write!(
            f,
            ", {tensors} of {} tensors ({numbers} numbers)",
            self.tensors.len()
        )
    }
}

impl IntegerNetwork {
    /// Runs a batch in integers and in the simulation that this network was made of, and compares the
    /// results bit for bit.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    pub fn compare<M: Module, I: ModelInput, const O: usize>(
        &self,
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> Tensor<O>,
    ) -> Result<Comparison, Error> {
        let simulated = forward(model, input.clone()).into_data();
        let integers = self.run(input.clone())?;
        Ok(Comparison {
            items: input.batch() as u64,
            different: different_items(
                &simulated.try_to_vec(),
                &integers.try_to_vec(),
                input.batch(),
            ),
            tensors: Vec::new(),
        })
    }

    /// The same, and compares the integers in every slot.
    ///
    /// # Errors
    /// As [`compare`](Self::compare).
    pub fn compare_tensors<M: Module, I: ModelInput, const O: usize>(
        &self,
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> Tensor<O>,
    ) -> Result<Comparison, Error> {
        let mut comparison = self.compare(model, input, &forward)?;
        let taps = Taps::attach(model, Selection::all());
        forward(model, input.clone());
        let seen = taps.detach();
        let failed = |error: lowbit_int::GraphError| Error::capture("integers", error.to_string());
        let mut graph = self.graph().clone();
        let mut outputs = HashMap::new();
        for (_, tensor) in &self.places {
            if !graph.outputs().contains(tensor) && !graph.inputs().contains(tensor) {
                graph.output(*tensor).map_err(failed)?;
            }
        }
        let given = self.integers(input.clone())?;
        let given: Vec<&[i64]> = given.iter().map(Vec::as_slice).collect();
        outputs.extend(
            graph
                .inputs()
                .iter()
                .copied()
                .zip(given.iter().map(|g| g.to_vec())),
        );
        let ids = graph.outputs().to_vec();
        let made = Engine::new(graph).run(&given).map_err(failed)?;
        outputs.extend(ids.into_iter().zip(made));
        for (label, tensor) in &self.places {
            let place = label.to_string();
            let tapped = seen.iter().filter(|t| t.path() == place);
            let numbers = self.graph().tensor(*tensor).numbers();
            let integers = &outputs[tensor];
            // A layer that is used twice has two tensors in a slot; one of them is this one.
            let best = tapped.map(|t| differences(t, integers, numbers)).min();
            if let Some(different) = best {
                comparison.tensors.push(TensorComparison {
                    place,
                    numbers: integers.len() as u64,
                    different,
                });
            }
        }
        Ok(comparison)
    }
}

/// Numbers of a tapped tensor that are not those that integers stand for.
fn differences(tapped: &Tapped, integers: &[i64], numbers: lowbit_int::Numbers) -> u64 {
    let read = match tapped.place.slot == Slot::OUTPUT {
        true => &tapped.tensor,
        false => &tapped.read,
    };
    let simulated: Vec<f32> = read.iter::<f32>().collect();
    if simulated.len() != integers.len() {
        return integers.len() as u64;
    }
    let exact = numbers.exponent().is_some();
    let same = |(&s, &k): (&f32, &i64)| {
        let s = f64::from(s);
        if exact {
            return s == numbers.real(k);
        }
        (s / numbers.scale()).round() as i64 + numbers.zero_point() == k
    };
    let pairs = simulated.iter().zip(integers);
    pairs.filter(|pair| !same(*pair)).count() as u64
}

/// Items in which some number has other bits.
fn different_items<E>(
    simulated: &Result<Vec<f32>, E>,
    integers: &Result<Vec<f32>, E>,
    batch: usize,
) -> u64 {
    let (Ok(simulated), Ok(integers)) = (simulated, integers) else {
        return batch as u64;
    };
    let each = simulated.len() / batch.max(1);
    let items = simulated
        .chunks(each.max(1))
        .zip(integers.chunks(each.max(1)));
    // Minus zero is zero.
    let differs = |(a, b): &(&[f32], &[f32])| a.iter().zip(*b).any(|(a, b)| a != b);
    items.filter(differs).count() as u64
}
