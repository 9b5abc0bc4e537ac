//! Tables that have a name.

use std::sync::LazyLock;

use crate::scalar::codebook::Decision;

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f32>,
    pub(crate) with_sign: bool,
    /// Thresholds, or none for the nearest value.
    thresholds: Vec<f32>,
}

impl Table {
    /// Values that part in the middle.
    fn new(name: &'static str, values: &[f32]) -> Self {
        Self {
            name,
            values: values.to_vec(),
            with_sign: false,
            thresholds: Vec::new(),
        }
    }

    /// The same of magnitudes.
    fn with_sign(name: &'static str, values: &[f32]) -> Self {
        Self {
            with_sign: true,
            ..Self::new(name, values)
        }
    }

    /// The same with values that part elsewhere.
    fn parting_at(self, thresholds: Vec<f32>) -> Self {
        Self { thresholds, ..self }
    }

    pub(crate) fn decision(&self) -> Decision {
        if self.thresholds.is_empty() {
            Decision::Nearest
        } else {
            Decision::Thresholds(self.thresholds.clone())
        }
    }
}

/// The decision of the table of a name.
pub(crate) fn decision(name: &str) -> Option<Decision> {
    let table = tables().iter().find(|table| table.name == name)?;
    Some(table.decision())
}

pub(crate) fn tables() -> &'static [Table] {
    static TABLES: LazyLock<[Table; 9]> = LazyLock::new(|| {
        let dynamic = dynamic();
        [
            Table::new("nf4", &NF4),
            Table::with_sign("fp4", &FP4),
            Table::with_sign("qpytorch-weight", &QPYTORCH_WEIGHT),
            Table::with_sign("qpytorch-activation", &QPYTORCH_ACTIVATION),
            Table::new("binary", &[-1.0, 1.0]).parting_at(vec![0.0]),
            Table::with_sign("ternary", &[1.0]).parting_at(vec![0.5]),
            // A number at a threshold takes the upper value, in bitsandbytes the lower one.
            Table::new("bitsandbytes-nf4", &NF4)
                .parting_at(middles(&NF4).map(f32::next_up).collect()),
            Table::with_sign("bitsandbytes-fp4", &FP4).parting_at(FP4_THRESHOLDS.to_vec()),
            Table::new("bitsandbytes-dynamic", &dynamic).parting_at(dynamic_thresholds(&dynamic)),
        ]
    });
    &*TABLES
}

/// The middles of neighbours, rounded to f32.
fn middles(values: &[f32]) -> impl Iterator<Item = f32> {
    values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0)
}

/// The values of bitsandbytes' dynamic map, ascending.
fn dynamic() -> Vec<f32> {
    let mut values = vec![0.0, 1.0];
    for i in 0..7 {
        let parts = 1usize << i;
        let step = f64::from((1.0 - 0.1f32) / parts as f32);
        // Equally spaced numbers, each from the nearer end and rounded once, as PyTorch's `linspace`
        // has them where it is compiled with fused multiply-adds; in f64 the sums are exact.
        let bound = |j: usize| {
            if j < parts.div_ceil(2) {
                (f64::from(0.1f32) + step * j as f64) as f32
            } else {
                (1.0 - step * (parts - j) as f64) as f32
            }
        };
        let scale = 10f64.powi(i - 6) as f32;
        let magnitudes = (0..parts).map(|j| scale * ((bound(j) + bound(j + 1)) / 2.0));
        values.extend(magnitudes.flat_map(|x| [x, -x]));
    }
    values.sort_by(f32::total_cmp);
    values
}

/// Where they part: a number at a middle takes the value of the even code.
fn dynamic_thresholds(values: &[f32]) -> Vec<f32> {
    let of = |(lower, middle): (usize, f32)| {
        if lower.is_multiple_of(2) {
            middle.next_up()
        } else {
            middle
        }
    };
    middles(values).enumerate().map(of).collect()
}

/// bitsandbytes' thresholds of magnitudes, as its kernel writes them; that of zero says nothing.
const FP4_THRESHOLDS: [f32; 8] = [
    0.0,
    0.002_604_17,
    0.085_937_5,
    0.208_333_33,
    0.291_666_67,
    0.416_666_7,
    0.583_333,
    0.833_333_3,
];

/// QLoRA (arXiv 2305.14314), appendix E.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Twelfths.
const FP4: [f32; 8] = [
    0.0,
    0.0625 / 12.0,
    2.0 / 12.0,
    3.0 / 12.0,
    4.0 / 12.0,
    6.0 / 12.0,
    8.0 / 12.0,
    1.0,
];

/// Powers of two from 2^-16 to 1 with one to four values between those from 1/64 to 1/2.
const QPYTORCH_WEIGHT: [f32; 32] = [
    1.0 / 65536.0,
    1.0 / 32768.0,
    1.0 / 16384.0,
    1.0 / 8192.0,
    1.0 / 4096.0,
    1.0 / 2048.0,
    1.0 / 1024.0,
    1.0 / 512.0,
    1.0 / 256.0,
    1.0 / 128.0,
    3.0 / 256.0,
    1.0 / 64.0,
    5.0 / 256.0,
    3.0 / 128.0,
    7.0 / 256.0,
    1.0 / 32.0,
    9.0 / 256.0,
    5.0 / 128.0,
    3.0 / 64.0,
    7.0 / 128.0,
    1.0 / 16.0,
    9.0 / 128.0,
    5.0 / 64.0,
    3.0 / 32.0,
    7.0 / 64.0,
    1.0 / 8.0,
    9.0 / 64.0,
    3.0 / 16.0,
    1.0 / 4.0,
    3.0 / 8.0,
    1.0 / 2.0,
    1.0,
];

/// Powers of two from 2^-12 to 16 with up to three values between those from 1/8 to 8.
const QPYTORCH_ACTIVATION: [f32; 32] = [
    1.0 / 4096.0,
    1.0 / 2048.0,
    1.0 / 1024.0,
    1.0 / 512.0,
    1.0 / 256.0,
    1.0 / 128.0,
    1.0 / 64.0,
    1.0 / 32.0,
    1.0 / 16.0,
    1.0 / 8.0,
    3.0 / 16.0,
    1.0 / 4.0,
    5.0 / 16.0,
    3.0 / 8.0,
    7.0 / 16.0,
    1.0 / 2.0,
    9.0 / 16.0,
    5.0 / 8.0,
    3.0 / 4.0,
    7.0 / 8.0,
    1.0,
    9.0 / 8.0,
    5.0 / 4.0,
    3.0 / 2.0,
    7.0 / 4.0,
    2.0,
    9.0 / 4.0,
    3.0,
    4.0,
    6.0,
    8.0,
    16.0,
];
