//! What must hold for any bytes: nothing panics, and ways to the same result agree.
//!
//! `cargo fuzz run texts` (or `kernels`, `codes`) in the crate's folder searches for bytes that
//! break it; `tests/suite/fuzz.rs` tries random ones in every test run.

// The test takes this file in as a module, out of which nothing is reached.
#![allow(unreachable_pub)]

use half::{bf16, f16};
use lowbit_formats::{BlockFormat, Format, FormatError, Layout, Number, Rounding, Scales, pack};

/// Bytes taken one after the other, zeros after the last.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    /// From 0 up to `limit`, without it.
    fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn pick<'b>(&mut self, from: &[&'b str]) -> &'b str {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Any bits, or a number of everyday size.
    fn number(&mut self) -> f32 {
        match self.below(4) {
            0 => f32::from_bits(self.word()),
            1 => f32::from(self.byte() as i8),
            _ => (f32::from(self.byte()) - 127.5) * 2f32.powi(i32::from(self.byte() as i8) / 8),
        }
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    fn rounding(&mut self) -> Rounding {
        match self.below(9) {
            other @ 0..=4 => Rounding::DETERMINISTIC[usize::from(other) + 1],
            5 | 6 => Rounding::Stochastic {
                seed: self.byte().into(),
                stream: self.byte().into(),
                bits: self.below(34),
            },
            _ => Rounding::NearestEven,
        }
    }

    /// The text of a format of any kind, which need not be valid.
    fn text(&mut self) -> String {
        let (a, b) = (self.below(34), self.below(26));
        let signed = i32::from(self.byte() as i8);
        match self.below(16) {
            0 => format!(
                "fixed({a},{signed}{})",
                self.pick(&["", ",wrap", ",symmetric", ",unbounded"])
            ),
            1 => format!(
                "ufixed({a},{signed}{})",
                self.pick(&["", ",wrap", ",unbounded"])
            ),
            2 => format!(
                "float({},{b}{}{}{})",
                a % 10,
                self.pick(&["", ",fn", ",fnuz", ",finite"]),
                self.pick(&["", ",flush"]),
                self.pick(&["", ",saturate", ",bias=3", ",bias=-9"]),
            ),
            3 => format!(
                "{}int{a}{}",
                self.pick(&["", "u"]),
                self.pick(&["", "(narrow)"])
            ),
            4 => format!("unit({b})"),
            5 => format!("posit({a},{},scale_log2={signed})", b % 6),
            6 => format!(
                "posit({a},{},scale={}{})",
                b % 6,
                self.pick(&["", "1/"]),
                self.number()
            ),
            7 => format!("{}({},{b})", self.pick(&["lns", "qpytorch"]), a % 10),
            8 => format!("pot({},max={signed})", a % 12),
            9 => format!("apot({})", a % 12),
            10 => {
                let numbers: Vec<String> = (0..=b).map(|_| self.number().to_string()).collect();
                let sign = self.pick(&["", ",sign", ",geometric=0.01", ",sign,geometric=0.5"]);
                format!("table({}{sign})", numbers.join(","))
            }
            11 => format!(
                "p3109({},{}{}{}{})",
                a % 18,
                b % 18,
                self.pick(&["", ",unsigned"]),
                self.pick(&["", ",finite"]),
                self.pick(&["", ",saturate", ",propagate"]),
            ),
            12 => format!("flag({},scale_log2={signed})", a % 14),
            13 => {
                let examples: Vec<&str> = Format::examples().collect();
                self.pick(&examples).into()
            }
            _ => self.block_text(),
        }
    }

    fn block_text(&mut self) -> String {
        let mut shared = String::new();
        if self.below(3) > 0 {
            shared += &format!(",block={}", self.below(40));
        }
        if self.below(2) > 0 {
            shared += &format!(",dim={}", self.below(4));
        }
        let rule = self.pick(&["", ",scale=ceil", ",scale=even", ",scale=up"]);
        let bits = self.below(26);
        if self.below(4) == 0 {
            return self.scaled_text(&shared);
        }
        let text = match self.below(8) {
            0 => format!("bfp({bits}{shared})"),
            1 => format!("mxfp8({}{shared}{rule})", self.pick(&["e4m3", "e5m2"])),
            2 => format!("mxfp6({}{shared}{rule})", self.pick(&["e3m2", "e2m3"])),
            3 => format!("mxfp4({shared}{rule})"),
            4 => format!("mxint8({shared}{rule})"),
            5 => format!("nvfp4({shared})"),
            6 => format!("affine({bits},symmetric{shared})"),
            _ => format!(
                "affine({bits}{}{shared})",
                self.pick(&["", ",unsigned", ",narrow"])
            ),
        };
        text.replace("(,", "(").replace("()", "")
    }

    fn scaled_text(&mut self, shared: &str) -> String {
        let elements = [
            "e4m3",
            "e5m2",
            "e2m1",
            "float(3,0)",
            "nf4",
            "bitsandbytes-fp4",
            "binary",
            "bitsandbytes-dynamic",
        ];
        let element = self.pick(&elements);
        let options = [
            "",
            ",scale=bf16",
            ",scale=fp16",
            ",reciprocal",
            ",double",
            ",eps=0.5",
            ",reciprocal,double",
            ",scale=bf16,eps=0.5",
        ];
        let option = self.pick(&options);
        match self.below(3) {
            0 => format!(
                "scaled({element},block={}x{}{option})",
                self.below(5),
                self.below(9)
            ),
            _ => format!("scaled({element}{shared}{option})"),
        }
    }

    /// Up to three dimensions, of which one may be empty, and up to about a thousand elements.
    fn shape(&mut self) -> Vec<usize> {
        (0..self.below(4))
            .map(|_| usize::from(self.below(11)))
            .collect()
    }
}

/// Any text is a format or a rounding, or gets an error of one line that suggests one.
pub fn texts(bytes: &[u8]) {
    let given = String::from_utf8_lossy(bytes);
    text_of_format(&given);
    text_of_format(&Bytes(bytes).text());
    match given.parse::<Rounding>() {
        Ok(rounding) => assert_eq!(rounding.to_string().parse(), Ok(rounding)),
        Err(error) => one_line(&given, &error),
    }
}

fn text_of_format(text: &str) {
    match text.parse::<Format>() {
        Ok(format) => {
            assert_eq!(format.to_string().parse(), Ok(format.clone()), "{text}");
            let facts = format.facts();
            assert!(
                facts.bits == format.bits() && facts.min <= facts.max,
                "{text}"
            );
        }
        Err(error) => {
            one_line(text, &error);
            let FormatError::Parse { nearest, .. } = error else {
                panic!("{text}: {error}");
            };
            let valid = nearest.is_empty() || nearest.parse::<Format>().is_ok();
            assert!(valid, "{text}: {nearest}");
        }
    }
}

fn one_line(text: &str, error: &FormatError) {
    let message = error.to_string();
    assert!(!message.contains('\n') || text.contains('\n'), "{message}");
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(same(*a, *b), "{what}: {a:e} and {b:e} at {i}");
    }
}

/// Out of place, in place, with strides and in half precision, a tensor gets the same numbers.
pub fn kernels(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let Ok(format) = bytes.text().parse::<Format>() else {
        return;
    };
    let (rounding, shape) = (bytes.rounding(), bytes.shape());
    let count = shape.iter().product();
    let input = bytes.numbers(count);
    let what = format!("{format} {rounding} {shape:?}");
    let mut output = vec![0.0; count];
    let mut in_place = input.clone();
    let rounded = format.quantize_shaped(&input, &shape, &mut output, rounding);
    assert_eq!(
        format.quantize_shaped_in_place(&mut in_place, &shape, rounding),
        rounded
    );
    // Three numbers do not fit a shape of another size.
    assert!(
        count == 3
            || format
                .quantize_shaped(&[0.0; 3], &shape, &mut [0.0; 3], rounding)
                .is_err()
    );
    strided(
        &format,
        rounding,
        &shape,
        &input,
        rounded.is_ok().then_some(&output[..]),
    );
    half::<f16>(&format, rounding, &shape, &input, f16::from_f32);
    half::<bf16>(&format, rounding, &shape, &input, bf16::from_f32);
    if rounded.is_err() {
        return;
    }
    assert_same(&in_place, &output, &what);
    let Format::Block(_) = format else {
        let philox = match rounding {
            Rounding::Stochastic { seed, stream, .. } => {
                lowbit_formats::philox::Philox::new(seed, stream)
            }
            _ => lowbit_formats::philox::Philox::new(0, 0),
        };
        let scalar: Vec<f32> = (0u64..)
            .zip(&input)
            .map(|(i, &x)| format.round(x, rounding, philox.word(i)))
            .collect();
        return assert_same(&output, &scalar, &what);
    };
}

/// The same tensor, its dimensions in opposite order and every other place unused.
fn strided(
    format: &Format,
    rounding: Rounding,
    shape: &[usize],
    input: &[f32],
    expected: Option<&[f32]>,
) {
    let mut stride = 2;
    let strides = shape.iter().map(|&extent| {
        let this = stride;
        stride *= extent as isize;
        this
    });
    let strides: Vec<isize> = strides.collect();
    let layout = Layout::new(shape, &strides, 1).unwrap();
    let mut data = vec![7.0; 2 * input.len() + 2];
    let whole = Layout::contiguous(shape).unwrap();
    let fp32: Format = "fp32".parse().unwrap();
    fp32.quantize_strided(input, &whole, &mut data, &layout, Rounding::NearestEven)
        .unwrap();
    let mut output = vec![0.0; input.len()];
    let rounded = format.quantize_strided(&data, &layout, &mut output, &whole, rounding);
    assert_eq!(
        rounded.is_ok(),
        expected.is_some(),
        "{format} {rounding} {shape:?}"
    );
    let Some(expected) = expected else { return };
    let what = format!("{format} {rounding} {shape:?} {strides:?}");
    if !(matches!(format, Format::Block(BlockFormat::Float(_))) && input.contains(&f32::INFINITY)) {
        assert_same(&output, expected, &what);
    }
    format
        .quantize_strided_in_place(&mut data, &layout, rounding)
        .unwrap();
    assert!(data.iter().step_by(2).all(|&x| x == 7.0), "{what}");
    let mut back = vec![0.0; input.len()];
    fp32.quantize_strided(&data, &layout, &mut back, &whole, Rounding::NearestEven)
        .unwrap();
    assert_same(&back, &output, &what);
}

/// Where a type holds all results, they are those of f32.
fn half<N: Number>(
    format: &Format,
    rounding: Rounding,
    shape: &[usize],
    input: &[f32],
    narrow: fn(f32) -> N,
) {
    let input: Vec<N> = input.iter().map(|&x| narrow(x)).collect();
    let mut output = input.clone();
    if format
        .quantize_half_shaped(&input, shape, &mut output, rounding)
        .is_err()
    {
        return;
    }
    let mut expected: Vec<f32> = input.iter().map(|x| x.widen()).collect();
    if let Format::Block(BlockFormat::Float(_)) = format {
        let limit = |x: &mut f32| *x = x.clamp(-N::LARGEST, N::LARGEST);
        expected.iter_mut().for_each(limit);
    }
    format
        .quantize_shaped_in_place(&mut expected, shape, rounding)
        .unwrap();
    for (half, single) in output.iter().zip(expected) {
        let beyond = half.widen().is_infinite() && single.abs() > N::LARGEST;
        assert!(
            same(half.widen(), single) || beyond,
            "{format} {rounding} {}: {:e} and {single:e}",
            N::NAME,
            half.widen(),
        );
    }
}

/// Codes are packed, unpacked and read again; damaged ones are errors or some number.
pub fn codes(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let Ok(format) = bytes.text().parse::<Format>() else {
        return;
    };
    let (rounding, shape) = (bytes.rounding(), bytes.shape());
    let count = shape.iter().product();
    let input = bytes.numbers(count);
    if let Format::Block(block) = &format {
        return block_codes(block, rounding, &shape, &input, &mut bytes);
    }
    let any: Vec<u32> = (0..count).map(|_| bytes.word()).collect();
    assert_eq!(format.decode(&any).len(), count);
    let Ok(codes) = format.encode(&input, rounding) else {
        assert!(rounding.validate().is_err());
        return;
    };
    let packed = pack::pack(&codes, format.bits()).unwrap();
    assert_eq!(packed.len(), pack::packed_size(count, format.bits()));
    let unpacked = pack::unpack(&packed, format.bits(), count).unwrap();
    assert_eq!(unpacked, codes, "{format}");
    assert!(pack::unpack(&packed, format.bits(), count + 9).is_err());
    let facts = format.facts();
    let rounded = format.quantize_to_vec(&input, rounding).unwrap();
    for (value, decoded) in rounded.into_iter().zip(format.decode(&codes)) {
        let held = match value {
            _ if value.is_nan() => facts.nan,
            _ if value.is_infinite() => facts.infinity,
            _ => facts.min <= value && value <= facts.max,
        };
        assert!(
            !held || same(value, decoded),
            "{format}: {value:e} and {decoded:e}"
        );
    }
}

fn block_codes(
    block: &BlockFormat,
    rounding: Rounding,
    shape: &[usize],
    input: &[f32],
    bytes: &mut Bytes<'_>,
) {
    let Ok(mut codes) = block.encode(input, shape, rounding) else {
        let mut output = vec![0.0; input.len()];
        assert!(block.quantize(input, shape, &mut output, rounding).is_err());
        return;
    };
    let mut expected = vec![0.0; input.len()];
    block
        .quantize(input, shape, &mut expected, rounding)
        .unwrap();
    let decoded = block.decode(&codes).unwrap();
    for (value, decoded) in expected.into_iter().zip(decoded) {
        let without_code = value.is_nan() && decoded == 0.0;
        assert!(
            value == decoded || same(value, decoded) || without_code,
            "{block}: {value:e} and {decoded:e}"
        );
    }
    match (bytes.below(4), &mut codes.scales) {
        (0, _) => drop(codes.elements.pop()),
        (1, _) => codes.shape.push(bytes.below(3).into()),
        (2, Scales::PowersOfTwo(scales) | Scales::Float8 { blocks: scales, .. }) => {
            scales.iter_mut().for_each(|scale| *scale = bytes.byte());
        }
        _ => codes
            .elements
            .iter_mut()
            .for_each(|code| *code = bytes.byte()),
    }
    // An error or numbers, but no panic.
    drop(block.decode(&codes));
}
