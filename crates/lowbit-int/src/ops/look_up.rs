//! Functions of one integer, as tables.

use serde::{Deserialize, Serialize};

use super::{Operation, Values, one};
use crate::numbers::Numbers;
use crate::tensor::{Interval, Residue, Tensor, for_each_known};

/// `table[x - least]`, with `least` the least integer of the input's width: sigmoid, tanh, GELU, or
/// any function of one number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookUp {
    /// An output for each integer of the input's width, the least first: `2^bits` of them, for at
    /// most 16 bits.
    pub table: Vec<i64>,
    /// What the outputs stand for, of at most 32 bits.
    pub numbers: Numbers,
}

impl LookUp {
    /// The table of a function of real numbers: for each integer of `input` the integer of `output`
    /// nearest to the function's value, ties to the even integer, limited to the output's width.
    /// NaN becomes the output's zero.
    ///
    /// # Errors
    ///
    /// If the input has more than 16 bits.
    pub fn of(input: Numbers, output: Numbers, f: impl Fn(f64) -> f64) -> Result<Self, String> {
        check_bits(input.bits())?;
        let table = (input.least()..=input.greatest()).map(|k| {
            let y = (f(input.real(k)) / output.scale()).round_ties_even();
            // A NaN becomes 0, and what is beyond i64 its ends.
            let k = (y as i64).saturating_add(output.zero_point());
            k.clamp(output.least(), output.greatest())
        });
        Ok(Self {
            table: table.collect(),
            numbers: output,
        })
    }
}

fn check_bits(bits: u32) -> Result<(), String> {
    if bits > 16 {
        return Err(format!(
            "bits is {bits}, expected 1 to 16 of a table's input"
        ));
    }
    Ok(())
}

impl Operation for LookUp {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        let bits = input.numbers.bits();
        check_bits(bits)?;
        if self.numbers.bits() > 32 {
            return Err(format!("bits is {}, expected 1 to 32", self.numbers.bits()));
        }
        if self.table.len() != 1 << bits {
            let count = self.table.len();
            return Err(format!(
                "a table of {count} for {bits} bits, expected {}",
                1 << bits
            ));
        }
        let (low, high) = (self.numbers.least(), self.numbers.greatest());
        if let Some(value) = self.table.iter().find(|v| !(low..=high).contains(v)) {
            return Err(format!("the table has {value}, expected {low} to {high}"));
        }
        let least = input.numbers.least();
        let entries = |interval: &Interval| {
            &self.table[(interval.least - least) as usize..=(interval.greatest - least) as usize]
        };
        let interval = |known: &Interval| {
            let values = entries(known).iter().map(|&v| Interval {
                least: v,
                greatest: v,
            });
            values
                .reduce(Interval::union)
                .expect("an interval has a number")
        };
        let intervals = for_each_known(&input.intervals, interval);
        let residues = vec![Residue::ANY; input.shape[0]];
        Tensor::new(input.shape.clone(), self.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], _output: &Tensor) -> Vec<i64> {
        let least = inputs[0].tensor.numbers.least();
        let values = inputs[0].values.iter();
        values.map(|x| self.table[(x - least) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sigmoid(0) = 0.5 is 128 of 256, sigmoid(-8) = 0.000335 is 0, sigmoid(7.9375) = 0.99964 is 256
    /// and limited to 255.
    #[test]
    fn sigmoid_by_hand() {
        let input = Numbers::power_of_two(8, true, -4).unwrap();
        let output = Numbers::power_of_two(8, false, -8).unwrap();
        let table = LookUp::of(input, output, |x| 1.0 / (1.0 + (-x).exp()))
            .unwrap()
            .table;
        assert_eq!([table[0], table[128], table[255]], [0, 128, 255]);
        let none = LookUp::of(input, output, |_| f64::NAN).unwrap();
        assert_eq!(none.table, [0; 256]);
    }
}
