//! Resizing images.

/// An image of red, green and blue bytes, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rgb {
    pub(super) bytes: Vec<u8>,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The square of `side` pixels in the middle of the image (of two the upper left) after its shorter
/// side was brought to `shorter` pixels and the longer one to as many times, rounded down; `None`
/// for an image as it is. `[3, side, side]`.
///
/// Each pixel is the mean of those under a triangle of the width of two pixels of the smaller image
/// (bilinear with antialiasing, as Pillow and torchvision resize), rounded to a byte after each
/// direction.
pub(super) fn resized_middle(image: &Rgb, shorter: Option<usize>, side: usize) -> Vec<u8> {
    let (width, height) = (image.width, image.height);
    let least = width.min(height);
    let scaled = |length: usize| shorter.map_or(length, |shorter| shorter * length / least);
    let across = Line::new(width, scaled(width), side);
    let down = Line::new(height, scaled(height), side);
    let rows = down.sources();
    // Rows that are needed, each of `side` pixels.
    let mut narrow = Vec::with_capacity(rows.len() * side * 3);
    for y in rows.clone() {
        let row = &image.bytes[y * width * 3..][..width * 3];
        for weights in &across.weights {
            for channel in 0..3 {
                narrow.push(weights.mean(|x| row[x * 3 + channel]));
            }
        }
    }
    let mut output = vec![0; 3 * side * side];
    for (y, weights) in down.weights.iter().enumerate() {
        for x in 0..side {
            for channel in 0..3 {
                let at = |y: usize| narrow[((y - rows.start) * side + x) * 3 + channel];
                output[(channel * side + y) * side + x] = weights.mean(at);
            }
        }
    }
    output
}

/// What pixels of one line become: `side` of them from the middle of a line that is scaled.
struct Line {
    weights: Vec<Weights>,
}

/// The source pixels that one pixel is the weighted mean of.
struct Weights {
    first: usize,
    /// Their sum is 1.
    weights: Vec<f64>,
}

impl Line {
    /// # Panics
    /// If `side` is more than the scaled line has.
    fn new(length: usize, scaled: usize, side: usize) -> Self {
        let scale = length as f64 / scaled as f64;
        // A line that grows is interpolated between neighbours, not averaged.
        let reach = scale.max(1.0);
        let start = (scaled - side) / 2;
        let weights = (start..start + side).map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(length);
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights.into_iter().map(|weight| weight / sum).collect();
            Weights { first, weights }
        });
        Self {
            weights: weights.collect(),
        }
    }

    /// The source pixels that are needed.
    fn sources(&self) -> std::ops::Range<usize> {
        let first = self.weights.first().map_or(0, |weights| weights.first);
        let last = self.weights.last();
        first..last.map_or(0, |weights| weights.first + weights.weights.len())
    }
}

impl Weights {
    fn mean(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let terms = self.weights.iter().enumerate();
        let sum: f64 = terms
            .map(|(i, weight)| weight * f64::from(pixel(self.first + i)))
            .sum();
        // A byte at most, as the weights sum to 1.
        (sum + 0.5) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of grey pixels.
    fn grey(width: usize, pixels: &[u8]) -> Rgb {
        Rgb {
            bytes: pixels.iter().flat_map(|&pixel| [pixel; 3]).collect(),
            width,
            height: pixels.len() / width,
        }
    }

    #[test]
    fn an_image_as_it_is_loses_its_edges() {
        let pixels: Vec<u8> = (0..20).collect();
        let middle = resized_middle(&grey(5, &pixels), None, 2);
        // Columns 1 and 2 of five, rows 1 and 2 of four.
        assert_eq!(middle, [6, 7, 11, 12].repeat(3));
    }

    /// Four pixels to two: the triangle around the first, at 1 with a reach of 2, weighs 3/4, 3/4 and
    /// 1/4 of the pixels at 0.5, 1.5 and 2.5, and what is over the edge has no weight:
    /// (3 0 + 3 70 + 140) / 7 = 50. The second is its mirror, (70 + 3 140 + 3 210) / 7 = 160.
    #[test]
    fn a_smaller_image_by_hand() {
        let row = [0, 70, 140, 210];
        let pixels = [row; 4].concat();
        let half = resized_middle(&grey(4, &pixels), Some(2), 2);
        assert_eq!(half, [50, 160, 50, 160].repeat(3));
        // The same down.
        let pixels: Vec<u8> = row.iter().flat_map(|&pixel| [pixel; 4]).collect();
        let half = resized_middle(&grey(4, &pixels), Some(2), 2);
        assert_eq!(half, [50, 50, 160, 160].repeat(3));
    }

    /// Two pixels to four: centres at 0.25, 0.75, 1.25 and 1.75 of the line, between pixels at 0.5 and
    /// 1.5: the first is at the edge, the second 3/4 of the one and 1/4 of the other.
    #[test]
    fn a_larger_image_by_hand() {
        let large = resized_middle(&grey(2, &[0, 80, 0, 80]), Some(4), 4);
        assert_eq!(large, [0, 20, 60, 80].repeat(12));
    }

    /// Pixels of `(37 x + 91 y + 13 x y) mod 256`, 7 x 5, resized by Pillow 12 with
    /// `Image.BILINEAR` to 4 x 3 and to 11 x 8, of which these are the middle squares. Pillow's weights
    /// are integers, so that a byte may differ by one.
    #[test]
    fn an_image_is_resized_as_pillow_does() {
        let places = (0..5).flat_map(|y| (0..7).map(move |x| (x, y)));
        let pixels: Vec<u8> = places
            .map(|(x, y): (u32, u32)| (x * 37 + y * 91 + x * y * 13) as u8)
            .collect();
        let image = grey(7, &pixels);
        let small = [[61, 128, 127], [151, 142, 148], [106, 125, 142]];
        let large = [
            [17, 40, 64, 87, 111, 135, 158, 182],
            [59, 86, 113, 140, 168, 124, 110, 137],
            [120, 151, 173, 201, 233, 113, 58, 90],
            [181, 202, 128, 117, 154, 141, 149, 187],
            [161, 187, 118, 113, 156, 147, 161, 203],
            [62, 108, 145, 189, 237, 132, 93, 140],
            [106, 146, 108, 121, 174, 156, 129, 90],
            [148, 182, 76, 62, 119, 176, 162, 56],
        ];
        for (side, expected) in [(3, small.as_flattened()), (8, large.as_flattened())] {
            let found = resized_middle(&image, Some(side), side);
            let expected: Vec<i32> = expected.repeat(3);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (i32::from(found) - expected).abs() <= 1,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_longer_side_keeps_its_proportion() {
        // 6 x 3 becomes 4 x 2, of which the middle 2 x 2 is taken.
        let pixels = [0u8, 0, 90, 90, 0, 0].repeat(3);
        let middle = resized_middle(&grey(6, &pixels), Some(2), 2);
        // Columns 1 and 2: around 2.25 with a reach of 1.5, the pixels at 1.5, 2.5 and 3.5 weigh 1/2,
        // 5/6 and 1/6: 90 (5/6 + 1/6) / (3/2) = 60; and the mirror.
        assert_eq!(middle, [60; 12]);
    }
}
