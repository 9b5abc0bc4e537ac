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
        let elements = from.elements();
        let chunk = |chunk: usize| {
            let mut buffer = [0.0; BUFFER];
            let end = elements.min((chunk + 1) * CHUNK);
            for first in (chunk * CHUNK..end).step_by(BUFFER) {
                let part = &mut buffer[..BUFFER.min(end - first)];
                // SAFETY: as the caller promises; a part is handed to one thread.
                unsafe { self.gather(from, first, part, widen) };
                pass(part, (first / GROUP) as u64);
                unsafe { self.scatter(to, first, part, narrow) };
            }
        };
        let chunks = elements.div_ceil(CHUNK);
        if elements < PARALLEL {
            (0..chunks).for_each(chunk);
        } else {
            (0..chunks).into_par_iter().for_each(chunk);
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

    #[test]
    #[should_panic(expected = "a place of its own")]
    fn shared_places_are_not_written() {
        let layout = Layout::new(&[2], &[0], 0).unwrap();
        map_parts_in_place((&mut [0.0], &layout), |x| x, |_, _| {}, |x| x);
    }
}
