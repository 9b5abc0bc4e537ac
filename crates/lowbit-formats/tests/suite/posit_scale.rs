//! Posits times a scale that is no power of two, against their definition in integers.

use std::cmp::Ordering;

use lowbit_formats::posit::Posit;
use lowbit_formats::{Format, Rounding, ScalarFormat};

use crate::exact::{parts, single};

/// The posit of one bit more with the same scale, whose values at odd codes are the boundaries of the
/// nearest modes (Posit Standard 2022, section 4.1). `None` if there is none.
pub(crate) fn longer(posit: Posit) -> Option<Posit> {
    let (bits, text) = (posit.bits(), posit.to_string());
    let longer = text.replacen(&format!("({bits},"), &format!("({},", bits + 1), 1);
    match longer.parse() {
        Ok(Format::Posit(posit)) => Some(posit),
        _ => None,
    }
}

/// A scale as a fraction of two f32, one of which is 1, and its text.
#[derive(Clone, Copy)]
struct Scale(f32, f32);

impl Scale {
    fn posit(self, bits: u8, exponent_bits: u8) -> Posit {
        let posit = Posit::new(bits, exponent_bits).unwrap();
        match self {
            Self(times, 1.0) => posit.with_scale(times).unwrap(),
            Self(_, over) => posit.with_divisor(over).unwrap(),
        }
    }

    /// Compares `x` with the scale times `v`: `x * over` with `v * times`, all positive.
    fn compare(self, x: f32, v: f64) -> Ordering {
        let product = |a: f64, b: f32| {
            let ((m, i), (n, j)) = (parts(a), parts(b.into()));
            // Both have zeros at their ends: an f32 has 24 bits, a small posit fewer.
            ((m >> 29) * (n >> 29), i + j + 58)
        };
        let ((a, i), (b, j)) = (product(x.into(), self.1), product(v, self.0));
        let shift = i - j;
        assert!(shift.abs() < 75, "{x:e} {v:e}");
        (a << shift.max(0)).cmp(&(b << (-shift).max(0)))
    }

    /// The scale times `v`, rounded to f32; positive.
    fn value(self, v: f64) -> f32 {
        let ((m, i), (n, j), (d, k)) = (parts(v), parts(self.0.into()), parts(self.1.into()));
        let (numerator, denominator) = ((m >> 29) * (n >> 29), d >> 29);
        let exponent = i + j - k + 29;
        assert!(exponent.abs() < 75, "{v:e}");
        single(
            numerator << exponent.max(0),
            denominator << (-exponent).max(0),
        )
    }
}

const SCALES: [Scale; 9] = [
    Scale(0.3, 1.0),
    Scale(3.0, 1.0),
    Scale(1.999_999_9, 1.0),
    Scale(1.000_000_1, 1.0),
    Scale(0.000_012_345_678, 1.0),
    Scale(1.0, 3.0),
    Scale(1.0, 10.0),
    Scale(1.0, 0.7),
    Scale(1.0, 1.999_999_9),
];

/// A small posit with a scale, and from the one without: values above zero, which are known from
/// `posit.rs`, their products, and the boundaries above each value but the last.
struct Known {
    posit: Posit,
    scale: Scale,
    values: Vec<f32>,
    boundaries: Vec<f64>,
}

fn known() -> Vec<Known> {
    let mut all = Vec::new();
    for (bits, es) in [
        (2, 0),
        (3, 1),
        (4, 0),
        (5, 2),
        (6, 1),
        (8, 0),
        (8, 1),
        (10, 0),
    ] {
        let plain = Posit::new(bits, es).unwrap();
        let finer = Posit::new(bits + 1, es).unwrap();
        let last = (1u32 << (bits - 1)) - 1;
        for scale in SCALES {
            all.push(Known {
                posit: scale.posit(bits, es),
                scale,
                values: (1..=last)
                    .map(|code| scale.value(plain.decode(code)))
                    .collect(),
                boundaries: (1..last).map(|code| finer.decode(2 * code + 1)).collect(),
            });
        }
    }
    all
}

impl Known {
    /// Every value, the numbers beside it, those about each boundary and each middle of two values,
    /// and some between and beyond.
    fn inputs(&self) -> Vec<f32> {
        let scale = f64::from(self.scale.0) / f64::from(self.scale.1);
        let middles = self.values.windows(2).map(|pair| 0.5 * (pair[0] + pair[1]));
        let near = self.boundaries.iter().map(|b| (b * scale) as f32);
        let between = self
            .values
            .windows(2)
            .map(|pair| pair[0] + 0.3 * (pair[1] - pair[0]));
        let (first, last) = (self.values[0], self.values[self.values.len() - 1]);
        let ends = [0.4 * first, 1e-6 * first, 1.7 * last, 1e6 * last];
        self.values
            .iter()
            .copied()
            .chain(middles)
            .chain(near)
            .chain(between)
            .chain(ends)
            .flat_map(|x| {
                [
                    x.next_down().next_down(),
                    x.next_down(),
                    x,
                    x.next_up(),
                    x.next_up().next_up(),
                ]
            })
            .collect()
    }

    /// The index of the value that the nearest modes take.
    fn nearest(&self, x: f32, tie: Rounding) -> usize {
        let passed = |(index, &boundary): (usize, &f64)| match self.scale.compare(x, boundary) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => match tie {
                Rounding::NearestAway => true,
                Rounding::TowardZero => false,
                // The code of the value at `index` is `index + 1`; the even one gets the tie.
                _ => index % 2 == 0,
            },
        };
        self.boundaries
            .iter()
            .enumerate()
            .take_while(|b| passed(*b))
            .count()
    }

    /// The values on either side of a positive `x`; both are `x` where it is one.
    fn neighbours(&self, x: f32) -> (f32, f32) {
        let below = self.values.partition_point(|&value| value <= x);
        let lower = if below == 0 {
            0.0
        } else {
            self.values[below - 1]
        };
        let upper = self.values[below.min(self.values.len() - 1)];
        if lower == x { (x, x) } else { (lower, upper) }
    }
}

/// All values of small posits, all boundaries, middles and their neighbours, with both signs: the
/// values by rounding a product or quotient of integers, the nearest modes by comparing integers with
/// the boundaries, the others by searching in the list of values.
#[test]
fn small_posits_in_integers() {
    let mut compared = 0;
    for known in known() {
        let (posit, last) = (known.posit, known.values[known.values.len() - 1]);
        for (code, &value) in (1u32..).zip(&known.values) {
            assert_eq!(posit.decode_f32(code), value, "{posit} {code}");
            assert_eq!(
                posit.decode_f32(code.wrapping_neg()),
                -value,
                "{posit} {code}"
            );
        }
        for x in known.inputs() {
            let (lower, upper) = known.neighbours(x);
            let near = |tie| known.values[known.nearest(x, tie)];
            let odd = |value| posit.encode(value, Rounding::NearestEven, 0) % 2 == 1;
            for (mode, expected) in [
                (Rounding::NearestEven, near(Rounding::NearestEven)),
                (Rounding::NearestAway, near(Rounding::NearestAway)),
                (Rounding::NearestUp, near(Rounding::NearestAway)),
                (Rounding::TowardZero, lower),
                (Rounding::Down, lower),
                (Rounding::Up, upper),
                (Rounding::ToOdd, if odd(lower) { lower } else { upper }),
            ] {
                let name = || format!("{posit} {mode:?} {x:e}");
                let ours = posit.round(x, mode, 0);
                assert_eq!(ours, expected, "{}", name());
                let mirrored = match mode {
                    Rounding::Down => Rounding::Up,
                    Rounding::Up => Rounding::Down,
                    mode => mode,
                };
                let below = match mode {
                    Rounding::NearestUp => near(Rounding::TowardZero),
                    _ => expected,
                };
                assert_eq!(posit.round(-x, mirrored, 0), -below, "{}", name());
                let code = posit.encode(x, mode, 0);
                assert_eq!(posit.decode_f32(code), expected, "{}", name());
                assert_eq!(posit.round(ours, Rounding::Down, 0), ours, "{}", name());
                compared += 1;
            }
            assert!(lower <= x.min(last) && upper.min(last) <= last);
        }
    }
    assert!(compared > 800_000, "{compared}");
}

/// The definition: with `b` random bits, `floor(p 2^b)` of the `2^b` random numbers go up, where `p`
/// is the place of the number between its two neighbours, here in integers.
#[test]
fn stochastic_rounding_counts_the_distance_of_the_values() {
    const BITS: u8 = 6;
    let rounding = Rounding::Stochastic {
        seed: 0,
        stream: 0,
        bits: BITS,
    };
    for known in known().into_iter().filter(|known| known.posit.bits() <= 6) {
        for x in known.inputs() {
            let (lower, upper) = known.neighbours(x);
            let ups = (0..1u32 << BITS)
                .filter(|random| {
                    let ours = known.posit.round(x, rounding, random << (32 - BITS));
                    assert!(ours == lower || ours == upper, "{} {x:e}", known.posit);
                    ours == upper
                })
                .count();
            let in_steps = |y: f32| {
                let (m, i) = parts(y.into());
                let (_, place) = parts(x.into());
                let shift = i - place + 60;
                assert!((0..110).contains(&shift) || m == 0, "{x:e}");
                (m >> 29) << shift.max(0)
            };
            let expected = match upper == lower || x > upper {
                true => 1 << BITS,
                false => {
                    let (part, whole) = (
                        in_steps(x) - in_steps(lower),
                        in_steps(upper) - in_steps(lower),
                    );
                    (part << BITS) / whole
                }
            };
            assert_eq!(ups as i128, expected, "{} {x:e}", known.posit);
        }
    }
}

/// By hand. posit(3,0) has 1/2, 1 and 2. Over three they are 1/6, 1/3 and 2/3 rounded to f32, and part
/// at 1/4 and 1/2; times 3 they are 3/2, 3 and 6, and part at 9/4 and 9/2.
#[test]
fn three_bits_by_hand() {
    let thirds: Posit = Posit::new(3, 0).unwrap().with_divisor(3.0).unwrap();
    let triple: Posit = Posit::new(3, 0).unwrap().with_scale(3.0).unwrap();
    for (posit, x, expected) in [
        (thirds, 1e-9, 1.0 / 6.0),
        (thirds, 0.25f32.next_down(), 1.0 / 6.0),
        (thirds, 0.25, 1.0 / 3.0),
        (thirds, 0.5, 1.0 / 3.0),
        (thirds, 0.5f32.next_up(), 2.0 / 3.0),
        (thirds, -7.0, -2.0 / 3.0),
        (triple, 2.25f32.next_down(), 1.5),
        (triple, 2.25, 3.0),
        (triple, 4.5, 3.0),
        (triple, 4.6, 6.0),
    ] {
        assert_eq!(
            posit.round(x, Rounding::NearestEven, 0),
            expected,
            "{posit} {x}"
        );
    }
    assert_eq!(
        triple.values().unwrap(),
        [-6.0, -3.0, -1.5, 0.0, 1.5, 3.0, 6.0]
    );
    assert_eq!(
        (triple.largest(), triple.smallest(), triple.epsilon()),
        (6.0, 1.5, 1.0)
    );
    assert_eq!((thirds.min(), thirds.max()), (-2.0 / 3.0, 2.0 / 3.0));
    assert_eq!(
        (triple.scale(), triple.scale_log2(), thirds.scale_log2()),
        (3.0, 1, -2)
    );
    let facts = Format::Posit(triple).facts();
    assert_eq!(
        (facts.values, facts.min_positive, facts.max),
        (7, Some(1.5), 6.0)
    );
    assert!(thirds.round(f32::NEG_INFINITY, Rounding::Up, 0).is_nan());
    assert_eq!(thirds.round(-0.0, Rounding::Up, 0).to_bits(), 0);
}

/// 0.5 and 1/2 are powers of two, and so are written as before; so are all texts that were.
#[test]
fn texts_of_scales() {
    for (text, printed) in [
        ("posit(8,1,scale=0.5)", "posit(8,1,scale_log2=-1)"),
        ("posit(8,1,scale=1/32)", "posit(8,1,scale_log2=-5)"),
        ("posit(8,1,scale=1)", "posit(8,1)"),
        ("posit(8,1,scale= 1 / 3 )", "posit(8,1,scale=1/3)"),
        ("posit(8,1,scale=3e-1)", "posit(8,1,scale=0.3)"),
        ("posit(32,2,scale=4)", "posit(32,2,scale_log2=2)"),
    ] {
        let format: Format = text.parse().unwrap();
        assert_eq!(format.to_string(), printed, "{text}");
        assert_eq!(printed.parse::<Format>().unwrap(), format);
    }
    for (text, reason) in [
        (
            "posit(8,1,scale=0)",
            "posit: scale is 0, expected a positive number from 2^-64 to below 2^64",
        ),
        (
            "posit(8,1,scale=-3)",
            "posit: scale is -3, expected a positive number from 2^-64 to below 2^64",
        ),
        (
            "posit(8,1,scale=1/0)",
            "posit: scale is 0, expected a positive number from 2^-64 to below 2^64",
        ),
        (
            "posit(8,1,scale=inf)",
            "posit: scale is inf, expected a positive number from 2^-64 to below 2^64",
        ),
        (
            "posit(8,1,scale=2/3)",
            "scale `2/3` is neither a number nor 1/number",
        ),
        (
            "posit(8,1,scale=x)",
            "scale `x` is neither a number nor 1/number",
        ),
        (
            "posit(25,1,scale=1.5)",
            "posit: scale is 1.5, expected a power of two for more than 24 bits",
        ),
        (
            "posit(8,1,scale=2,scale_log2=1)",
            "`scale` and `scale_log2` contradict each other",
        ),
    ] {
        let error = text.parse::<Format>().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("unknown format `{text}`: {reason}")),
            "{error}"
        );
    }
}

/// At each end of the range of scales f32 ends before the posits do: a value stays what it is in every
/// mode, codes decode to the rounded number, and results ascend.
#[test]
fn scales_at_the_ends_of_their_range() {
    let scales = [
        Scale(1.5e-19, 1.0),
        Scale(1.7e19, 1.0),
        Scale(1.0, 1.5e-19),
        Scale(1.0, 1.7e19),
    ];
    let modes = Rounding::DETERMINISTIC
        .into_iter()
        .chain([Rounding::stochastic(0, 0)]);
    for (bits, es) in [
        (2, 4),
        (8, 2),
        (8, 4),
        (16, 3),
        (16, 4),
        (24, 0),
        (24, 3),
        (24, 4),
    ] {
        for posit in scales.map(|scale| scale.posit(bits, es)) {
            let inputs = (0..0x7F80_0000u32).step_by(300_007).chain(0..20);
            let mut inputs: Vec<f32> = inputs.map(f32::from_bits).chain([f32::MAX]).collect();
            inputs.sort_by(f32::total_cmp);
            for mode in modes.clone() {
                let mut previous = 0.0;
                for &x in &inputs {
                    let y = posit.round(x, mode, 0x8765_4321);
                    assert!(
                        y.is_finite() && y >= previous,
                        "{posit} {mode:?} {x:e} is {y:e}"
                    );
                    previous = y;
                    for again in modes.clone() {
                        let same = posit.round(y, again, 77).to_bits() == y.to_bits();
                        assert!(same, "{posit} {mode:?} {x:e} is {y:e}, then {again:?}");
                    }
                    let code = posit.encode(x, mode, 0x8765_4321);
                    assert_eq!(posit.decode_f32(code), y, "{posit} {mode:?} {x:e}");
                    let held = y > 0.0 || x == 0.0 || !mode.is_nearest();
                    assert!(held, "{posit} {x:e}");
                }
            }
        }
    }
}
