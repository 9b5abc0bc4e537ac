use super::*;

/// The definition, without a limit of bits: floor of a fraction plus a half, whose ties are told apart.
fn rounded([x, m, o, shift]: [i128; 4], mode: usize) -> i128 {
    let v = m * x + o;
    let (floor, rest, unit) = (v >> shift, v & ((1 << shift) - 1), 1i128 << shift);
    let up = match (mode, (2 * rest).cmp(&unit)) {
        (0, _) | (_, std::cmp::Ordering::Less) => false,
        (1, std::cmp::Ordering::Equal) => floor & 1 == 1,
        (2, std::cmp::Ordering::Equal) => v >= 0,
        _ => true,
    };
    floor + i128::from(up && rest > 0)
}

/// Down, half to even, half away from zero, as the scales say it.
fn rounding<W: From<i32>>(
    shifts: &[u32],
    mode: usize,
    wide: impl Fn(i64) -> W,
) -> Option<Rounding<W>> {
    let of = |f: &dyn Fn(i64, i64) -> i64| {
        let each = shifts.iter().map(|&s| {
            let half = if s == 0 { 0 } else { 1 << (s - 1) };
            wide(f(half, i64::from(s > 0)))
        });
        each.collect()
    };
    (mode > 0).then(|| Rounding {
        add: of(&|half, nearest| if mode == 1 { half - nearest } else { half }),
        even: of(&|_, nearest| if mode == 1 { nearest } else { 0 }),
        away: of(&|_, nearest| if mode == 2 { nearest } else { 0 }),
        zero: W::from(3),
    })
}

fn check<X: Number, Y: Number>(numbers: &[X], [channels, line]: [usize; 2], limits: Limits) {
    let shifts: Vec<u32> = (0..channels as u32).map(|c| c % 5).collect();
    let x: Vec<X> = numbers.iter().copied().cycle().take(7 * line).collect();
    for (mode, long) in [
        (0, false),
        (1, false),
        (2, false),
        (0, true),
        (1, true),
        (2, true),
    ] {
        let more = if long { 27 } else { 0 };
        let m = |c: usize| (1 + 3 * c as i64 % 11) << more;
        let o = |c: usize| (c as i64 * 37 % 101 - 50) << more;
        let all = shifts.iter().map(|&s| s + more).collect::<Vec<u32>>();
        let channel = || 0..channels;
        let arithmetic = if long {
            Arithmetic::Longs(Scales {
                multiplier: channel().map(m).collect(),
                offset: channel().map(o).collect(),
                shift: all.iter().map(|&s| s.into()).collect(),
                rounding: rounding(&all, mode, |x| x),
            })
        } else {
            Arithmetic::Words(Scales {
                multiplier: channel().map(|c| m(c) as i32).collect(),
                offset: channel().map(|c| o(c) as i32).collect(),
                shift: all.iter().map(|&s| s as i32).collect(),
                rounding: rounding(&all, mode, |x| x as i32),
            })
        };
        let mut y = vec![Y::of(0); 7 * channels];
        Requantization::new(arithmetic, limits).lines(&x, line, &mut y, channels);
        let zero = if mode == 0 { 0 } else { 3 };
        for (place, y) in y.iter().enumerate() {
            let (pixel, c) = (place / channels, place % channels);
            let x = i128::from(x[pixel * line + c].get());
            let number = rounded([x, m(c).into(), o(c).into(), all[c].into()], mode) + zero;
            let expected = number.clamp(limits.least.into(), limits.greatest.into());
            assert_eq!(i128::from(y.get()), expected, "{mode} {long} {place}");
        }
    }
}

#[test]
fn numbers_of_all_widths_are_rounded_as_defined() {
    let limits = |least, greatest| Limits { least, greatest };
    let words: Vec<i32> = (0..97).map(|i| i * i * i * 7 - 300_000).collect();
    let shorts: Vec<i16> = (0..97).map(|i| (i - 48) * 600).collect();
    let bytes: Vec<u8> = (0..97).map(|i| (i * 11 % 256) as u8).collect();
    for sizes in [
        [1, 1],
        [3, 16],
        [16, 16],
        [10, 10],
        [64, 64],
        [300, 300],
        [70, 80],
    ] {
        check::<i32, u8>(&words, sizes, limits(0, 255));
        check::<i16, u8>(&shorts, sizes, limits(5, 99));
        check::<u8, i16>(&bytes, sizes, limits(-300, 3000));
        check::<i32, i32>(&words, sizes, limits(-500_000, 400_000));
        check::<i16, i16>(&shorts, sizes, limits(-30_000, 32_000));
    }
}

/// With limits on both sides, within and beyond what the numbers are.
#[test]
fn numbers_are_added_to_within_limits() {
    let x: Vec<i16> = (-300..300).collect();
    for (more, least, greatest) in [(128, 0, 255), (-40_000, -40_100, -39_950), (0, -500, 500)] {
        let added = Requantization::new(Arithmetic::Added(more), Limits { least, greatest });
        let mut y = vec![0i32; x.len()];
        added.lines(&x, x.len(), &mut y, x.len());
        let expected = x
            .iter()
            .map(|&x| (i32::from(x) + more).clamp(least, greatest));
        assert!(y.iter().copied().eq(expected), "{more}");
    }
}

/// By hand: -3 2 + 5 7 - 1, and so on; bytes of -1 are those of 255.
#[test]
fn sums_by_hand() {
    let mut sums = [0i16; 3];
    sums_of(&[-3i16, 0, 9], &[5u8, 1, 255], [2, 7, -1], &mut sums);
    assert_eq!(sums, [28, 6, 1802]);
    let mut bytes = [0u8; 1];
    sums_of(&[1u8], &[2u8], [-3, 1, 0], &mut bytes);
    assert_eq!(bytes, [255]);
    let mut totals = [1, 2];
    add_pixels(&[3i16, -4, 5, 6], &mut totals);
    assert_eq!(totals, [9, 4]);
}
