use std::fmt;

use super::Augment;
use super::augment::Plane;

/// Labelled images of one size, as bytes, with what is needed to hand them to a network.
///
/// An image may be held with a margin around what the network sees, for random crops to move in.
///
/// A pixel's value is `byte * scale`; the network sees `(byte * scale - mean[channel]) / std[channel]`. Of
/// images it lies in 0 to 1. A window of [`text`](super::text) is an image of one row that has several
/// answers: a class for each pixel.
#[derive(Clone, PartialEq)]
pub struct ImageSet {
    /// What the set is called, such as `mnist train`.
    pub name: String,
    /// Pixels, `[images, channels, height + 2 margin, width + 2 margin]` in row-major order.
    pub images: Vec<u8>,
    /// The class of each image, from 0 to `classes - 1`; of an image with several answers all of theirs,
    /// one after the other.
    pub labels: Vec<u8>,
    /// Channels of an image: 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows of an image, as the network sees it.
    pub height: usize,
    /// Columns of an image, as the network sees it.
    pub width: usize,
    /// Rows and columns that an image has beside those on each side.
    pub margin: usize,
    /// How many classes there are.
    pub classes: usize,
    /// One over the byte that stands for the value 1.
    pub scale: f32,
    /// Mean value of each channel over the training images.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel over the training images.
    pub std: Vec<f32>,
}

impl ImageSet {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.images.len() / self.image_len()
    }

    /// Answers to an image: 1, or one for each character of a text.
    pub fn answers(&self) -> usize {
        self.labels.len() / self.len().max(1)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many bytes one image takes, with its margin.
    pub fn image_len(&self) -> usize {
        let [height, width] = self.held();
        self.channels * height * width
    }

    /// How many numbers of a batch one image takes: channels x height x width.
    pub fn view_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Rows and columns with the margin.
    fn held(&self) -> [usize; 2] {
        [self.height, self.width].map(|side| side + 2 * self.margin)
    }

    /// The bytes of image `index`, `[channels, height + 2 margin, width + 2 margin]`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.images[index * size..][..size]
    }

    /// Writes the normalized images of `indices` to `out`, without their margins; augmented if
    /// `augment` gives an [`Augment`] with the run's seed and the epoch, whose crops move by the
    /// margin beside their own padding.
    ///
    /// Each image depends on its own index, the seed and the epoch alone, so the way the set is
    /// cut into batches, and which thread fills which, does not show in the numbers.
    ///
    /// # Shapes
    ///
    /// - `indices`: `[batch]`
    /// - `out`: `[batch, channels, height, width]`
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len) or `out` has another size.
    pub fn fill_batch(
        &self,
        indices: &[u32],
        augment: Option<(&Augment, u64, u32)>,
        out: &mut [f32],
    ) {
        let size = self.view_len();
        assert_eq!(
            out.len(),
            indices.len() * size,
            "the batch has another size"
        );
        let tables = self.normalized_bytes();
        for (&index, out) in indices.iter().zip(out.chunks_exact_mut(size)) {
            let image = self.image(index as usize);
            let view = augment
                .map(|(augment, seed, epoch)| {
                    let pad = augment.pad + self.margin as u32;
                    Augment { pad, ..*augment }.draw(seed, epoch, index)
                })
                .unwrap_or_default();
            let [height, width] = self.held();
            let planes = image.chunks_exact(height * width);
            let outs = out.chunks_exact_mut(self.height * self.width);
            for ((plane, out), table) in planes.zip(outs).zip(&tables) {
                let plane = Plane {
                    bytes: plane,
                    width,
                    margin: self.margin,
                };
                view.apply(plane, self.width, table, out);
            }
        }
    }

    /// The classes of `indices`, in their order, as the integers that a loss takes; all those of one
    /// after the other.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    pub fn batch_labels(&self, indices: &[u32]) -> Vec<i32> {
        let answers = self.answers();
        let labels = |&index: &u32| &self.labels[index as usize * answers..][..answers];
        let labels = indices.iter().flat_map(labels);
        labels.map(|&label| i32::from(label)).collect()
    }

    /// What the network sees for each byte, by channel. A batch holds far more pixels than the
    /// 256 values a byte can have, so each is computed once.
    fn normalized_bytes(&self) -> Vec<[f32; 256]> {
        let normalize = |byte: usize, mean: f32, std: f32| (byte as f32 * self.scale - mean) / std;
        self.mean
            .iter()
            .zip(&self.std)
            .map(|(&mean, &std)| std::array::from_fn(|byte| normalize(byte, mean, std)))
            .collect()
    }
}

/// Prints the name and shape; the pixels would fill the screen.
impl fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSet")
            .field("name", &self.name)
            .field(
                "shape",
                &[self.len(), self.channels, self.height, self.width],
            )
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of two channels, 2 x 3, whose bytes count up from 0.
    fn counting() -> ImageSet {
        ImageSet {
            name: "counting".into(),
            images: (0..24).collect(),
            labels: vec![1, 0],
            channels: 2,
            height: 2,
            width: 3,
            margin: 0,
            classes: 2,
            scale: 0.25,
            mean: vec![0.5, 1.0],
            std: vec![0.5, 0.25],
        }
    }

    #[test]
    fn a_batch_is_normalized_by_channel() {
        let mut out = [0.0; 12];
        counting().fill_batch(&[1], None, &mut out);
        // First channel (12/4 - 0.5) / 0.5 = 5, then 0.5 a step; second (18/4 - 1) / 0.25 = 14,
        // then 1 a step.
        let expected = [
            5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn a_batch_keeps_the_order_of_its_indices() {
        let set = counting();
        let mut out = [0.0; 24];
        set.fill_batch(&[1, 0], None, &mut out);
        // The second image begins with (0/4 - 0.5) / 0.5 = -1.
        assert_eq!((out[0], out[12]), (5.0, -1.0));
        assert_eq!(set.batch_labels(&[1, 0, 1]), [0, 1, 0]);
    }

    #[test]
    fn an_augmented_image_does_not_depend_on_its_batch() {
        let set = counting();
        let augment = Augment { pad: 1, flip: true };
        let mut alone = [0.0; 12];
        let mut together = [0.0; 24];
        for epoch in 0..20 {
            set.fill_batch(&[0], Some((&augment, 7, epoch)), &mut alone);
            set.fill_batch(&[1, 0], Some((&augment, 7, epoch)), &mut together);
            assert_eq!(alone, together[12..]);
        }
    }

    /// An image of 3 x 4 bytes, of which the network sees the middle 1 x 2; crops reach every place
    /// and nothing outside.
    #[test]
    fn a_margin_is_what_crops_move_in() {
        let set = ImageSet {
            images: (1..=12).collect(),
            labels: vec![0],
            channels: 1,
            height: 1,
            width: 2,
            margin: 1,
            mean: vec![0.0],
            std: vec![0.25],
            ..counting()
        };
        assert_eq!((set.image_len(), set.view_len()), (12, 2));
        let mut out = [0.0; 2];
        set.fill_batch(&[0], None, &mut out);
        assert_eq!(out, [6.0, 7.0]);
        let crop = Augment {
            pad: 0,
            flip: false,
        };
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..200 {
            set.fill_batch(&[0], Some((&crop, 7, epoch)), &mut out);
            assert_eq!(out[1], out[0] + 1.0);
            seen.insert(out[0] as u32);
        }
        assert_eq!(seen, [1, 2, 3, 5, 6, 7, 9, 10, 11].into());
    }

    #[test]
    fn debug_leaves_the_pixels_out() {
        assert_eq!(
            format!("{:?}", counting()),
            "ImageSet { name: \"counting\", shape: [2, 2, 2, 3], classes: 2, .. }"
        );
    }
}
