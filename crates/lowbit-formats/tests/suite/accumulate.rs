//! Sums of products against exact arithmetic: numbers here are whole multiples of 2^-90, in `i128`.

use lowbit_formats::accumulate::Accumulation;
use lowbit_formats::{Format, Rounding};

/// Numbers are `k 2^-UNIT`.
const UNIT: i32 = 90;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exact {
    Finite(i128),
    Infinite { negative: bool },
    Nan,
}

use Exact::{Finite, Infinite, Nan};

impl Exact {
    /// `x`, from its bits.
    pub(crate) fn of(x: f32) -> Self {
        let (bits, negative) = (x.to_bits(), x.is_sign_negative());
        let (field, fraction) = ((bits >> 23 & 255) as i32, i128::from(bits & 0x7F_FFFF));
        if field == 255 {
            return if fraction == 0 {
                Infinite { negative }
            } else {
                Nan
            };
        }
        let significand = if field > 0 {
            fraction | 1 << 23
        } else {
            fraction
        };
        let shift = field.max(1) - 150 + UNIT;
        let magnitude = if shift >= 0 {
            significand << shift
        } else {
            assert_eq!(
                significand & ((1 << -shift) - 1),
                0,
                "{x} is below the unit"
            );
            significand >> -shift
        };
        Finite(if negative { -magnitude } else { magnitude })
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Finite(a), Finite(b)) => Finite(a + b),
            (Nan, _) | (_, Nan) => Nan,
            (Infinite { negative: a }, Infinite { negative: b }) if a != b => Nan,
            (Infinite { negative }, _) | (_, Infinite { negative }) => Infinite { negative },
        }
    }

    fn minus(self, other: Self) -> Self {
        self.plus(match other {
            Finite(b) => Finite(-b),
            Infinite { negative } => Infinite {
                negative: !negative,
            },
            Nan => Nan,
        })
    }

    /// The product of two finite f32, from their significands.
    fn product(a: f32, b: f32) -> Self {
        let part = |x: f32| {
            let (bits, field) = (x.to_bits(), (x.to_bits() >> 23 & 255) as i32);
            let leading = i128::from(field > 0) << 23;
            (i128::from(bits & 0x7F_FFFF) | leading, field.max(1) - 150)
        };
        let ((x, i), (y, j)) = (part(a), part(b));
        let shift = i + j + UNIT;
        let magnitude = if shift >= 0 {
            (x * y) << shift
        } else {
            (x * y) >> -shift
        };
        assert!(shift >= 0 || magnitude << -shift == x * y, "{a} {b}");
        let negative = a.is_sign_negative() != b.is_sign_negative();
        Finite(if negative { -magnitude } else { magnitude })
    }
}

/// Where a number beyond the largest goes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Beyond {
    Infinity,
    Nan,
    Largest,
}

/// What an oracle rounds to.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Least exponent, mantissa bits, largest magnitude.
    Float(i32, u32, i128, Beyond),
    /// Bits, exponent of the unit, whether it wraps.
    Integer(u32, i32, bool),
}

/// IEEE 754-2019, section 3.3: `emin = 2 - 2^(e-1)`, largest `2^(2^(e-1) - 1) (2 - 2^-m)`.
pub(crate) fn ieee(exponent: u32, mantissa: u32) -> Kind {
    let half = 1i32 << (exponent - 1);
    let top = half - 1 - mantissa as i32 + UNIT;
    // Sums here stay below 2^36; what is beyond is never reached.
    let max = if top + mantissa as i32 > 124 {
        i128::MAX
    } else {
        ((2i128 << mantissa) - 1) << top
    };
    Kind::Float(2 - half, mantissa, max, Beyond::Infinity)
}

/// `k / 2^shift` to a whole number.
fn whole(k: i128, shift: u32, rounding: Rounding) -> i128 {
    let floor = k >> shift;
    let rest = k - (floor << shift);
    if rest == 0 {
        return floor;
    }
    let (twice, one) = (2 * rest, 1i128 << shift);
    let up = match rounding {
        Rounding::NearestEven => twice > one || (twice == one && floor & 1 == 1),
        Rounding::NearestAway => twice > one || (twice == one && floor >= 0),
        Rounding::NearestUp => twice >= one,
        Rounding::TowardZero => floor < 0,
        Rounding::Down => false,
        Rounding::Up => true,
        _ => floor & 1 == 0,
    };
    floor + i128::from(up)
}

impl Kind {
    fn round(self, x: Exact, rounding: Rounding) -> Exact {
        let Finite(k) = x else {
            return match (self, x) {
                (Self::Float(.., max, Beyond::Largest), Infinite { negative }) => {
                    Finite(if negative { -max } else { max })
                }
                (Self::Float(.., Beyond::Nan), _) | (Self::Integer(.., true), _) => Nan,
                (Self::Integer(bits, exponent, false), Infinite { negative }) => {
                    let k = if negative { -(1i128 << 120) } else { 1 << 120 };
                    Self::Integer(bits, exponent, false).round(Finite(k), rounding)
                }
                _ => x,
            };
        };
        match self {
            Self::Integer(bits, exponent, wraps) => {
                let shift = (exponent + UNIT) as u32;
                let steps = whole(k, shift, rounding);
                let half = 1i128 << (bits - 1);
                let steps = if wraps {
                    (steps + half).rem_euclid(2 * half) - half
                } else {
                    steps.clamp(-half, half - 1)
                };
                Finite(steps << shift)
            }
            Self::Float(emin, mantissa, max, beyond) => {
                if k == 0 {
                    return x;
                }
                let exponent = 127 - k.unsigned_abs().leading_zeros() as i32 - UNIT;
                let shift = exponent.max(emin) - mantissa as i32 + UNIT;
                let rounded = if shift > 0 {
                    whole(k, shift as u32, rounding) << shift
                } else {
                    k
                };
                if rounded.abs() <= max {
                    return Finite(rounded);
                }
                let negative = k < 0;
                let stays = match rounding {
                    Rounding::TowardZero | Rounding::ToOdd => true,
                    Rounding::Down => !negative,
                    Rounding::Up => negative,
                    _ => false,
                };
                match beyond {
                    Beyond::Largest => Finite(if negative { -max } else { max }),
                    _ if stays => Finite(if negative { -max } else { max }),
                    Beyond::Nan => Nan,
                    Beyond::Infinity => Infinite { negative },
                }
            }
        }
    }
}

/// A way to make sums, and its text.
pub(crate) struct Oracle {
    pub(crate) inner: Kind,
    pub(crate) outer: Kind,
    pub(crate) product: Option<Kind>,
    pub(crate) rounding: Rounding,
    pub(crate) order: &'static str,
    pub(crate) chunk: usize,
}

impl Oracle {
    pub(crate) fn sum(&self, a: &[f32], b: &[f32]) -> Exact {
        let round = |x| self.inner.round(x, self.rounding);
        let products = a.iter().zip(b).map(|(&a, &b)| Exact::product(a, b));
        let product = |p| self.product.map_or(p, |kind| kind.round(p, self.rounding));
        let products: Vec<Exact> = products.map(product).collect();
        let zero = Finite(0);
        match self.order {
            "" => products.iter().fold(zero, |s, &p| round(s.plus(p))),
            "pairwise" => {
                let mut sums: Vec<Exact> = products.into_iter().map(round).collect();
                while sums.len() > 1 {
                    let last = (sums.len() % 2 == 1).then(|| sums[sums.len() - 1]);
                    let pairs = 0..sums.len() / 2;
                    sums = pairs
                        .map(|i| round(sums[2 * i].plus(sums[2 * i + 1])))
                        .collect();
                    sums.extend(last);
                }
                sums.first().copied().unwrap_or(zero)
            }
            "kahan" => {
                let (mut s, mut e) = (zero, zero);
                for p in products {
                    let y = round(e.plus(p));
                    let t = s;
                    s = round(t.plus(y));
                    e = round(round(t.minus(s)).plus(y));
                }
                s
            }
            _ => {
                let mut total = zero;
                for chunk in products.chunks(self.chunk) {
                    let sum = chunk.iter().fold(zero, |s, &p| round(s.plus(p)));
                    total = self.outer.round(total.plus(sum), self.rounding);
                }
                total
            }
        }
    }

    fn compare(&self, ours: &Accumulation, a: &[f32], b: &[f32]) {
        let (sum, expected) = (ours.sum_of_products(a, b), self.sum(a, b));
        assert_eq!(Exact::of(sum), expected, "{ours}: {a:?} {b:?}");
    }
}

/// A format's kind and its text.
type Named = (Kind, String);

/// Every float of up to `bits` bits, IEEE-like, and those of OCP.
fn floats(bits: u32) -> Vec<Named> {
    let mut all = Vec::new();
    for exponent in 2..=6 {
        for mantissa in 1..bits.saturating_sub(exponent) {
            all.push((
                ieee(exponent, mantissa),
                format!("float({exponent},{mantissa})"),
            ));
        }
    }
    let ocp = [
        (8, "e4m3", -6, 3, 448.0, Beyond::Nan),
        (8, "e4m3(saturate)", -6, 3, 448.0, Beyond::Largest),
        (6, "e3m2", -2, 2, 28.0, Beyond::Largest),
        (6, "e2m3", 0, 3, 7.5, Beyond::Largest),
        (4, "e2m1", 0, 1, 6.0, Beyond::Largest),
    ];
    for (width, name, emin, mantissa, max, beyond) in ocp {
        let Finite(max) = Exact::of(max) else {
            unreachable!()
        };
        if width <= bits {
            all.push((Kind::Float(emin, mantissa, max, beyond), name.into()));
        }
    }
    all
}

/// Integers of up to `bits` bits in units of 1 and of a quarter, saturating and wrapping.
fn integers(bits: u32) -> Vec<Named> {
    let widths = (2..=bits).flat_map(|bits| [(bits, 0), (bits, 2)]);
    let both = widths.flat_map(|(bits, fraction)| {
        [("", false), (" wrap", true)].map(|(word, wraps)| {
            let kind = Kind::Integer(bits, -fraction, wraps);
            (kind, format!("fixed({bits},{fraction}){word}"))
        })
    });
    both.collect()
}

/// Every way to make sums in a format.
fn oracles(
    (kind, text): &Named,
    outer: &Named,
    product: Option<&Named>,
) -> Vec<(Oracle, Accumulation)> {
    let mut all = Vec::new();
    let integer = matches!(kind, Kind::Integer(..));
    for rounding in Rounding::DETERMINISTIC {
        for (order, text_of_order) in [
            ("", String::new()),
            ("pairwise", "pairwise".into()),
            ("kahan", "kahan".into()),
            ("chunk", "chunk 2".into()),
            ("outer", format!("chunk 2 outer {}", outer.1)),
        ] {
            if integer && order == "kahan" {
                continue;
            }
            let products = product.map_or(String::new(), |(_, text)| format!("product {text}"));
            let text = format!("{text} rounding {rounding} {products} {text_of_order}");
            let oracle = Oracle {
                inner: *kind,
                outer: if order == "outer" { outer.0 } else { *kind },
                product: product.map(|product| product.0),
                rounding,
                order,
                chunk: 2,
            };
            all.push((oracle, text.parse().unwrap()));
        }
    }
    all
}

/// The finite values of a format.
fn values(text: &str) -> Vec<f32> {
    let format: Format = text.parse().unwrap();
    let codes: Vec<u32> = (0..1 << format.bits()).collect();
    let values = format.decode(&codes);
    values.into_iter().filter(|v| v.is_finite()).collect()
}

/// Every value of the format as the first product, every product of two e2m1 as the second, and in
/// formats of up to five bits as the third.
#[test]
fn short_sums_exhaustively() {
    let small = values("e2m1");
    let mut products: Vec<(f32, f32)> = Vec::new();
    for &x in &small {
        for &y in &small {
            if products.iter().all(|(a, b)| a * b != x * y) {
                products.push((x, y));
            }
        }
    }
    let outers = [
        (ieee(4, 5), "e4m5".into()),
        (Kind::Integer(9, 0, false), "int9".into()),
    ];
    let rounded = (ieee(3, 1), "e3m1".into());
    let mut sums = 0u64;
    for (bits, three) in [(8, false), (5, true)] {
        for named in floats(bits).into_iter().chain(integers(bits)) {
            let outer = match named.0 {
                Kind::Integer(_, 0, _) => outers[1].clone(),
                Kind::Integer(_, exponent, _) => (
                    Kind::Integer(9, exponent, false),
                    format!("fixed(9,{})", -exponent),
                ),
                Kind::Float(..) => outers[0].clone(),
            };
            let firsts = values(named.1.trim_end_matches(" wrap"));
            for product in [None, Some(&rounded)] {
                for (oracle, ours) in oracles(&named, &outer, product) {
                    for &first in &firsts {
                        for &(x, y) in &products {
                            if !three {
                                oracle.compare(&ours, &[first, x], &[1.0, y]);
                                sums += 1;
                                continue;
                            }
                            for &(z, w) in &products {
                                oracle.compare(&ours, &[first, x, z], &[1.0, y, w]);
                                sums += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{sums} short sums, 0 differences");
    assert!(sums > 10_000_000);
}

/// Numbers of a fixed seed (Knuth's linear congruential generator, MMIX).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// An f32 of `bits` significant bits from 2^-16 to 2^8, of either sign.
    fn number(&mut self, bits: u32) -> f32 {
        let exponent = 111 + self.next() % 24;
        let fraction = self.next() & (0x7F_FFFF << (24 - bits) & 0x7F_FFFF);
        f32::from_bits(self.next() << 31 | exponent << 23 | fraction)
    }
}

/// Every precision from 2 to 24 bits, numbers of 2 to 24 bits, up to 40 products.
#[test]
fn random_sums_of_every_precision() {
    let mut random = Random(11);
    let outer = (ieee(8, 16), "e8m16".into());
    let rounded = (ieee(8, 5), "e8m5".into());
    let mut sums = 0u64;
    for mantissa in 1..=23 {
        for exponent in [5, 6, 8] {
            let named = (
                ieee(exponent, mantissa),
                format!("float({exponent},{mantissa})"),
            );
            for product in [None, Some(&rounded)] {
                for (oracle, ours) in oracles(&named, &outer, product) {
                    for _ in 0..60 {
                        let length = random.next() as usize % 41;
                        let bits = 2 + random.next() % 23;
                        let mut draw = || (0..length).map(|_| random.number(bits)).collect();
                        let (a, b): (Vec<f32>, Vec<f32>) = (draw(), draw());
                        oracle.compare(&ours, &a, &b);
                        sums += 1;
                    }
                }
            }
        }
    }
    println!("{sums} random sums, 0 differences");
}

/// A wide accumulator gives the exact sum, rounded once to f32 where it has more bits: products of
/// int8 sum to less than 2^31.
#[test]
fn a_wide_accumulator_is_exact() {
    let mut random = Random(12);
    let accumulator: Accumulation = "int64".parse().unwrap();
    for length in [0, 1, 100, 1000] {
        let mut draw = || -> Vec<i64> {
            (0..length)
                .map(|_| i64::from(random.next() as i8))
                .collect()
        };
        let (a, b) = (draw(), draw());
        let exact: i64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        let [a, b] = [a, b].map(|x| x.into_iter().map(|k| k as f32).collect::<Vec<f32>>());
        assert_eq!(accumulator.sum_of_products(&a, &b), exact as f32);
    }
}
