//! Scales that are quantized in their turn.

use crate::block::scaled::element;
use crate::block::scales::Scales;
use crate::rounding::Rounding;
use crate::scalar::codebook::Codebook;

/// Scales that share a scale.
pub(crate) const GROUP: usize = 256;

/// The table of the codes.
pub(crate) fn map() -> &'static Codebook {
    element::table("bitsandbytes-dynamic")
}

/// The mean, summed in f64; zero of no scales.
fn mean(scales: &[f32]) -> f32 {
    if scales.is_empty() {
        return 0.0;
    }
    let sum: f64 = scales.iter().map(|&scale| f64::from(scale)).sum();
    (sum / scales.len() as f64) as f32
}

/// The codes of scales.
pub(crate) fn encode(scales: &[f32]) -> Scales {
    let mean = mean(scales);
    let (map, mut groups) = (map(), Vec::new());
    let mut codes = Vec::with_capacity(scales.len());
    for group in scales.chunks(GROUP) {
        let rests = group.iter().map(|scale| scale - mean);
        let largest = rests.clone().fold(0.0, |m: f32, rest| m.max(rest.abs()));
        let reciprocal = if largest == 0.0 { 0.0 } else { 1.0 / largest };
        let code = |rest: f32| map.encode(rest * reciprocal.min(f32::MAX), NEAREST, 0) as u8;
        codes.extend(rests.map(code));
        groups.push(largest);
    }
    Scales::Double {
        codes,
        groups,
        mean,
    }
}

const NEAREST: Rounding = Rounding::NearestEven;

/// The scales of codes.
pub(crate) fn decode(codes: &[u8], groups: &[f32], mean: f32) -> Vec<f32> {
    let map = map();
    let groups = codes.chunks(GROUP).zip(groups);
    groups
        .flat_map(|(codes, group)| {
            let scale = move |&code: &u8| map.decode(code.into()) * group + mean;
            codes.iter().map(scale)
        })
        .collect()
}

/// What becomes of scales.
pub(crate) fn quantized(scales: &[f32]) -> Vec<f32> {
    match encode(scales) {
        Scales::Double {
            codes,
            groups,
            mean,
        } => decode(&codes, &groups, mean),
        _ => Vec::new(),
    }
}
