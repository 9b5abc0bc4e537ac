use std::fmt;

use super::Augment;

/// Labelled images of one size, as bytes, with what is needed to hand them to a network.
///
/// A pixel's value is `byte * scale`, which lies in 0 to 1; the network sees
/// `(byte * scale - mean[channel]) / std[channel]`.
#[derive(Clone, PartialEq)]
pub struct ImageSet {
    /// What the set is called, such as `mnist train`.
    pub name: String,
    /// Pixels, `[images, channels, height, width]` in row-major order.
    pub images: Vec<u8>,
    /// The class of each image, from 0 to `classes - 1`.
    pub labels: Vec<u8>,
    /// Channels of an image: 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
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
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// How many bytes, and how many numbers of a batch, one image takes: channels x height x width.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The bytes of image `index`, `[channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.images[index * size..][..size]
    }

    /// Writes the normalized images of `indices` to `out`, augmented if `augment` gives an
    /// [`Augment`] with the run's seed and the epoch.
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
        let size = self.image_len();
        assert_eq!(
            out.len(),
            indices.len() * size,
            "the batch has another size"
        );
        let tables = self.normalized_bytes();
        for (&index, out) in indices.iter().zip(out.chunks_exact_mut(size)) {
            let image = self.image(index as usize);
            let view = augment
                .map(|(augment, seed, epoch)| augment.draw(seed, epoch, index))
                .unwrap_or_default();
            let plane = self.height * self.width;
            for (channel, table) in tables.iter().enumerate() {
                let range = channel * plane..(channel + 1) * plane;
                view.apply(&image[range.clone()], self.width, table, &mut out[range]);
            }
        }
    }

    /// The classes of `indices`, in their order, as the integers that a loss takes.
    ///
    /// # Panics
    ///
    /// If an index is not below [`len`](Self::len).
    pub fn batch_labels(&self, indices: &[u32]) -> Vec<i32> {
        let label = |&index: &u32| i32::from(self.labels[index as usize]);
        indices.iter().map(label).collect()
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

    #[test]
    fn debug_leaves_the_pixels_out() {
        assert_eq!(
            format!("{:?}", counting()),
            "ImageSet { name: \"counting\", shape: [2, 2, 2, 3], classes: 2, .. }"
        );
    }
}
