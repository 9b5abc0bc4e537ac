//! Where a tile's sums go: to memory as they are, or as bytes, of which four vectors are a store.

use super::Shape;
use super::finish::{Finish, First, LEVELS};
use super::sums::{BYTES, LANES, Sums};

/// What a tile has made.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The first pixel, counted within the row.
    pub(super) x: usize,
    /// How many of its pixels the row has.
    pub(super) pixels: usize,
    /// The first vector of sums, counted within the pixel.
    pub(super) vector: usize,
}

/// Takes the sums of tiles of one row.
///
/// # Safety
/// [`put`](Self::put) has the contract of [`Sums`]; what the implementation points to reaches as far
/// as the place says.
pub(super) trait Output: Copy {
    /// `P` pixels of `V` vectors.
    unsafe fn put<T: Sums, const P: usize, const V: usize>(self, sums: &[[T; V]; P], at: Place);
}

/// To memory as they are.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) sums: *mut i32,
    /// From one pixel to the next.
    pub(super) step: usize,
}

impl Output for Kept {
    #[inline(always)]
    unsafe fn put<T: Sums, const P: usize, const V: usize>(self, sums: &[[T; V]; P], at: Place) {
        for (p, sums) in sums.iter().enumerate().take(at.pixels) {
            // SAFETY: the caller's.
            unsafe {
                let output = self.sums.add((at.x + p) * self.step + at.vector * LANES);
                for (v, sum) in sums.iter().enumerate() {
                    sum.store(output.add(v * LANES));
                }
            }
        }
    }
}

/// As bytes, as many for each pixel as there are outputs.
#[derive(Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) finish: &'a Finish,
    pub(super) bytes: *mut u8,
    /// Bytes that are added, in the same order.
    pub(super) other: *const u8,
    pub(super) outputs: usize,
    /// Outputs, up to whole vectors.
    pub(super) padded: usize,
}

impl<'a> Finished<'a> {
    /// Of one row of a shape's output, of so many columns.
    ///
    /// # Panics
    ///
    /// If there is not a byte for each output of the row, another one to be added, or a threshold for
    /// each channel up to whole vectors.
    pub(super) fn of(
        shape: &Shape,
        columns: usize,
        (finish, other): (&'a Finish, &'a [u8]),
        bytes: &'a mut [u8],
    ) -> Self {
        assert_eq!(bytes.len(), columns * shape.outputs);
        let others = if finish.adds() { bytes.len() } else { 0 };
        assert_eq!(other.len(), others);
        if let First::Levels(thresholds) = &finish.first {
            assert!(thresholds.len().is_multiple_of(shape.sums()));
            assert!(thresholds.len() / shape.sums() <= LEVELS);
        }
        Self {
            finish,
            bytes: bytes.as_mut_ptr(),
            other: other.as_ptr(),
            outputs: shape.outputs,
            padded: shape.sums(),
        }
    }
}

impl Output for Finished<'_> {
    #[inline(always)]
    unsafe fn put<T: Sums, const P: usize, const V: usize>(self, sums: &[[T; V]; P], at: Place) {
        // SAFETY: the caller's.
        unsafe {
            self.four::<T, P, V, 0>(sums, at);
            self.four::<T, P, V, 1>(sums, at);
            self.four::<T, P, V, 2>(sums, at);
            self.four::<T, P, V, 3>(sums, at);
        }
    }
}

impl Finished<'_> {
    /// The vectors from `4 I` on, counted through all pixels.
    ///
    /// # Safety
    /// As of [`Output::put`].
    #[inline(always)]
    unsafe fn four<T: Sums, const P: usize, const V: usize, const I: usize>(
        &self,
        sums: &[[T; V]; P],
        at: Place,
    ) {
        // Pixels of four vectors, the first of them, and how many there are.
        let (of_four, first) = ((4 / V).min(P), 4 * I / V);
        if 4 * I >= P * V || first >= at.pixels {
            return;
        }
        let pixels = of_four.min(at.pixels - first);
        let channel = at.vector * LANES;
        let of_pixel = (self.outputs - channel).min(V * LANES);
        let place = (at.x + first) * self.outputs + channel;
        let whole = of_pixel * pixels == BYTES && (pixels == 1 || of_pixel == self.outputs);
        // SAFETY: the caller's; of a tile with fewer vectors than four, the last is taken again.
        unsafe {
            let mut four = [sums[0][0]; 4];
            let mut channels = [channel; 4];
            for (i, (sums_of, channel)) in four.iter_mut().zip(&mut channels).enumerate() {
                let vector = (4 * I + i).min(P * V - 1);
                *sums_of = sums[vector / V][vector % V];
                *channel += vector % V * LANES;
            }
            let bytes = self.bytes::<T>(four, channels);
            let (bytes_at, other_at) = (self.bytes.add(place), self.other.wrapping_add(place));
            if whole {
                T::store_bytes(self.added::<T>(bytes, other_at), bytes_at);
                return;
            }
            let mut buffer = [0; BYTES];
            if self.finish.adds() {
                copy(
                    other_at,
                    buffer.as_mut_ptr(),
                    pixels,
                    [self.outputs, V * LANES, of_pixel],
                );
            }
            T::store_bytes(self.added::<T>(bytes, buffer.as_ptr()), buffer.as_mut_ptr());
            copy(
                buffer.as_ptr(),
                bytes_at,
                pixels,
                [V * LANES, self.outputs, of_pixel],
            );
        }
    }

    /// # Safety
    /// As of [`Output::put`].
    #[inline(always)]
    unsafe fn bytes<T: Sums>(&self, sums: [T; 4], channels: [usize; 4]) -> T::Bytes {
        // SAFETY: the caller's; thresholds are there for every vector, level after level.
        unsafe {
            match &self.finish.first {
                First::Shift(shift) => T::shift(sums, shift),
                First::Levels(thresholds) => {
                    let mut levels = [[T::zero(); 4]; LEVELS];
                    let count = thresholds.len() / self.padded;
                    for (level, vectors) in levels.iter_mut().enumerate().take(count) {
                        let thresholds = thresholds.as_ptr().add(level * self.padded);
                        for (vector, channel) in vectors.iter_mut().zip(channels) {
                            *vector = T::load(thresholds.add(channel));
                        }
                    }
                    T::levels(sums, &levels[..count])
                }
            }
        }
    }

    /// # Safety
    /// As of [`Output::put`].
    #[inline(always)]
    unsafe fn added<T: Sums>(&self, bytes: T::Bytes, other: *const u8) -> T::Bytes {
        match &self.finish.addition {
            // SAFETY: the caller's.
            Some(addition) => unsafe { T::add(bytes, T::bytes(other), addition) },
            None => bytes,
        }
    }
}

/// Copies `count` bytes of each of some pixels, which lie `from_step` and `to_step` bytes apart.
///
/// # Safety
/// The pixels are there, `from` to be read and `to` to be written.
unsafe fn copy(
    from: *const u8,
    to: *mut u8,
    pixels: usize,
    [from_step, to_step, count]: [usize; 3],
) {
    for pixel in 0..pixels {
        // SAFETY: the caller's.
        unsafe {
            let from = from.add(pixel * from_step);
            from.copy_to_nonoverlapping(to.add(pixel * to_step), count);
        }
    }
}
