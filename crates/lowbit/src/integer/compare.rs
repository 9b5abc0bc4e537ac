//! A network of integers beside the simulation that it was made of.

use std::fmt;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
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

    /// Of the results of a batch alone.
    fn of(simulated: &TensorData, integers: &TensorData, batch: usize) -> Self {
        let numbers = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let (simulated, integers) = (numbers(simulated), numbers(integers));
        let each = (simulated.len() / batch.max(1)).max(1);
        let items = simulated.chunks(each).zip(integers.chunks(each));
        // Minus zero is zero.
        let different = items.filter(|(a, b)| a != b).count();
        Self {
            items: batch as u64,
            different: different as u64,
            tensors: Vec::new(),
        }
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
        Ok(Comparison::of(&simulated, &integers, input.batch()))
    }

    /// The same, and compares the integers in every slot. The forward runs once more for these, since
    /// layers that are one pass are several for those who watch.
    ///
    /// # Errors
    /// As [`compare`](Self::compare).
    pub fn compare_tensors<M: Module, I: ModelInput, const O: usize>(
        &self,
        model: &M,
        input: &I,
        forward: impl Fn(&M, I) -> Tensor<O>,
    ) -> Result<Comparison, Error> {
        let simulated = forward(model, input.clone()).into_data();
        let taps = Taps::attach(model, Selection::all());
        forward(model, input.clone());
        let seen = taps.detach();
        let watching = self.watching();
        let given = self.integers(input.clone())?;
        let given: Vec<&[i64]> = given.iter().map(Vec::as_slice).collect();
        let made = watching.run(&given);
        let made = made.map_err(|error| Error::capture("integers", error.to_string()))?;
        let result = self.result(&made[0], input.batch());
        let mut comparison = Comparison::of(&simulated, &result, input.batch());
        let outputs = watching.graph().outputs();
        for (place, tensor) in &self.places {
            let at = outputs.iter().position(|output| output == tensor);
            let integers = &made[at.expect("every place is watched")];
            let numbers = self.graph().tensor(*tensor).numbers();
            let tapped = seen.iter().filter(|t| t.place == *place);
            // A layer that is used twice has two tensors in a slot; one of them is this one.
            let best = tapped.map(|t| differences(t, integers, numbers)).min();
            if let Some(different) = best {
                comparison.tensors.push(TensorComparison {
                    place: place.to_string(),
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
