use super::random::{self, Purpose};

/// A square of zeros in each image (DeVries, Taylor, arXiv 1708.04552): its centre is drawn evenly
/// over the image's pixels, and what of it lies outside is lost.
///
/// Zeros after normalization, which is the mean of the training images. The draw is keyed by the
/// run's seed, the epoch and the image's index in its set, and by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutout {
    /// Rows and columns of the square.
    pub size: u32,
}

impl Cutout {
    /// Cuts a square out of image `index`, normalized and augmented, as `epoch` of the run with this
    /// seed sees it.
    ///
    /// # Shapes
    /// - `image`: `[channels, height, width]`, the last two in `size`
    pub fn apply(&self, image: &mut [f32], size: [usize; 2], seed: u64, epoch: u32, index: u32) {
        let [row, column, ..] = random::words(seed, Purpose::Cutout, epoch, index);
        let [height, width] = size;
        let rows = self.side(random::below(row, height as u32), height);
        let columns = self.side(random::below(column, width as u32), width);
        for plane in image.chunks_exact_mut(height * width) {
            for row in plane
                .chunks_exact_mut(width)
                .take(rows.end)
                .skip(rows.start)
            {
                row[columns.clone()].fill(0.0);
            }
        }
    }

    /// The rows, or columns, of an image of so many, of a square around this one.
    fn side(&self, centre: u32, length: usize) -> std::ops::Range<usize> {
        let start = i64::from(centre) - i64::from(self.size / 2);
        let end = (start + i64::from(self.size)).min(length as i64);
        start.max(0) as usize..end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of five rows, a square of three around the first has the first two, around the last the last
    /// two.
    #[test]
    fn a_square_is_cut_at_the_edge() {
        let cutout = Cutout { size: 3 };
        let sides: Vec<_> = (0..5).map(|centre| cutout.side(centre, 5)).collect();
        assert_eq!(sides, [0..2, 0..3, 1..4, 2..5, 3..5]);
        let even = Cutout { size: 2 };
        assert_eq!((even.side(0, 5), even.side(4, 5)), (0..1, 3..5));
        assert_eq!(Cutout { size: 99 }.side(2, 5), 0..5);
    }

    #[test]
    fn all_channels_lose_one_square_and_nothing_else() {
        let mut image = vec![1.0; 2 * 4 * 6];
        Cutout { size: 2 }.apply(&mut image, [4, 6], 1, 2, 3);
        let (first, second) = image.split_at(24);
        assert_eq!(first, second);
        let zeros = first.iter().filter(|&&x| x == 0.0).count();
        assert!([1, 2, 4].contains(&zeros), "{zeros}");
        assert_eq!(first.iter().filter(|&&x| x == 1.0).count(), 24 - zeros);
    }

    /// A square of one pixel falls on each of six about equally often: 1000 times of 6000, standard
    /// deviation 29.
    #[test]
    fn every_pixel_is_a_centre_about_equally_often() {
        let mut counts = [0; 6];
        for index in 0..6000 {
            let mut image = [1.0; 6];
            Cutout { size: 1 }.apply(&mut image, [2, 3], 5, 0, index);
            counts[image.iter().position(|&x| x == 0.0).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
