//! Whether every tensor of a training step is the integers that it is said to be.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use lowbit_formats::{Format, Rounding};

use crate::Error;
use crate::config::Layer;
use crate::optim::OptimizerConfig;
use crate::quantizers::{Fans, ModulePath, Slot, StatedGrid, Tapped};

/// Bits of operands that are integers at all.
const OPERAND_BITS: u32 = 24;

/// Bits of two operands together whose products are summed in 32 bits, as the usual units do it; others
/// are in 64.
const NARROW_BITS: u32 = 17;

/// What is checked in every step of a run (`--check-integers`): that each tensor with a quantizer is on
/// its stated grid, forward as the operators read it and backward as it reaches them, that no sum of
/// their products can need more than 32 bits (64 where the operands have more than 8), and that the
/// weights are on the optimizer's grid after the step.
#[derive(Debug)]
pub(super) struct IntegerCheck {
    layers: BTreeMap<String, Layer>,
    /// The weights' grid after a step, where the optimizer has one.
    weights: Option<Format>,
}

impl IntegerCheck {
    /// The check of a network of these layers.
    ///
    /// # Errors
    /// If a quantizer states no grid of integers.
    pub(super) fn new(layers: &[Layer], optimizer: &OptimizerConfig) -> Result<Self, Error> {
        for layer in layers {
            for (slot, config) in layer.config.slots() {
                if config.stated_grid(Fans::NONE).is_none() {
                    let message = format!(
                        "check_integers: {} states no grid; formats of integers times a power of two, \
                         shift, constant, wage-weight and niti-weight do",
                        config.name()
                    );
                    return Err(Error::config(format!("{}.{slot}", layer.path), message));
                }
            }
        }
        let by_path = layers
            .iter()
            .map(|layer| (layer.path.clone(), layer.clone()));
        Ok(Self {
            layers: by_path.collect(),
            weights: optimizer.grid(),
        })
    }

    /// Checks what passed forward and backward in a step.
    ///
    /// # Errors
    /// With layer, slot and step of the first tensor that is not on its grid, or of the first sum that
    /// may not fit.
    pub(super) fn passes(&self, step: usize, seen: &[Tapped]) -> Result<(), Error> {
        for tapped in seen {
            let Some(layer) = self.layers.get(&tapped.place.layer) else {
                continue;
            };
            let slot = tapped.place.slot.as_str();
            let refused = |slot: &str, what: String| Error::NotInteger {
                place: format!("{}.{slot}", layer.path),
                step,
                what,
            };
            let found = check(layer, slot, &tapped.read);
            found.map_err(|what| refused(slot, what))?;
            let Some(gradient) = &tapped.gradient else {
                continue;
            };
            let of_gradient = match slot {
                Slot::OUTPUT => Slot::ERROR,
                _ if is_parameter(slot) => Slot::GRADIENT,
                _ => continue,
            };
            let found = check(layer, of_gradient, gradient);
            found.map_err(|what| refused(of_gradient, what))?;
        }
        self.sums(step, seen)
    }

    /// Checks the sums of the products of a step: forward, to the input and to the weight.
    fn sums(&self, step: usize, seen: &[Tapped]) -> Result<(), Error> {
        let find = |layer: &Layer, slot: &str| {
            let of_slot =
                |tapped: &&Tapped| tapped.place.layer == layer.path && tapped.place.slot == slot;
            seen.iter().find(of_slot)
        };
        let summing = self.layers.values().filter(|layer| {
            layer.description.sums.is_some() && layer.config.get(Slot::WEIGHT).is_some()
        });
        for layer in summing {
            let operands = [Slot::INPUT, Slot::WEIGHT].map(|slot| find(layer, slot));
            let [Some(input), Some(weight)] = operands else {
                continue;
            };
            let error = find(layer, Slot::OUTPUT).and_then(|output| output.gradient.as_ref());
            let products = Products {
                input: Integers::of(&input.read),
                weight: Integers::of(&weight.read),
                error: error.map(Integers::of),
                axis: layer.description.weight.map_or(0, |channels| channels.axis),
                goes_on: input.gradient.is_some(),
            };
            products.check().map_err(|what| Error::NotInteger {
                place: layer.path.clone(),
                step,
                what,
            })?;
        }
        Ok(())
    }

    /// Checks the weights after a step.
    ///
    /// # Errors
    /// With the path of the first that is not on the optimizer's grid.
    pub(super) fn weights<M: Module>(&self, step: usize, model: &M) -> Result<(), Error> {
        let Some(format) = &self.weights else {
            return Ok(());
        };
        let mut visitor = Weights {
            format,
            path: ModulePath::default(),
            found: None,
        };
        model.visit(&mut visitor);
        match visitor.found {
            Some((place, what)) => Err(Error::NotInteger { place, step, what }),
            None => Ok(()),
        }
    }
}

/// Whether a slot is one of a parameter.
fn is_parameter(slot: &str) -> bool {
    [Slot::WEIGHT, Slot::BIAS, Slot::GAMMA, Slot::BETA].contains(&slot)
}

/// What is wrong with the tensor in a slot of a layer.
fn check(layer: &Layer, slot: &str, tensor: &TensorData) -> Result<(), String> {
    let fans = match slot {
        Slot::WEIGHT => Fans::of(tensor.shape(), layer.description.weight),
        _ => Fans::NONE,
    };
    let config = layer.config.get(slot);
    let Some(grid) = config.and_then(|config| config.stated_grid(fans)) else {
        return Ok(());
    };
    let values: Vec<f32> = tensor.iter::<f32>().collect();
    match grid {
        StatedGrid::Of(format) => on_grid(&format, &values),
        StatedGrid::Shifted(format) => on_shifted(&format, &values),
    }
}

/// The first value that is none of a format's.
fn on_grid(format: &Format, values: &[f32]) -> Result<(), String> {
    let mut rounded = vec![0.0; values.len()];
    let made = format.quantize(values, &mut rounded, Rounding::NearestEven);
    made.map_err(|error| error.to_string())?;
    let off = values.iter().zip(&rounded).find(|(x, made)| x != made);
    match off {
        Some((x, _)) => Err(format!("{x} is no value of {format}")),
        None => Ok(()),
    }
}

/// The same of a format times a power of two: the least at which the largest value is in the range, or
/// the next, which a largest value that was rounded down leaves.
fn on_shifted(format: &Format, values: &[f32]) -> Result<(), String> {
    let largest = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return Ok(());
    }
    let least = (f64::from(largest) / f64::from(format.max())).log2().ceil() as i32;
    let formats = [least, least + 1].map(|log2| format.times_power_of_two(log2));
    let mut found = Err(format!("{largest} is beyond the range of {format}"));
    for format in formats.iter().flatten() {
        found = on_grid(format, values);
        if found.is_ok() {
            break;
        }
    }
    found
}

/// The greatest power of two of which all values are multiples.
fn unit(values: &[f32]) -> f64 {
    let exponent = |x: f32| {
        let bits = f64::from(x).to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32 - 1023;
        let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
        exponent - 52 + mantissa.trailing_zeros() as i32
    };
    let of_values = values.iter().filter(|x| **x != 0.0).map(|x| exponent(*x));
    of_values.min().map_or(1.0, |e| f64::from(e).exp2())
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0f64, |m, x| m.max(*x))
}

/// Bits that hold the integers up to that magnitude, sign included.
fn bits_of(magnitude: f64) -> u32 {
    2 + magnitude.log2().floor().max(0.0) as u32
}

/// The magnitudes of a tensor's integers.
struct Integers {
    magnitudes: Vec<f64>,
    dims: Vec<usize>,
}

impl Integers {
    fn of(data: &TensorData) -> Self {
        let values: Vec<f32> = data.iter::<f32>().collect();
        let unit = unit(&values);
        let magnitude = |x: &f32| f64::from(x.abs()) / unit;
        Self {
            magnitudes: values.iter().map(magnitude).collect(),
            dims: data.shape().to_vec(),
        }
    }

    fn largest(&self) -> f64 {
        largest(&self.magnitudes)
    }

    fn bits(&self) -> u32 {
        bits_of(self.largest())
    }

    /// The largest sum over all dimensions but one.
    fn largest_sum(&self, axis: usize) -> f64 {
        largest(&sums_along(&self.magnitudes, &self.dims, axis))
    }
}

/// The operands of the products of a layer in a step.
struct Products {
    input: Integers,
    weight: Integers,
    /// The error that reaches its result.
    error: Option<Integers>,
    /// The dimension of the weight with one index per output channel.
    axis: usize,
    /// Whether an error goes on to its input.
    goes_on: bool,
}

impl Products {
    /// What is wrong with the operands, or with sums of their products.
    fn check(&self) -> Result<(), String> {
        let operands = [("input", Some(&self.input)), ("error", self.error.as_ref())];
        for (name, operand) in operands {
            if operand.is_some_and(|operand| operand.bits() > OPERAND_BITS) {
                return Err(format!("its {name} is on no grid of {OPERAND_BITS} bits"));
            }
        }
        for Sum { what, bits, width } in self.sums() {
            if bits > width {
                return Err(format!("{what} may need {bits} bits, {width} are there"));
            }
        }
        Ok(())
    }

    /// The sums, at their largest by the largest of one operand and the magnitudes of the other: forward
    /// of an output channel's weights, to the input of an input channel's, to the weight of an output
    /// channel's errors.
    fn sums(&self) -> Vec<Sum> {
        let sum = |what, left: &Integers, right: &Integers, axis| Sum {
            what,
            bits: bits_of(left.largest() * right.largest_sum(axis)),
            width: match left.bits() + right.bits() {
                ..=NARROW_BITS => 32,
                _ => 64,
            },
        };
        let mut sums = vec![sum("a sum", &self.input, &self.weight, self.axis)];
        if let Some(error) = &self.error {
            let channels = match error.dims.len() {
                ..=2 => error.dims.len() - 1,
                _ => 1,
            };
            sums.push(sum("a sum to the weight", &self.input, error, channels));
            if self.goes_on {
                let inputs = 1 - self.axis.min(1);
                sums.push(sum("a sum to the input", error, &self.weight, inputs));
            }
        }
        sums
    }
}

/// A sum of products at its largest.
struct Sum {
    what: &'static str,
    bits: u32,
    /// Bits that are there for it.
    width: u32,
}

/// The sums of a row-major tensor over all dimensions but one.
fn sums_along(values: &[f64], dims: &[usize], axis: usize) -> Vec<f64> {
    let inner: usize = dims[axis + 1..].iter().product();
    let mut sums = vec![0.0; dims[axis]];
    for (i, row) in values.chunks(inner.max(1)).enumerate() {
        sums[i % dims[axis]] += row.iter().sum::<f64>();
    }
    sums
}

/// Finds the first parameter that is not on a grid.
struct Weights<'a> {
    format: &'a Format,
    path: ModulePath,
    found: Option<(String, String)>,
}

impl ModuleVisitor for Weights<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() || !param.val().is_require_grad() {
            return;
        }
        let values: Vec<f32> = param.val().into_data().iter::<f32>().collect();
        if let Err(what) = on_grid(self.format, &values) {
            self.found = Some((self.path.key(), what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::LinearConfig;
    use burn::tensor::Device;

    #[test]
    fn values_off_their_grid_are_found() {
        let format: Format = "fixed(4,2)".parse().unwrap();
        assert!(on_grid(&format, &[0.25, -2.0, 1.75]).is_ok());
        let off = |values: &[f32]| on_grid(&format, values).unwrap_err();
        assert_eq!(off(&[0.25, 0.3]), "0.3 is no value of fixed(4,2)");
        assert_eq!(off(&[2.0]), "2 is no value of fixed(4,2)");
        assert!(off(&[f32::NAN]).starts_with("NaN"));
    }

    #[test]
    fn weights_off_the_optimizers_grid_are_named() {
        let device = Device::flex().autodiff();
        let mut linear = LinearConfig::new(1, 2).with_bias(false).init(&device);
        let optimizer = OptimizerConfig::Wage { bits: 4 };
        let check = IntegerCheck::new(&[], &optimizer).unwrap();
        let mut with = |weight: [f32; 2]| {
            let weight = Tensor::<2>::from_floats([weight], &device);
            linear.weight = Param::from_tensor(weight);
            let checked = check.weights(7, &linear);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(with([0.875, -0.125]), Ok(()));
        let off = "weight: step 7: 0.3 is no value of fixed(4,3,symmetric)";
        assert_eq!(with([0.875, 0.3]), Err(off.into()));
    }

    /// Seven steps of `R / 8`: of 3.5, `R` is 4 and a step a half; 2.0 may be of that or of `R = 2`, but
    /// then it is beyond 7 quarters.
    #[test]
    fn shifted_grids_follow_the_largest() {
        let format: Format = "fixed(4,3,symmetric)".parse().unwrap();
        let on = |values: &[f32]| on_shifted(&format, values).is_ok();
        assert!(on(&[3.5, -1.0, 0.0]) && on(&[2.0, 0.5]) && on(&[0.0]));
        assert!(!on(&[3.5, 0.25]) && !on(&[2.0, 0.1]));
    }

    /// Inputs up to 3, weights [[1, 2], [3, 0]] in halves, their outputs along dimension 0: sums up to
    /// 3 times 3; errors of a channel of 1 and 4 or of 2 and 2, up to 5, times 3 to the weight; errors up
    /// to 4 times 4 of a column to the input.
    #[test]
    fn widths_by_hand() {
        let integers = |v: &[f32]| Integers::of(&TensorData::new(v.to_vec(), [v.len() / 2, 2]));
        assert_eq!(unit(&[0.5, 1.0, 1.5]), 0.5);
        let products = Products {
            input: integers(&[3.0, -1.0]),
            weight: integers(&[0.5, 1.0, 1.5, 0.0]),
            error: Some(integers(&[1.0, -2.0, -4.0, 2.0])),
            axis: 0,
            goes_on: true,
        };
        // 9, 15 and 16 with a sign.
        let bits: Vec<u32> = products.sums().iter().map(|sum| sum.bits).collect();
        assert_eq!(bits, [5, 5, 6]);
        assert!(products.check().is_ok());
        let wide = Products {
            input: integers(&[1e8 + 8.0, 8.0, 1.0, 0.0]),
            ..products
        };
        let refused = wide.check().unwrap_err();
        assert_eq!(refused, "its input is on no grid of 24 bits");
    }
}
