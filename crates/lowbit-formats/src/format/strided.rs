//! Slices of any type of number, contiguous or with strides.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, TryLockError};

use crate::block::pass::Buffer;
use crate::block::{BlockFormat, Granularity};
use crate::error::FormatError;
use crate::format::Format;
use crate::kernel;
use crate::kernel::{ChannelsLast, Layout, Number};
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;
use crate::scalar::QuantizeImages;

/// How many answers of [`Format::fits`] are kept.
const KEPT: usize = 1 << 10;

/// What [`Format::fits`] has found, since it looks at every number of a type.
static FITS: LazyLock<Mutex<HashMap<(Format, &'static str), bool>>> = LazyLock::new(Mutex::default);

impl Format {
    /// As [`quantize`](Self::quantize) for `f16` or `bf16`: each number is widened to f32, rounded,
    /// and narrowed, which changes nothing.
    ///
    /// # Errors
    ///
    /// As [`quantize_strided`](Self::quantize_strided).
    pub fn quantize_half<N: Number>(
        &self,
        input: &[N],
        output: &mut [N],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        self.quantize_half_shaped(input, &[input.len()], output, rounding)
    }

    /// As [`quantize_shaped`](Self::quantize_shaped) for `f16` or `bf16`.
    ///
    /// # Errors
    ///
    /// As [`quantize_strided`](Self::quantize_strided).
    pub fn quantize_half_shaped<N: Number>(
        &self,
        input: &[N],
        shape: &[usize],
        output: &mut [N],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        crate::scalar::check_slices(input.len(), output.len(), rounding)?;
        Granularity::Tensor.check(input.len(), shape)?;
        let layout = Layout::contiguous(shape)?;
        self.quantize_strided(input, &layout, output, &layout, rounding)
    }

    /// Rounds a tensor that lies anywhere in a slice into one that lies anywhere in another:
    /// element `i` of `to` becomes element `i` of `from` rounded, where elements count in row-major
    /// order. In stochastic rounding it takes word `i` of the generator, so that the numbers are
    /// those of the same tensor without gaps. What lies between the elements of `to` is left alone.
    ///
    /// Block formats copy the tensor, since its scales come before its elements, but for a tensor
    /// of f32 without gaps that is not rounded at random. An infinity among
    /// block floating-point words counts as the largest number of type `N`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Strides`] if a layout does not fit its slice or two elements of `to` share a
    /// place, [`FormatError::Shape`] if the shapes differ or lack the format's dimension,
    /// [`FormatError::Parameter`] if the number of random bits is not in 1..=32, and
    /// [`FormatError::Unsupported`] if rounding a number of type `N` may give one that the type
    /// does not hold. Those of scales that are not powers of two (`nvfp4`, `affine`, `scaled`) always may;
    /// with powers of two a result is the input or coarser, and fits, unless a scale rule of
    /// microscaling lets it round up beyond the type's largest number: it becomes infinity, as in
    /// f32.
    pub fn quantize_strided<N: Number>(
        &self,
        input: &[N],
        from: &Layout,
        output: &mut [N],
        to: &Layout,
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        rounding.validate()?;
        from.check(input.len())?;
        to.check_writable(output.len())?;
        if from.shape() != to.shape() {
            return Err(FormatError::Shape {
                shape: to.shape().to_vec(),
                expected: format!("{:?}, the input's", from.shape()),
            });
        }
        self.check_type::<N>()?;
        if let Self::Block(format) = self {
            if from == to
                && [input.len(), output.len()] == [from.elements(); 2]
                && let (Some(input), Some(output)) = (N::singles(input), N::singles_mut(output))
            {
                let buffer = Buffer::Pair(input, output);
                if let Some(done) = format.quantize_stored(buffer, from, rounding) {
                    return done;
                }
            }
            let mut copy = copied(input, from, format)?;
            self.quantize_shaped_in_place(&mut copy, from.shape(), rounding)?;
            return restore(&copy, output, to);
        }
        if let Some(philox) = words_of(rounding)
            && from == to
            && output.len() == input.len()
            && let Some(images) = ChannelsLast::of(from, input.len())
            && let (Some(input), Some(output)) = (N::singles(input), N::singles_mut(output))
        {
            self.quantize_images(Some(input), output, images, philox);
            return Ok(());
        }
        kernel::map_parts(
            (input, from),
            (output, to),
            #[inline(always)]
            |x: N| x.widen(),
            |part, skipped| self.quantize_part(part, rounding, skipped),
            #[inline(always)]
            |x| N::narrow(x),
        );
        Ok(())
    }

    /// As [`quantize_strided`](Self::quantize_strided), in place.
    ///
    /// # Errors
    ///
    /// As [`quantize_strided`](Self::quantize_strided).
    pub fn quantize_strided_in_place<N: Number>(
        &self,
        data: &mut [N],
        layout: &Layout,
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        rounding.validate()?;
        layout.check_writable(data.len())?;
        self.check_type::<N>()?;
        if let Self::Block(format) = self {
            if data.len() == layout.elements()
                && let Some(data) = N::singles_mut(data)
                && let Some(done) = format.quantize_stored(Buffer::InPlace(data), layout, rounding)
            {
                return done;
            }
            let mut copy = copied(data, layout, format)?;
            self.quantize_shaped_in_place(&mut copy, layout.shape(), rounding)?;
            return restore(&copy, data, layout);
        }
        if let Some(philox) = words_of(rounding)
            && let Some(images) = ChannelsLast::of(layout, data.len())
            && let Some(data) = N::singles_mut(data)
        {
            self.quantize_images(None, data, images, philox);
            return Ok(());
        }
        kernel::map_parts_in_place(
            (data, layout),
            #[inline(always)]
            |x: N| x.widen(),
            |part, skipped| self.quantize_part(part, rounding, skipped),
            #[inline(always)]
            |x| N::narrow(x),
        );
        Ok(())
    }

    /// Rounds images where they lie, with random words and how many of their bits count.
    fn quantize_images(
        &self,
        input: Option<&[f32]>,
        output: &mut [f32],
        images: ChannelsLast,
        (philox, bits): (Philox, u8),
    ) {
        self.apply(QuantizeImages {
            input,
            output,
            images,
            philox,
            bits,
        });
    }

    fn check_type<N: Number>(&self) -> Result<(), FormatError> {
        if self.fits::<N>() {
            return Ok(());
        }
        Err(FormatError::Unsupported {
            format: self.to_string(),
            operation: format!("{} slices, which do not hold all its results", N::NAME),
        })
    }

    /// Whether rounding a number of the type always gives one: in every mode, since the modes
    /// choose between the neighbours below and above, but for what nearest makes of an overflow.
    fn fits<N: Number>(&self) -> bool {
        if let Self::Block(format) = self {
            return format.is_closed() || N::every().is_none();
        }
        let Some(numbers) = N::every() else {
            return true;
        };
        let key = (self.clone(), N::NAME);
        if let Some(&fits) = known().as_ref().and_then(|known| known.get(&key)) {
            return fits;
        }
        let modes = [Rounding::Down, Rounding::Up, Rounding::NearestEven];
        let fits = modes.into_iter().all(|mode| {
            let mut rounded = numbers.clone();
            self.quantize_part(&mut rounded, mode, 0);
            let held = |x: f32| N::narrow(x).widen() == x || x.is_nan();
            rounded.into_iter().all(held)
        });
        if let Some(mut known) = known() {
            if known.len() >= KEPT {
                known.clear();
            }
            known.insert(key, fits);
        }
        fits
    }
}

/// What was found, unless another thread has it: in a process that was forked meanwhile, that thread does
/// not exist, and the answer is found once more.
fn known() -> Option<MutexGuard<'static, HashMap<(Format, &'static str), bool>>> {
    match FITS.try_lock() {
        Ok(known) => Some(known),
        // A thread that panicked while it held the lock left a whole map.
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The random words of a rounding, if it takes any, and how many of their bits count.
fn words_of(rounding: Rounding) -> Option<(Philox, u8)> {
    match rounding {
        Rounding::Stochastic { seed, stream, bits } => Some((Philox::new(seed, stream), bits)),
        _ => None,
    }
}

/// A tensor without gaps, as f32, for the format to round.
fn copied<N: Number>(
    input: &[N],
    from: &Layout,
    format: &BlockFormat,
) -> Result<Vec<f32>, FormatError> {
    let infinity = if format.has_infinity() {
        f32::INFINITY
    } else {
        N::LARGEST
    };
    let mut copy = vec![0.0; from.elements()];
    let contiguous = Layout::contiguous(&[copy.len()])?;
    kernel::map_parts(
        (input, from),
        (&mut copy, &contiguous),
        #[inline(always)]
        |x: N| {
            let x = x.widen();
            if x.is_infinite() {
                infinity.copysign(x)
            } else {
                x
            }
        },
        |_, _| {},
        #[inline(always)]
        |x| x,
    );
    Ok(copy)
}

/// Writes such a tensor back.
fn restore<N: Number>(copy: &[f32], output: &mut [N], to: &Layout) -> Result<(), FormatError> {
    let contiguous = Layout::contiguous(&[copy.len()])?;
    kernel::map_parts(
        (copy, &contiguous),
        (output, to),
        #[inline(always)]
        |x: f32| x,
        |_, _| {},
        #[inline(always)]
        |x| N::narrow(x),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    const MODES: [Rounding; 4] = [
        Rounding::NearestEven,
        Rounding::Up,
        Rounding::TowardZero,
        Rounding::stochastic(1, 2),
    ];

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    /// Every number of the type, rounded as itself and as f32.
    fn rounds_as_f32_does<N: Number>(every: &[N], texts: &[&str]) {
        let mut output = every.to_vec();
        let wide: Vec<f32> = every.iter().map(|x| x.widen()).collect();
        for (text, rounding) in texts.iter().flat_map(|t| MODES.map(|mode| (t, mode))) {
            let format = parse(text);
            format.quantize_half(every, &mut output, rounding).unwrap();
            let mut expected = wide.clone();
            if text.starts_with("bfp") {
                let limit = |x: &mut f32| *x = x.clamp(-N::LARGEST, N::LARGEST);
                expected.iter_mut().for_each(limit);
            }
            format.quantize_in_place(&mut expected, rounding).unwrap();
            for ((half, single), x) in output.iter().zip(expected).zip(&wide) {
                let half = half.widen();
                assert!(same(half, single), "{text} {rounding} {x}: {half} {single}");
            }
        }
    }

    const SHARED: [&str; 8] = [
        "e4m3",
        "e5m2",
        "fixed(8,6)",
        "e2m1",
        "bfp(8)",
        "bfp(6,block=16)",
        "mxfp8(e4m3)",
        "mxfp4",
    ];

    /// Images whose channels lie together, against a row-major copy of them.
    #[test]
    fn the_order_of_dimensions_changes_no_number() {
        let (images, channels, pixels) = (2, 21, 1024);
        let (c, p) = (channels as isize, pixels as isize);
        let last = Layout::new(&[images, channels, pixels], &[c * p, 1, c], 0).unwrap();
        let rows = Layout::contiguous(&[images, channels, pixels]).unwrap();
        let length = images * channels * pixels;
        let input: Vec<f32> = (0..length).map(|i| ((i * i) as f32).sin() * 3.0).collect();
        let texts = [
            "e4m3",
            "bfp(8)",
            "bfp(6,dim=0)",
            "bfp(6,dim=1)",
            "bfp(6,dim=2)",
            "bfp(5,block=4,dim=1)",
            "affine(8)",
            "mxfp4",
            "mxfp4(dim=1)",
            "nvfp4",
            "nvfp4(dim=1)",
            "scaled(e4m3,block=8,dim=0)",
            "scaled(e4m3,block=4x16)",
            "scaled(bitsandbytes-nf4,block=64,double)",
        ];
        for (text, rounding) in texts.iter().flat_map(|t| MODES.map(|mode| (t, mode))) {
            let format = parse(text);
            let mut expected = vec![0.0; length];
            format
                .quantize_strided(&input, &last, &mut expected, &rows, rounding)
                .unwrap();
            let mut out = vec![0.0; length];
            format
                .quantize_strided(&input, &last, &mut out, &last, rounding)
                .unwrap();
            let mut in_place = input.clone();
            format
                .quantize_strided_in_place(&mut in_place, &last, rounding)
                .unwrap();
            assert_eq!(in_place, out, "{text} {rounding}");
            for (i, expected) in expected.into_iter().enumerate() {
                let (image, channel, pixel) =
                    (i / (channels * pixels), i / pixels % channels, i % pixels);
                let place = (image * pixels + pixel) * channels + channel;
                assert_eq!(out[place], expected, "{text} {rounding} {i}");
            }
        }
    }

    #[test]
    fn f16_slices_round_as_f32_does() {
        let every: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        rounds_as_f32_does(&every, &SHARED);
        rounds_as_f32_does(&every, &["fp16", "fixed(12,4)", "mxint8"]);
        // With this rule 65504 has the scale 2^16, at which it is 63.97 / 64 and rounds to 64 / 64.
        let mut output = [f16::ZERO];
        parse("mxint8(scale=up)")
            .quantize_half(&[f16::MAX], &mut output, Rounding::NearestEven)
            .unwrap();
        assert_eq!(output, [f16::INFINITY]);
    }

    /// QPyTorch's `Positbf` path: posits of 16 bits with bfloat16 in and out.
    #[test]
    fn bf16_slices_round_as_f32_does() {
        let every: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        rounds_as_f32_does(&every, &SHARED);
        let posits = ["posit(8,0)", "posit(16,1)", "posit(16,2)", "posit(32,2)"];
        rounds_as_f32_does(&every, &posits);
        let format = crate::Posit::new(16, 1).unwrap();
        let mut output = every.clone();
        let nearest = Rounding::NearestEven;
        Format::Posit(format)
            .quantize_half(&every, &mut output, nearest)
            .unwrap();
        for (x, y) in every.iter().zip(output) {
            assert!(same(format.round_bf16(*x, nearest, 0).to_f32(), y.to_f32()));
        }
    }

    #[test]
    fn types_that_do_not_hold_the_results_are_refused() {
        let halves = [f16::ONE; 4];
        for text in ["bf16", "unit(4)", "nf4", "nvfp4", "affine(8)", "posit(4,4)"] {
            let rounded = parse(text).quantize_half(&halves, &mut halves.clone(), Rounding::Up);
            let message = rounded.unwrap_err().to_string();
            assert!(message.contains("f16 slices"), "{message}");
        }
        // f32 holds everything.
        let mut output = [0.0; 2];
        let format = parse("nvfp4");
        format
            .quantize_half(&[1.0, 2.0], &mut output, Rounding::Up)
            .unwrap();
    }

    /// A transposed and reversed part of a larger matrix, against the same numbers side by side.
    #[test]
    fn strides_change_places_and_nothing_else() {
        const ROWS: usize = 300;
        const COLUMNS: usize = 200;
        let numbers: Vec<f32> = (0..ROWS * COLUMNS)
            .map(|i| (i * 7919 % 10_007) as f32 / 1000.0 - 5.0)
            .collect();
        // Every other column from the last but one, and all rows but the last.
        let shape = [COLUMNS / 2, ROWS - 1];
        let view = Layout::new(&shape, &[-2, COLUMNS as isize], COLUMNS - 2).unwrap();
        let at = |i: usize| {
            let (column, row) = (i / shape[1], i % shape[1]);
            row * COLUMNS + COLUMNS - 2 - 2 * column
        };
        let dense: Vec<f32> = (0..view.elements()).map(|i| numbers[at(i)]).collect();
        let contiguous = Layout::contiguous(&shape).unwrap();
        for (text, rounding) in ["e4m3", "int4", "nf4", "mxfp4", "bfp(6,dim=0)", "nvfp4"]
            .into_iter()
            .flat_map(|text| MODES.map(|mode| (text, mode)))
        {
            let format = parse(text);
            let mut expected = vec![0.0; dense.len()];
            format
                .quantize_shaped(&dense, &shape, &mut expected, rounding)
                .unwrap();
            let mut output = vec![0.0; dense.len()];
            format
                .quantize_strided(&numbers, &view, &mut output, &contiguous, rounding)
                .unwrap();
            assert!(output == expected, "{text} {rounding}");
            let mut data = numbers.clone();
            format
                .quantize_strided_in_place(&mut data, &view, rounding)
                .unwrap();
            let mut left = numbers.clone();
            for (i, y) in expected.iter().enumerate() {
                assert_eq!(data[at(i)], *y, "{text} {rounding}");
                (data[at(i)], left[at(i)]) = (0.0, 0.0);
            }
            assert!(
                data == left,
                "{text}: something between the elements changed"
            );
        }
    }

    #[test]
    fn bad_layouts_are_errors() {
        let format = parse("int8");
        let layout = |shape: &[usize], strides: &[isize]| Layout::new(shape, strides, 0).unwrap();
        let (pair, apart, shared) = (layout(&[2], &[1]), layout(&[2], &[9]), layout(&[2], &[0]));
        let mut data = [0.0; 4];
        let nearest = Rounding::NearestEven;
        let mut run = |from: &Layout, to: &Layout| {
            format.quantize_strided(&[1.0; 4], from, &mut data, to, nearest)
        };
        assert!(run(&pair, &pair).is_ok() && run(&shared, &pair).is_ok());
        assert!(run(&apart, &pair).is_err() && run(&pair, &apart).is_err());
        assert!(run(&pair, &shared).is_err() && run(&layout(&[3], &[1]), &pair).is_err());
        assert!(
            format
                .quantize_strided_in_place(&mut data, &shared, nearest)
                .is_err()
        );
        let empty = Layout::contiguous(&[0, 5]).unwrap();
        for text in ["int8", "nvfp4", "bfp(8,dim=1)"] {
            let mut nothing: [f32; 0] = [];
            parse(text)
                .quantize_strided_in_place(&mut nothing, &empty, nearest)
                .unwrap();
        }
    }
}
