//! Small images inside of a page.

use crate::data::ImageSet;
use crate::png::png;

/// An image of a set as an address that holds its own PNG.
pub(in crate::report) fn data_address(set: &ImageSet, index: usize) -> String {
    let (channels, pixels) = pixels(set, index);
    let file = png([set.width, set.height], channels, &pixels);
    format!("data:image/png;base64,{}", base64(&file))
}

/// Channels, and pixels from 0 to 255, row by row.
fn pixels(set: &ImageSet, index: usize) -> (usize, Vec<u8>) {
    let channels = if set.channels == 3 { 3 } else { 1 };
    let margin = set.margin;
    let (height, width) = (set.height + 2 * margin, set.width + 2 * margin);
    let image = set.image(index);
    let mut pixels = Vec::new();
    for y in 0..set.height {
        for x in 0..set.width {
            for channel in 0..channels {
                let at = (channel * height + y + margin) * width + x + margin;
                pixels.push((f32::from(image[at]) * set.scale * 255.0).round() as u8);
            }
        }
    }
    (channels, pixels)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn base64_of_the_standard() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    /// Sixteenths of 255, red, green and blue of each pixel.
    #[test]
    fn pixels_by_hand() {
        let set = ImageSet {
            name: "two by one".into(),
            images: vec![0, 16, 8, 4, 2, 1],
            labels: vec![0],
            channels: 3,
            height: 1,
            width: 2,
            margin: 0,
            classes: 1,
            scale: 1.0 / 16.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
        };
        assert_eq!(pixels(&set, 0), (3, vec![0, 128, 32, 255, 64, 16]));
    }
}
