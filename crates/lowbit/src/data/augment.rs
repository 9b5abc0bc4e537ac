use serde::{Deserialize, Serialize};

use super::random::{self, Purpose};

/// Random crop and horizontal flip, as usual in training on CIFAR (He et al., arXiv 1512.03385,
/// section 4.2).
///
/// The image is padded on each side with `pad` rows and columns of pixel value 0 (before
/// normalization, so what the network sees there is `-mean / std`), and a part of the image's own
/// size is cut out at a place drawn evenly from the `(2 pad + 1)^2` there are; then, if `flip`, it
/// is mirrored left to right with probability one half.
///
/// The draw is keyed by the run's seed, the epoch and the image's index in its set, and by nothing
/// else: batches, threads and an interrupted run do not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Augment {
    /// Rows and columns of padding on each side, in pixels; 0 for no crop.
    pub pad: u32,
    /// Whether images are mirrored left to right half of the time.
    pub flip: bool,
}

impl Augment {
    /// Four pixels of padding and the flip, as CIFAR is trained with.
    pub const CIFAR: Self = Self { pad: 4, flip: true };

    /// How image `index` is seen in `epoch` of the run with this seed.
    pub(super) fn draw(&self, seed: u64, epoch: u32, index: u32) -> View {
        let [row, column, flip, _] = random::words(seed, Purpose::Augment, epoch, index);
        let places = 2 * self.pad + 1;
        let shift = |word: u32| random::below(word, places) as isize - self.pad as isize;
        View {
            down: shift(row),
            right: shift(column),
            flip: self.flip && flip & 1 == 1,
        }
    }
}

/// How one image is looked at: where the crop stands relative to the image, and whether it is
/// mirrored. The default is the image as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    down: isize,
    right: isize,
    flip: bool,
}

impl View {
    /// Writes one channel as seen by this view, each byte brought to a number by `table`.
    ///
    /// `out` is `[height, width]`.
    pub(super) fn apply(self, plane: Plane<'_>, width: usize, table: &[f32; 256], out: &mut [f32]) {
        let rows = plane.bytes.len() / plane.width;
        let (down, right) = (self.down, self.right + plane.margin as isize);
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            let y = (y + plane.margin).checked_add_signed(down);
            match y.filter(|&y| y < rows) {
                Some(y) => {
                    let row = &plane.bytes[y * plane.width..][..plane.width];
                    self.apply_row(row, right, table, out);
                }
                None => out.fill(table[0]),
            }
        }
    }

    fn apply_row(self, row: &[u8], right: isize, table: &[f32; 256], out: &mut [f32]) {
        let last = out.len() - 1;
        for (x, out) in out.iter_mut().enumerate() {
            let x = if self.flip { last - x } else { x };
            let byte = x.checked_add_signed(right).and_then(|x| row.get(x));
            *out = table[usize::from(*byte.unwrap_or(&0))];
        }
    }
}

/// One channel of an image, and how far in it begins what is looked at.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    /// `[rows, width]`
    pub(super) bytes: &'a [u8],
    /// Columns, with the margin.
    pub(super) width: usize,
    /// Rows and columns on each side that the view as it is leaves out.
    pub(super) margin: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A 2 x 3 plane seen through `view`, with bytes as their own value.
    fn seen(view: View) -> [f32; 6] {
        let table = std::array::from_fn(|byte| byte as f32);
        let mut out = [0.0; 6];
        let plane = Plane {
            bytes: &[1, 2, 3, 4, 5, 6],
            width: 3,
            margin: 0,
        };
        view.apply(plane, 3, &table, &mut out);
        out
    }

    #[test]
    fn a_view_crops_then_flips() {
        let view = |down, right, flip| View { down, right, flip };
        assert_eq!(seen(View::default()), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(seen(view(1, 0, false)), [4., 5., 6., 0., 0., 0.]);
        assert_eq!(seen(view(0, -1, false)), [0., 1., 2., 0., 4., 5.]);
        assert_eq!(seen(view(0, 0, true)), [3., 2., 1., 6., 5., 4.]);
        // The crop one to the left, [0, 1, 2], mirrored.
        assert_eq!(seen(view(0, -1, true)), [2., 1., 0., 5., 4., 0.]);
        assert_eq!(seen(view(5, 0, false)), [0.; 6]);
    }

    /// The expected views come from a separate program in Python, with its own Philox that gives
    /// the published known answers.
    #[test]
    fn a_draw_is_the_same_forever() {
        let view = |down, right, flip| View { down, right, flip };
        let expected = [
            view(4, 4, false),
            view(3, -1, false),
            view(1, -3, false),
            view(3, 1, true),
        ];
        let drawn: [View; 4] = std::array::from_fn(|i| Augment::CIFAR.draw(11, 3, i as u32));
        assert_eq!(drawn, expected);
    }

    #[test]
    fn every_place_and_side_is_drawn_about_equally() {
        let augment = Augment { pad: 1, flip: true };
        let mut counts = BTreeMap::new();
        for index in 0..18_000 {
            let view = augment.draw(3, 0, index);
            *counts
                .entry((view.down, view.right, view.flip))
                .or_insert(0) += 1;
        }
        // 3 x 3 places and 2 sides: 1000 each expected, standard deviation 31.
        assert_eq!(counts.len(), 18);
        assert!(
            counts.values().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn epoch_seed_and_index_all_change_the_draw() {
        let draws = |seed, epoch, first: u32| {
            let draw = |index| Augment::CIFAR.draw(seed, epoch, index);
            (first..first + 100).map(draw).collect::<Vec<_>>()
        };
        let base = draws(1, 1, 0);
        assert_eq!(base, draws(1, 1, 0));
        assert_ne!(base, draws(2, 1, 0));
        assert_ne!(base, draws(1, 2, 0));
        assert_ne!(base, draws(1, 1, 100));
    }

    #[test]
    fn without_crop_and_flip_the_image_stays() {
        let none = Augment {
            pad: 0,
            flip: false,
        };
        assert!((0..100).all(|index| none.draw(5, 6, index) == View::default()));
    }
}
