//! Tables that have a name.

use crate::scalar::codebook::Decision;

pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [f32],
    pub(crate) with_sign: bool,
    /// Thresholds, or none for the nearest value.
    thresholds: &'static [f32],
}

impl Table {
    pub(crate) fn decision(&self) -> Decision {
        match self.thresholds {
            [] => Decision::Nearest,
            thresholds => Decision::Thresholds(thresholds.to_vec()),
        }
    }
}

/// The decision of the table of a name.
pub(crate) fn decision(name: &str) -> Option<Decision> {
    let table = TABLES.iter().find(|table| table.name == name)?;
    Some(table.decision())
}

pub(crate) const TABLES: [Table; 6] = [
    Table {
        name: "nf4",
        values: &NF4,
        with_sign: false,
        thresholds: &[],
    },
    Table {
        name: "fp4",
        values: &FP4,
        with_sign: true,
        thresholds: &[],
    },
    Table {
        name: "qpytorch-weight",
        values: &QPYTORCH_WEIGHT,
        with_sign: true,
        thresholds: &[],
    },
    Table {
        name: "qpytorch-activation",
        values: &QPYTORCH_ACTIVATION,
        with_sign: true,
        thresholds: &[],
    },
    Table {
        name: "binary",
        values: &[-1.0, 1.0],
        with_sign: false,
        thresholds: &[0.0],
    },
    Table {
        name: "ternary",
        values: &[1.0],
        with_sign: true,
        thresholds: &[0.5],
    },
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
