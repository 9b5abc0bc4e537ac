//! The matrix units of chips, as they have been measured.

use std::fmt;

use crate::error::FormatError;
use crate::format::Format;
use crate::scalar::{Float, wide_power_of_two};

/// How a block's products and the accumulator become the next accumulator, an f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Joining {
    /// The accumulator is one more addend: with `E` the largest exponent of the products and of the
    /// accumulator, each is cut to a multiple of `2^(E - fraction_bits)`, toward zero; the sum of
    /// those, exact, is cut to `mantissa` bits after its first, toward zero, and beyond f32 becomes
    /// infinity. NVIDIA's tensor cores.
    Together {
        /// Bits of the result after its first, of f32's 23.
        mantissa: u32,
    },
    /// Products are summed in `parts`, of which the first takes the first product and every
    /// `parts`-th after it, and so on, each part's cut toward zero to multiples of
    /// `2^(E - fraction_bits)` of its own largest exponent `E`. Sums of several parts are cut down
    /// (toward minus infinity) to those of the larger `E`, and added. The sum is then cut down to
    /// multiples of `2^(M - 31)`, with `M` the larger of `E` and the accumulator's exponent, the
    /// accumulator down to multiples of `2^(M - 24)`, or, with several parts, dropped where its
    /// exponent is below `M - 25`; both are added and rounded to the nearest f32, ties to even. A
    /// product beyond f32 counts as infinite. AMD's matrix cores.
    Apart {
        /// Sums of products that are made apart.
        parts: usize,
    },
}

/// The arithmetic of a chip's matrix unit: products in blocks, each block and the accumulator added
/// at once, in fixed point below the largest exponent.
///
/// The accumulator is an f32 and zero at first. The next `addends` products are taken, fewer at the
/// end, each exact, with the exponent `e(a) + e(b)`: `e(x)` is the exponent of the first bit of `x`,
/// but not below that of the operand format's smallest normal number, and -126 of zero; exponents of
/// products are not normalized. The accumulator's exponent is found in the same way, as that of an
/// f32. [`Joining`] says how they are added. Where a product or the accumulator is infinite or NaN,
/// the result is what adding them gives.
///
/// Operands of `tf32` are cut to its bits. Other numbers than those of the operands' formats are taken
/// as they are.
///
/// Text: the name, where an operand is not of the first format that the unit takes `operands LEFT
/// RIGHT`, and `chunk N` where every `N` products are summed in the unit from zero and those sums are
/// added in f32 or in an `outer` format, as DeepSeek-V3 does with its partial sums of 128 products
/// on Hopper (arXiv 2412.19437, section 3.3.2).
///
/// Source of all: Xie, Wang, Yang, Yang, "MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and
/// Matrix Cores", arXiv 2511.10909, and its program microsoft/MMA-Sim, which were checked against the
/// chips.
///
/// ```
/// use lowbit_formats::Accumulation;
///
/// // Beside 1, Hopper's FP8 tensor core keeps multiples of 2^-13.
/// let (a, b) = ([1.0, 0.0078125, 0.0078125], [1.0, 0.0078125, 0.015625]);
/// let hopper: Accumulation = "hopper-fp8".parse()?;
/// assert_eq!(hopper.sum_of_products(&a, &b), 1.0 + 2f32.powi(-13));
/// let blackwell: Accumulation = "blackwell-fp8".parse()?;
/// let exact = 1.0 + 2f32.powi(-13) + 2f32.powi(-14);
/// assert_eq!(blackwell.sum_of_products(&a, &b), exact);
/// # Ok::<(), lowbit_formats::FormatError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorCore {
    name: &'static str,
    takes: &'static [&'static str],
    /// Which of them the left and the right operand have.
    operands: [usize; 2],
    addends: usize,
    fraction_bits: u32,
    joining: Joining,
}

const FP16: &[&str] = &["fp16"];
const BF16: &[&str] = &["bf16"];
const TF32: &[&str] = &["tf32", "fp32"];
const FP8: &[&str] = &["e4m3", "e5m2"];
const FNUZ: &[&str] = &["e4m3fnuz", "e5m2fnuz"];

/// NVIDIA's result in f32.
const SINGLE: Joining = Joining::Together { mantissa: 23 };
/// That of its first FP8 tensor cores, whose last ten bits are zero.
const SHORT: Joining = Joining::Together { mantissa: 13 };

const fn core(
    name: &'static str,
    takes: &'static [&'static str],
    (addends, fraction_bits, joining): (usize, u32, Joining),
) -> TensorCore {
    TensorCore {
        name,
        takes,
        operands: [0, 0],
        addends,
        fraction_bits,
        joining,
    }
}

/// All of them. On NVIDIA's chips these are the instructions `mma` (Volta to Ada), `wgmma` (Hopper)
/// and `tcgen05.mma` (Blackwell) with sums in f32, on AMD's the `mfma` of gfx942 with the largest
/// blocks.
const ALL: [TensorCore; 21] = [
    core("volta-fp16", FP16, (4, 23, SINGLE)),
    core("turing-fp16", FP16, (8, 24, SINGLE)),
    core("ampere-fp16", FP16, (8, 24, SINGLE)),
    core("ampere-bf16", BF16, (8, 24, SINGLE)),
    core("ampere-tf32", TF32, (4, 24, SINGLE)),
    core("ada-fp16", FP16, (8, 24, SINGLE)),
    core("ada-bf16", BF16, (8, 24, SINGLE)),
    core("ada-tf32", TF32, (4, 24, SINGLE)),
    core("ada-fp8", FP8, (16, 13, SHORT)),
    core("hopper-fp16", FP16, (16, 25, SINGLE)),
    core("hopper-bf16", BF16, (16, 25, SINGLE)),
    core("hopper-tf32", TF32, (8, 25, SINGLE)),
    core("hopper-fp8", FP8, (32, 13, SHORT)),
    core("blackwell-fp16", FP16, (16, 25, SINGLE)),
    core("blackwell-bf16", BF16, (16, 25, SINGLE)),
    core("blackwell-tf32", TF32, (8, 25, SINGLE)),
    core("blackwell-fp8", FP8, (32, 25, SINGLE)),
    core("cdna3-fp16", FP16, (8, 24, Joining::Apart { parts: 1 })),
    core("cdna3-bf16", BF16, (8, 24, Joining::Apart { parts: 1 })),
    core("cdna3-tf32", TF32, (4, 24, Joining::Apart { parts: 1 })),
    core("cdna3-fp8", FNUZ, (16, 24, Joining::Apart { parts: 2 })),
];

impl TensorCore {
    /// All that are known, with their first operand formats.
    pub const ALL: &'static [Self] = &ALL;

    /// The one of a name such as `hopper-fp8`, in letters of any size.
    pub fn named(name: &str) -> Option<Self> {
        let known = |core: &&Self| core.name.eq_ignore_ascii_case(name);
        Self::ALL.iter().find(known).copied()
    }

    /// The name: the chip's architecture and the operands' kind.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The names of the operand formats that it takes.
    pub fn takes(&self) -> &'static [&'static str] {
        self.takes
    }

    /// The names of the left and the right operand's formats.
    pub fn operands(&self) -> [&'static str; 2] {
        self.operands.map(|at| self.takes[at])
    }

    /// The same for operands of these formats, saturating or not.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] if it does not take one.
    pub fn with_operands(self, left: &Format, right: &Format) -> Result<Self, FormatError> {
        let place = |format: &Format| {
            let same = |name: &&str| match (format, Float::named(name)) {
                (Format::Float(float), Some(own)) => float.saturating() == own.saturating(),
                _ => false,
            };
            let refused = || FormatError::Unsupported {
                format: format.to_string(),
                operation: format!(
                    "sums of {}, which takes {}",
                    self.name,
                    self.takes.join(", ")
                ),
            };
            self.takes.iter().position(same).ok_or_else(refused)
        };
        let operands = [place(left)?, place(right)?];
        Ok(Self { operands, ..self })
    }

    /// Products that are added at once.
    pub fn addends(&self) -> usize {
        self.addends
    }

    /// Bits that products keep below the largest exponent.
    pub fn fraction_bits(&self) -> u32 {
        self.fraction_bits
    }

    /// How products and accumulator are added.
    pub fn joining(&self) -> Joining {
        self.joining
    }

    /// The least exponents of the left and the right operand: those of their formats' smallest normal
    /// numbers.
    pub fn least_exponents(&self) -> [i32; 2] {
        self.operands().map(|name| {
            let float = Float::named(name).expect("operand formats are named ones");
            (float.min_normal().to_bits() >> 23) as i32 - 127
        })
    }

    /// An operand as the unit takes it: of `tf32`, cut to its ten bits.
    #[inline(always)]
    pub fn operand(&self, x: f32) -> f32 {
        // NaN with nothing but low bits would become infinity.
        if self.takes.len() == 2 && self.takes[0] == "tf32" && !x.is_nan() {
            f32::from_bits(x.to_bits() & !0x1FFF)
        } else {
            x
        }
    }

    /// The sum of the products, from zero.
    pub(super) fn sum(&self, a: &[f32], b: &[f32]) -> f32 {
        let least = self.least_exponents();
        let blocks = a.chunks(self.addends).zip(b.chunks(self.addends));
        blocks.fold(0.0, |sum, (a, b)| {
            let operands = a.iter().zip(b);
            let operands = operands.map(|(&a, &b)| [self.operand(a), self.operand(b)]);
            self.block(sum, &operands.collect::<Vec<_>>(), least)
        })
    }

    /// The accumulator after a block.
    fn block(&self, sum: f32, operands: &[[f32; 2]], least: [i32; 2]) -> f32 {
        let products = || operands.iter().map(|&[a, b]| f64::from(a) * f64::from(b));
        let float = products().sum::<f64>() + f64::from(sum);
        if !float.is_finite() {
            return float as f32;
        }
        let terms: Vec<Term> = operands.iter().map(|&x| Term::product(x, least)).collect();
        let accumulator = Term::of(sum, -126);
        match self.joining {
            Joining::Together { mantissa } => self.together(&terms, accumulator, mantissa),
            Joining::Apart { parts } => {
                let beyond = 2f64.powi(128);
                let above = products().any(|p| p >= beyond);
                let below = products().any(|p| p <= -beyond);
                match (above, below) {
                    (true, true) => f32::NAN,
                    (true, false) => f32::INFINITY,
                    (false, true) => f32::NEG_INFINITY,
                    (false, false) => self.apart(&terms, accumulator, parts),
                }
            }
        }
    }

    fn together(&self, terms: &[Term], accumulator: Term, mantissa: u32) -> f32 {
        let terms = || terms.iter().chain([&accumulator]);
        let largest = terms().map(|term| term.exponent).max().unwrap_or(-126);
        let unit = largest - self.fraction_bits as i32;
        let sum: i128 = terms().map(|term| term.toward_zero(unit)).sum();
        let bits = 128 - sum.unsigned_abs().leading_zeros() as i32;
        // The last place of the result, which f32's subnormal numbers share.
        let last = (bits + unit - 1).max(-126) - mantissa as i32;
        let cut = (last - unit).clamp(0, 127) as u32;
        let kept = sum.signum() * (sum.abs() >> cut << cut);
        (kept as f64 * wide_power_of_two(unit)) as f32
    }

    fn apart(&self, terms: &[Term], accumulator: Term, of_unit: usize) -> f32 {
        let parts = (0..of_unit.min(terms.len())).map(|part| {
            let terms = || terms[part..].iter().step_by(of_unit);
            let largest = terms().map(|term| term.exponent).max().unwrap_or(i32::MIN);
            let unit = largest - self.fraction_bits as i32;
            let significand = terms().map(|term| term.toward_zero(unit)).sum();
            (largest, significand)
        });
        let parts: Vec<(i32, i128)> = parts.collect();
        let largest = parts.iter().map(|part| part.0).max().unwrap_or(i32::MIN);
        let products = Term {
            exponent: largest,
            significand: parts.iter().map(|&(e, sum)| down(sum, e - largest)).sum(),
            last: largest - self.fraction_bits as i32,
        };
        let joint = largest.max(accumulator.exponent);
        let dropped = of_unit > 1 && accumulator.exponent < joint - 25;
        let kept = if dropped {
            0
        } else {
            accumulator.down(joint - 24)
        };
        let sum = products.down(joint - 31) + (kept << 7);
        (sum as f64 * wide_power_of_two(joint - 31)) as f32
    }
}

/// `k 2^shift`, rounded down.
fn down(k: i128, shift: i32) -> i128 {
    if shift >= 0 {
        k << shift
    } else {
        k >> (-shift).min(127)
    }
}

/// `significand 2^last`, and the exponent that it is aligned by.
#[derive(Debug, Clone, Copy)]
struct Term {
    exponent: i32,
    significand: i128,
    last: i32,
}

impl Term {
    /// A finite number of a format with this least exponent.
    fn of(x: f32, least: i32) -> Self {
        let field = (x.to_bits() >> 23 & 0xFF) as i32;
        let magnitude = i128::from(x.to_bits() & 0x7F_FFFF | u32::from(field > 0) << 23);
        let last = field.max(1) - 150;
        let first = last + 127 - magnitude.leading_zeros() as i32;
        Self {
            exponent: if x == 0.0 { -126 } else { first.max(least) },
            significand: if x < 0.0 { -magnitude } else { magnitude },
            last,
        }
    }

    fn product([a, b]: [f32; 2], least: [i32; 2]) -> Self {
        let (a, b) = (Self::of(a, least[0]), Self::of(b, least[1]));
        Self {
            exponent: a.exponent + b.exponent,
            significand: a.significand * b.significand,
            last: a.last + b.last,
        }
    }

    /// As a multiple of `2^unit`, rounded toward zero.
    fn toward_zero(&self, unit: i32) -> i128 {
        let shift = self.last - unit;
        self.significand.signum() * down(self.significand.abs(), shift)
    }

    /// As a multiple of `2^unit`, rounded down.
    fn down(&self, unit: i32) -> i128 {
        down(self.significand, self.last - unit)
    }
}

/// The name, and `operands LEFT RIGHT` where they are not the first that it takes.
impl fmt::Display for TensorCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.operands {
            [0, 0] => Ok(()),
            _ => {
                let [left, right] = self.operands();
                write!(f, " operands {left} {right}")
            }
        }
    }
}
