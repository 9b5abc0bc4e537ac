//! One weight after the other.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use lowbit::nn::Linear;
use lowbit::quantizers::{Selection, Slot, Tapped};
use lowbit::repair::{GptqFactor, Gram, awq_factors, gptq_blocks};
use lowbit_formats::block::{BlockCodes, Granularity, Scales};
use lowbit_formats::{BlockFormat, FormatError, Rounding};
use safetensors::tensor::Dtype;

use super::{Algorithm, Compress, Rounded};
use crate::packed::{self, Packed};
use crate::weights::Numbers;
use crate::{Error, ModelFolder};

/// Linear layers that read the same numbers.
pub(super) struct Together<'a> {
    pub(super) layers: Vec<(String, &'a mut Linear)>,
}

/// What rounds weights, and what it rounded.
pub(super) struct Rounder<'a> {
    model: &'a ModelFolder,
    format: BlockFormat,
    algorithm: Algorithm,
    unpacked: bool,
    /// Whether layers read something.
    pub(super) sees: bool,
    /// Weights by their layers' paths.
    pub(super) weights: BTreeMap<String, Packed>,
    pub(super) reports: Vec<Rounded>,
}

impl<'a> Rounder<'a> {
    pub(super) fn new(
        model: &'a ModelFolder,
        format: BlockFormat,
        options: &Compress,
        sees: bool,
    ) -> Self {
        Self {
            model,
            format,
            algorithm: options.algorithm,
            unpacked: options.unpacked,
            sees,
            weights: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    pub(super) fn scales(&self) -> bool {
        self.algorithm.scales()
    }

    /// The name that the weight of a layer has in the model's files.
    pub(super) fn name(&self, path: &str) -> String {
        let config = &self.model.config;
        let place = config.family.place(path, "weight", config.inner);
        place.map_or_else(String::new, |place| place.key)
    }

    /// The type of the numbers that a layer's weight stands for when it is read again.
    fn numbers(&self, path: &str) -> Dtype {
        let is_f32 = matches!(
            self.format,
            BlockFormat::NvFp4(_) | BlockFormat::Microscaling(_)
        );
        match is_f32 && !self.unpacked {
            true => Dtype::F32,
            false => self.stored(path, "weight"),
        }
    }

    /// The type that a parameter of a layer has in the model's files.
    fn stored(&self, path: &str, name: &str) -> Dtype {
        let config = &self.model.config;
        let place = config.family.place(path, name, config.inner);
        let dtype = place.and_then(|place| self.model.weights.float(&place.key));
        dtype.unwrap_or(Dtype::F32)
    }

    /// What is left of a parameter of a layer when it is written.
    pub(super) fn written<const D: usize>(
        &self,
        path: &str,
        name: &str,
        x: Tensor<D>,
    ) -> Tensor<D> {
        let dtype = self.stored(path, name);
        let (shape, device) = (x.shape(), x.device());
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        let bytes = packed::bytes_of(&values, dtype);
        let values = packed::floats_of(dtype, &bytes).expect("a type of 16 or 32 bits");
        Tensor::from_data(TensorData::new(values, shape), &device)
    }

    /// Whether weights of so many columns can be stored.
    ///
    /// # Errors
    /// With the layer's path.
    pub(super) fn check(&self, path: &str, columns: usize) -> Result<(), Error> {
        match self.format.granularity() {
            Granularity::Block { size, .. } if !columns.is_multiple_of(size as usize) => {
                let message =
                    format!("has {columns} columns, which blocks of {size} do not divide");
                Err(Error::field(format!("{path}.weight"), message))
            }
            _ => Ok(()),
        }
    }

    fn nearest(
        &self,
        weight: &[f32],
        columns: usize,
        numbers: Dtype,
    ) -> Result<BlockCodes, FormatError> {
        let shape = [weight.len() / columns.max(1), columns];
        let scales = packed::kept(self.format.scales(weight, &shape)?, numbers);
        self.format
            .encode_with(weight, &shape, scales, Rounding::NearestEven)
    }

    fn packed(&self, codes: BlockCodes, numbers: Dtype) -> Packed {
        let global = match &codes.scales {
            &Scales::Float8 { tensor, .. } => Some(if tensor > 0.0 { 1.0 / tensor } else { 1.0 }),
            _ => None,
        };
        Packed {
            format: self.format,
            codes,
            global,
            numbers,
        }
    }

    /// What the columns of layers that read the same are multiplied by.
    pub(super) fn factors(&self, together: &Together<'_>, gram: &Gram) -> Result<Vec<f32>, Error> {
        let columns = gram.columns();
        let weights: Vec<Vec<f32>> = together
            .layers
            .iter()
            .map(|(_, layer)| rows(layer))
            .collect();
        let numbers = together
            .layers
            .first()
            .map_or(Dtype::F32, |(path, _)| self.numbers(path));
        let round = |weight: &[f32]| {
            let codes = self.nearest(weight, columns, numbers)?;
            self.packed(codes, numbers).numbers()
        };
        awq_factors(&weights, gram, round).map_err(|error| Error::field("format", error))
    }

    /// Rounds the weights of layers that read the same.
    pub(super) fn round(
        &mut self,
        together: Together<'_>,
        gram: Option<&Gram>,
    ) -> Result<(), Error> {
        let of_input = |message: &str| {
            let path = together.layers.first().map_or("", |(path, _)| path);
            Error::field(format!("{path}.input"), message)
        };
        if gram.is_some_and(|gram| !gram.is_finite()) {
            return Err(of_input("saw a NaN or an infinity"));
        }
        let factor = match gram.filter(|_| self.algorithm.makes_up()) {
            Some(gram) => {
                let factor = GptqFactor::of(gram);
                Some(factor.ok_or_else(|| of_input("has sums without an inverse"))?)
            }
            None => None,
        };
        for (path, layer) in together.layers {
            let [columns, _] = layer.weight.val().dims();
            let weight = rows(layer);
            if weight.iter().any(|w| !w.is_finite()) {
                let message = "has a NaN or an infinity";
                return Err(Error::field(format!("{path}.weight"), message));
            }
            let rounded = self.rounded(&path, (&weight, columns), gram, factor.as_ref());
            let (packed, numbers) =
                rounded.map_err(|error| Error::field(format!("{path}.weight"), error))?;
            set(layer, numbers);
            self.weights.insert(path, packed);
        }
        Ok(())
    }

    /// One weight rounded, and what it then stands for; reports what that does to the layer's sums.
    fn rounded(
        &mut self,
        path: &str,
        (weight, columns): (&[f32], usize),
        gram: Option<&Gram>,
        factor: Option<&GptqFactor>,
    ) -> Result<(Packed, Vec<f32>), FormatError> {
        let numbers = self.numbers(path);
        let power = gram.map(|gram| gram.power(weight));
        let error = |rounded: &[f32]| {
            let (gram, power) = gram.zip(power)?;
            let both = rounded.iter().zip(weight);
            let apart: Vec<f32> = both.map(|(q, w)| q - w).collect();
            Some(match power > 0.0 {
                true => gram.power(&apart) / power,
                false => 0.0,
            })
        };
        let packed = self.packed(self.nearest(weight, columns, numbers)?, numbers);
        let values = packed.numbers()?;
        let nearest = error(&values);
        let (packed, values, error) = match factor {
            None => (packed, values, nearest),
            Some(factor) => {
                let kept = |scales| packed::kept(scales, numbers);
                let codes = gptq_blocks(weight, factor, &self.format, &kept)?;
                let packed = self.packed(codes, numbers);
                let values = packed.numbers()?;
                let error = error(&values);
                (packed, values, error)
            }
        };
        self.reports.push(Rounded {
            layer: path.into(),
            nearest,
            error,
        });
        Ok((packed, values))
    }
}

/// The weight of a layer as `[out, in]`.
fn rows(layer: &Linear) -> Vec<f32> {
    let weight = layer.weight.val();
    let numbers = Numbers {
        shape: weight.dims().to_vec(),
        values: weight.into_data().iter::<f32>().collect(),
    };
    numbers.transposed().values
}

fn set(layer: &mut Linear, rows: Vec<f32>) {
    let [inputs, outputs] = layer.weight.val().dims();
    let numbers = Numbers {
        shape: vec![outputs, inputs],
        values: rows,
    };
    let numbers = numbers.transposed();
    let device = layer.weight.val().device();
    let data = TensorData::new(numbers.values, numbers.shape);
    change(&mut layer.weight, |_| Tensor::from_data(data, &device));
}

/// Replaces what a parameter is.
pub(super) fn change<const D: usize>(
    param: &mut Param<Tensor<D>>,
    to: impl FnOnce(Tensor<D>) -> Tensor<D>,
) {
    *param = param.clone().map(to);
}

/// What is read by layers of these paths.
pub(super) fn inputs<'p>(paths: impl Iterator<Item = &'p str>) -> Selection {
    paths
        .fold(Selection::all(), Selection::path)
        .slot(Slot::INPUT)
}

/// Adds what was read to sums of its own.
pub(super) fn add(seen: Vec<Tapped>, gram: impl Fn(&str) -> Option<usize>, grams: &mut [Gram]) {
    for tapped in seen {
        if let Some(at) = gram(&tapped.place.layer) {
            let read: Vec<f32> = tapped.read.iter::<f32>().collect();
            grams[at].add(&read);
        }
    }
}
