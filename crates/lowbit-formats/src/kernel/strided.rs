//! Passes over tensors that lie anywhere in a slice, of any type of number.

use rayon::prelude::*;

use crate::kernel::Layout;
use crate::kernel::{BUFFER, CHUNK, Element, PARALLEL, as_uninit, lanes};
use crate::rounding::philox::GROUP;

/// `output[to(i)] = narrow(pass(widen(input[from(i)])))` for each element `i` of the layouts, where
/// `pass` changes a part of at most 1,024 numbers that stays in the first cache. Its second
/// argument says how many groups of random words ([`GROUP`]) come before the part.
///
/// # Panics
///
/// If the layouts differ in the number of elements, do not fit the slices, or two elements of `to`
/// share a place.
pub(crate) fn map_parts<T: Element, U: Element>(
    (input, from): (&[T], &Layout),
    (output, to): (&mut [U], &Layout),
    widen: impl Fn(T) -> f32 + Sync + Copy,
    pass: impl Fn(&mut [f32], u64) + Sync,
    narrow: impl Fn(f32) -> U + Sync + Copy,
) {
    assert_eq!(from.elements(), to.elements(), "tensors differ in size");
    assert_eq!(from.check(input.len()), Ok(()));
    assert_eq!(to.check_writable(output.len()), Ok(()));
    let places = Places {
        input: input.as_ptr(),
        output: output.as_mut_ptr(),
    };
    // SAFETY: all places lie within the slices, no two elements share one of the output's, and
    // the slices do not overlap, as one of them is borrowed exclusively.
    unsafe { places.map_parts(from, to, widen, pass, narrow) };
}

/// As [`map_parts`], in place.
///
/// # Panics
///
/// If the layout does not fit the slice, or two elements share a place.
pub(crate) fn map_parts_in_place<T: Element>(
    (data, layout): (&mut [T], &Layout),
    widen: impl Fn(T) -> f32 + Sync + Copy,
    pass: impl Fn(&mut [f32], u64) + Sync,
    narrow: impl Fn(f32) -> T + Sync + Copy,
) {
    assert_eq!(layout.check_writable(data.len()), Ok(()));
    let output = data.as_mut_ptr();
    let places = Places {
        input: output.cast_const(),
        output,
    };
    // SAFETY: all places lie within the slice, and no two elements share one.
    unsafe { places.map_parts(layout, layout, widen, pass, narrow) };
}

/// Elements of a tile: with what lies beside them, half of the first cache.
const TILE: usize = 1 << 12;

/// Where a pass reads and where it writes.
struct Places<T, U> {
    input: *const T,
    output: *mut U,
}

// SAFETY: threads read and write the places of their own elements only, and plain numbers may
// cross threads.
unsafe impl<T: Element, U: Element> Sync for Places<T, U> {}

impl<T: Element, U: Element> Places<T, U> {
    /// # Safety
    ///
    /// The places of `from` may be read through `input`, those of `to` written through `output`;
    /// no two elements of `to` share a place, and an element's place in the output is no other
    /// element's place in the input.
    unsafe fn map_parts(
        &self,
        from: &Layout,
        to: &Layout,
        widen: impl Fn(T) -> f32 + Sync + Copy,
        pass: impl Fn(&mut [f32], u64) + Sync,
        narrow: impl Fn(f32) -> U + Sync + Copy,
    ) {
        let order = Order::of(from, to);
        let unit = |unit: usize| {
            let mut buffer = [0.0; BUFFER];
            order.parts(unit, |first, length| {
                let part = &mut buffer[..length];
                // SAFETY: as the caller promises; a part is handed to one thread.
                unsafe { self.gather(from, first, part, widen) };
                pass(part, (first / GROUP) as u64);
                unsafe { self.scatter(to, first, part, narrow) };
            });
        };
        if from.elements() < PARALLEL {
            (0..order.units()).for_each(unit);
        } else {
            (0..order.units()).into_par_iter().for_each(unit);
        }
    }

    /// # Safety
    ///
    /// The places may be read, and are not written meanwhile.
    unsafe fn gather(
        &self,
        from: &Layout,
        first: usize,
        part: &mut [f32],
        widen: impl Fn(T) -> f32 + Copy,
    ) {
        let mut done = 0;
        from.runs(first, part.len(), |place, count, stride| {
            let part = &mut part[done..done + count];
            done += count;
            // SAFETY: `place` and what follows it are places of the layout.
            let start = unsafe { self.input.add(place) };
            if stride == 1 {
                let run = unsafe { std::slice::from_raw_parts(start, count) };
                return lanes::map(run, as_uninit(part), widen);
            }
            for (i, x) in part.iter_mut().enumerate() {
                *x = widen(unsafe { *start.offset(i as isize * stride) });
            }
        });
    }

    /// # Safety
    ///
    /// The places may be written, and are not read meanwhile.
    unsafe fn scatter(
        &self,
        to: &Layout,
        first: usize,
        part: &[f32],
        narrow: impl Fn(f32) -> U + Copy,
    ) {
        let mut done = 0;
        to.runs(first, part.len(), |place, count, stride| {
            let part = &part[done..done + count];
            done += count;
            // SAFETY: `place` and what follows it are places of the layout.
            let start = unsafe { self.output.add(place) };
            if stride == 1 {
                let run = unsafe { std::slice::from_raw_parts_mut(start, count) };
                return lanes::map(part, as_uninit(run), narrow);
            }
            for (i, &x) in part.iter().enumerate() {
                unsafe { *start.offset(i as isize * stride) = narrow(x) };
            }
        });
    }
}

/// The order in which parts are passed: units that threads take, of several parts each.
enum Order {
    /// One after the other, so many elements.
    Rows { elements: usize },
    /// So many elements, in rows of which neighbours lie side by side, as where a tensor of images
    /// has its channels last: the same places of all neighbours, a tile, stay in the first cache.
    Tiles {
        elements: usize,
        neighbours: usize,
        row: usize,
        /// Elements of a row that a tile has.
        width: usize,
    },
}

impl Order {
    /// Tiles where rows are whole groups of random words.
    fn of(from: &Layout, to: &Layout) -> Self {
        let elements = from.elements();
        match from.interleaved().or(to.interleaved()) {
            Some((neighbours, row)) if row.is_multiple_of(GROUP) => {
                let width = (TILE / neighbours).clamp(2 * GROUP, BUFFER) / GROUP * GROUP;
                Self::Tiles {
                    elements,
                    neighbours,
                    row,
                    width: width.min(row),
                }
            }
            _ => Self::Rows { elements },
        }
    }

    fn units(&self) -> usize {
        match *self {
            Self::Rows { elements } => elements.div_ceil(CHUNK),
            Self::Tiles {
                elements,
                neighbours,
                row,
                width,
            } => elements / (neighbours * row) * row.div_ceil(width),
        }
    }

    /// Calls `part` with the first element and the length of each part of a unit.
    fn parts(&self, unit: usize, mut part: impl FnMut(usize, usize)) {
        match *self {
            Self::Rows { elements } => {
                let end = elements.min((unit + 1) * CHUNK);
                for first in (unit * CHUNK..end).step_by(BUFFER) {
                    part(first, BUFFER.min(end - first));
                }
            }
            Self::Tiles {
                neighbours,
                row,
                width,
                ..
            } => {
                let tiles = row.div_ceil(width);
                let (rows, column) = (unit / tiles * neighbours, unit % tiles * width);
                for i in rows..rows + neighbours {
                    part(i * row + column, width.min(row - column));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 5] = [0, 1, 1000, CHUNK + 7, 3 * PARALLEL + 11];

    /// Doubling plus the number of groups before the part shows order and place.
    fn pass(part: &mut [f32], groups: u64) {
        part.iter_mut().for_each(|x| *x = 2.0 * *x + groups as f32);
    }

    fn expected(length: usize) -> Vec<f32> {
        let groups = |i: usize| (i / BUFFER * BUFFER / GROUP) as f32;
        (0..length).map(|i| 2.0 * i as f32 + groups(i)).collect()
    }

    #[test]
    fn parts_are_mapped_in_order() {
        for length in LENGTHS {
            let input: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let contiguous = Layout::contiguous(&[length]).unwrap();
            // Backwards, with gaps.
            let sparse = Layout::new(&[length], &[-3], 3 * length).unwrap();
            let mut output = vec![-1.0; 3 * length + 1];
            let same = |x: f32| x;
            let target = (&mut output[..], &sparse);
            map_parts((&input, &contiguous), target, same, pass, same);
            for (i, y) in expected(length).into_iter().enumerate() {
                assert_eq!(output[3 * (length - i)], y);
            }
            let gaps = output.iter().enumerate();
            let mut gaps = gaps.filter(|(i, _)| i % 3 != 0 || *i == 0);
            assert!(gaps.all(|(_, &y)| y == -1.0));
            let mut data = vec![-1.0; 2 * length];
            let layout = Layout::new(&[length], &[2], 0).unwrap();
            let target = (&mut data[..], &layout);
            map_parts((&input, &contiguous), target, same, |_, _| {}, same);
            map_parts_in_place((&mut data, &layout), same, pass, same);
            let every_other: Vec<f32> = data.iter().copied().step_by(2).collect();
            assert_eq!(every_other, expected(length));
        }
    }

    /// Images of 3 channels whose channels lie together, with rows that are whole groups and with
    /// such that are not: element `i` is the number `i`, wherever it lies.
    #[test]
    fn images_with_their_channels_last_are_mapped_in_order() {
        for (channels, pixels) in [(3, 96), (40, 64), (3, 50), (1, 64), (200, 2080)] {
            let images = 3;
            let (c, p) = (channels as isize, pixels as isize);
            let shape = [images, channels, pixels];
            let last = Layout::new(&shape, &[c * p, 1, c], 0).unwrap();
            let length = images * channels * pixels;
            let input: Vec<f32> = (0..length).map(|i| (i % 4099) as f32).collect();
            let groups = |i: usize| (i / GROUP) as f32;
            let expected: Vec<f32> = input
                .iter()
                .enumerate()
                .map(|(i, x)| x + groups(i))
                .collect();
            // Each element by its group, whatever parts it is passed in.
            let pass = |part: &mut [f32], first: u64| {
                for (i, x) in part.iter_mut().enumerate() {
                    *x += (first as usize + i / GROUP) as f32;
                }
            };
            let same = |x: f32| x;
            let contiguous = Layout::contiguous(&[length]).unwrap();
            let mut data = vec![-1.0; length];
            map_parts(
                (&input, &contiguous),
                (&mut data, &last),
                same,
                |_, _| {},
                same,
            );
            assert_eq!(data[channels], input[1 % pixels], "{channels} {pixels}");
            map_parts_in_place((&mut data, &last), same, pass, same);
            let mut back = vec![-1.0; length];
            map_parts(
                (&data, &last),
                (&mut back, &contiguous),
                same,
                |_, _| {},
                same,
            );
            assert_eq!(back, expected, "{channels} {pixels}");
        }
    }

    #[test]
    #[should_panic(expected = "a place of its own")]
    fn shared_places_are_not_written() {
        let layout = Layout::new(&[2], &[0], 0).unwrap();
        map_parts_in_place((&mut [0.0], &layout), |x| x, |_, _| {}, |x| x);
    }
}
