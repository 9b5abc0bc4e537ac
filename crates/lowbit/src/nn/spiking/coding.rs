//! Images as currents or spikes over time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Tensor, TensorData};
use lowbit_formats::philox::{GROUP, Philox};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How a pixel becomes a sequence. Its intensity `p`, 0 to 1, is where it lies between the least and
/// the greatest number of its image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// The number itself in every step, as a current.
    #[default]
    Direct,
    /// A spike with probability `p` in every step.
    Rate,
    /// One spike, in step `round((1 - p) (steps - 1))`: the brighter, the earlier. None where `p` is 0.
    Latency,
}

impl Coding {
    const ALL: [(&'static str, Self); 3] = [
        ("direct", Self::Direct),
        ("rate", Self::Rate),
        ("latency", Self::Latency),
    ];

    /// The names, as a person reads them.
    pub const NAMES: &str = "direct, rate or latency";

    /// The images over time. The spikes of [`Rate`](Self::Rate) are those of `seed` (Philox), on any
    /// number of threads.
    ///
    /// # Shapes
    /// - `images`: `[batch, ...]`
    /// - result: `[batch * steps, ...]`, the steps of an image one after the other
    pub fn encode<const D: usize>(self, images: Tensor<D>, steps: usize, seed: u64) -> Tensor<D> {
        let (dims, device) = (images.dims(), images.device());
        let mut folded = dims;
        folded[0] *= steps;
        let pixels: usize = dims[1..].iter().product();
        let images: Vec<f32> = images.into_data().iter::<f32>().collect();
        let mut coded = vec![0.0; images.len() * steps];
        if pixels > 0 && steps > 0 {
            let chunks = coded.par_chunks_mut(pixels * steps).enumerate();
            chunks.for_each(|(image, coded)| {
                let pixels = &images[image * pixels..][..pixels];
                self.encode_image(pixels, coded, Philox::new(seed, image as u64));
            });
        }
        Tensor::from_data(TensorData::new(coded, folded), &device)
    }

    /// One image, `[steps][pixels]`.
    fn encode_image(self, image: &[f32], coded: &mut [f32], philox: Philox) {
        let steps = coded.len() / image.len();
        let last = (steps - 1) as f32;
        let (min, max) = lowbit_formats::kernel::min_max(image);
        let span = if max > min { max - min } else { 1.0 };
        for (step, row) in coded.chunks_exact_mut(image.len()).enumerate() {
            match self {
                Self::Direct => row.copy_from_slice(image),
                Self::Rate => {
                    let groups = (step * image.len().div_ceil(GROUP)) as u64;
                    let philox = philox.skip_groups(groups);
                    let groups = row.chunks_mut(GROUP).zip(image.chunks(GROUP));
                    for (group, (row, image)) in groups.enumerate() {
                        let words = philox.group(group as u64);
                        for ((spike, &x), word) in row.iter_mut().zip(image).zip(words) {
                            let drawn = f64::from(word) / f64::from(u32::MAX);
                            let intensity = f64::from((x - min) / span);
                            *spike = if drawn < intensity { 1.0 } else { 0.0 };
                        }
                    }
                }
                Self::Latency => {
                    for (spike, &x) in row.iter_mut().zip(image) {
                        let intensity = (x - min) / span;
                        let at = ((1.0 - intensity) * last).round();
                        *spike = if intensity > 0.0 && at == step as f32 {
                            1.0
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, coding)| coding == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

impl FromStr for Coding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|(name, _)| *name == text);
        let unknown = || Error::Unknown {
            kind: "coding",
            text: text.into(),
            expected: Self::NAMES,
        };
        known.map(|(_, coding)| coding).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn coded(coding: Coding, seed: u64, steps: usize) -> Vec<f32> {
        let images = Tensor::<2>::from_floats(
            [[-1.0, 0.0, 1.0, 3.0], [0.0, 5.0, 10.0, 2.5]],
            &Device::flex(),
        );
        let coded = coding.encode(images, steps, seed);
        coded.into_data().iter::<f32>().collect()
    }

    /// Of four steps the brightest pixel fires in the first, half the intensity in round(1.5) = 2, a
    /// quarter in round(2.25) = 2, the darkest never.
    #[test]
    fn latency_by_hand() {
        let rows = coded(Coding::Latency, 0, 4);
        let of_image = |image: usize| rows[image * 16..][..16].to_vec();
        let mut first = vec![0.0; 16];
        (first[3], first[2 * 4 + 1], first[2 * 4 + 2]) = (1.0, 1.0, 1.0);
        assert_eq!(of_image(0), first);
        let mut second = vec![0.0; 16];
        (second[2], second[2 * 4 + 1], second[2 * 4 + 3]) = (1.0, 1.0, 1.0);
        assert_eq!(of_image(1), second);
    }

    /// Of 4,000 draws with probability 1/2, a quarter and a half again: within four deviations, which
    /// are sqrt(p (1 - p) 4000) = 31.6 at most.
    #[test]
    fn rates_are_intensities() {
        let rows = coded(Coding::Rate, 7, 4000);
        let count = |image: usize, pixel: usize| -> f32 {
            let row = &rows[image * 16_000..][..16_000];
            row.iter().skip(pixel).step_by(4).sum()
        };
        let found = [0, 1].map(|image| [0, 1, 2, 3].map(|pixel| count(image, pixel)));
        let expected = [[0.0, 1000.0, 2000.0, 4000.0], [0.0, 2000.0, 4000.0, 1000.0]];
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 127.0, "{found} {expected}");
        }
        assert_eq!(rows, coded(Coding::Rate, 7, 4000));
        assert_ne!(rows, coded(Coding::Rate, 8, 4000));
    }

    /// A pixel has the word of its index, of groups that begin anew with each step.
    #[test]
    fn rates_draw_a_word_a_pixel() {
        let pixels = 3 * GROUP + 5;
        let numbers: Vec<f32> = (0..2 * pixels).map(|i| (i * 37 % 101) as f32).collect();
        let images = TensorData::new(numbers.clone(), [2, pixels]);
        let images = Tensor::<2>::from_data(images, &Device::flex());
        let coded = Coding::Rate.encode(images, 3, 11);
        let coded: Vec<f32> = coded.into_data().iter::<f32>().collect();
        for (image, numbers) in numbers.chunks(pixels).enumerate() {
            let min = numbers.iter().copied().fold(f32::INFINITY, f32::min);
            let max = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let philox = Philox::new(11, image as u64);
            for (step, index) in (0..3).flat_map(|step| (0..pixels).map(move |i| (step, i))) {
                let word = philox.word((step * 4 * GROUP + index) as u64);
                let drawn = f64::from(word) / f64::from(u32::MAX);
                let fires = drawn < f64::from((numbers[index] - min) / (max - min));
                let found = coded[(image * 3 + step) * pixels + index];
                assert_eq!(found, f32::from(u8::from(fires)), "{image} {step} {index}");
            }
        }
    }

    #[test]
    fn names_read_back() {
        for (name, coding) in Coding::ALL {
            assert_eq!(name.parse::<Coding>().unwrap(), coding);
            assert_eq!(coding.to_string(), name);
        }
        assert_eq!(
            "phase".parse::<Coding>().unwrap_err().to_string(),
            "unknown coding `phase`, expected direct, rate or latency"
        );
        assert_eq!(coded(Coding::Direct, 0, 2)[4..8], [-1.0, 0.0, 1.0, 3.0]);
    }
}
