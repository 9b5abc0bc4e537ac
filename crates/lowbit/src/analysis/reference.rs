//! Tensors against what NumPy says of them: `tests/reference/analysis.py`.

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use super::tensor::{InSlot, TensorCounts};
use crate::quantizers::{Channels, Place, QuantizerConfig, TrainedThresholdConfig, with_learned};

#[derive(Deserialize)]
struct Error {
    sqnr: f64,
    mean_square: f64,
    cosine: f64,
    kl_divergence: f64,
}

#[derive(Deserialize)]
struct Case {
    shape: Vec<usize>,
    x: Vec<f32>,
    float: Vec<f32>,
    bits: u32,
    signed: bool,
    log2_thresholds: Vec<f32>,
    min: f64,
    max: f64,
    mean: f64,
    deviation: f64,
    clipped: f64,
    rounded_to_zero: f64,
    used_codes: u64,
    codes: u64,
    alone: Error,
    accumulated: Error,
    width: f64,
    first: i64,
    counts: Vec<u64>,
}

impl Case {
    fn in_slot(&self) -> InSlot {
        let count = self.log2_thresholds.len();
        let config = QuantizerConfig::Tqt(TrainedThresholdConfig {
            per_channel: count > 1,
            ..TrainedThresholdConfig::new(self.bits)
        });
        let channels = Channels { axis: 0, count };
        let quantizer = config.init(Some(channels), &Device::flex());
        let quantizer = with_learned(quantizer, |name| {
            let signed = f32::from(u8::from(self.signed));
            Some(match name.ends_with("signed") {
                true => TensorData::from([signed]),
                false => TensorData::new(self.log2_thresholds.clone(), [count]),
            })
        });
        let quantizer = quantizer.unwrap();
        InSlot {
            config,
            bits: self.bits.into(),
            integers: quantizer.integers(),
            quantizer,
        }
    }
}

fn near(a: Option<f64>, b: f64, what: &str) {
    let a = a.unwrap_or(f64::NAN);
    assert!(
        (a - b).abs() <= 1e-6 * b.abs().max(1e-6),
        "{what}: {a}, expected {b}"
    );
}

#[test]
fn tensors_are_what_numpy_says() {
    let lines = include_str!("../../tests/reference/analysis.jsonl").lines();
    for (i, line) in lines.enumerate() {
        let case: Case = serde_json::from_str(line).unwrap();
        let in_slot = case.in_slot();
        let data = |values: &[f32]| TensorData::new(values.to_vec(), case.shape.clone());
        let x = data(&case.x);
        let read = match case.shape.len() {
            1 => quantized::<1>(&in_slot, &x),
            2 => quantized::<2>(&in_slot, &x),
            _ => quantized::<4>(&in_slot, &x),
        };
        let place = Place {
            layer: "layer".into(),
            layer_type: "Linear".into(),
            slot: "weight".into(),
        };
        let mut counts = TensorCounts::new(place, true, 0, Some(in_slot));
        counts.add(&x, &read, Some(&data(&case.float)));
        let found = counts.finish();
        let numbers = [found.min, found.max, found.mean, found.deviation];
        let expected = [case.min, case.max, case.mean, case.deviation];
        for (a, b) in numbers.into_iter().zip(expected) {
            near(Some(a), b, &format!("{i}"));
        }
        near(found.clipped, case.clipped, "clipped");
        near(
            found.rounded_to_zero,
            case.rounded_to_zero,
            "rounded to zero",
        );
        assert_eq!(
            (found.used_codes, found.codes),
            (Some(case.used_codes), Some(case.codes))
        );
        for (found, expected) in [
            (found.alone, case.alone),
            (found.accumulated, case.accumulated),
        ] {
            let found = found.unwrap();
            near(found.sqnr, expected.sqnr, "SQNR");
            near(Some(found.mean_square), expected.mean_square, "MSE");
            near(found.cosine, expected.cosine, "cosine");
            near(found.kl_divergence, expected.kl_divergence, "KL");
        }
        let bins = &found.histogram;
        assert_eq!(
            (bins.width, bins.first, &bins.counts),
            (case.width, case.first, &case.counts)
        );
    }
}

fn quantized<const D: usize>(in_slot: &InSlot, x: &TensorData) -> TensorData {
    let x = Tensor::<D>::from_data(x.clone(), &Device::flex());
    in_slot.quantizer.operand(x).quantized().into_data()
}
