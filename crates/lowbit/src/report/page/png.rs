//! Small images inside of a page.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use crate::data::ImageSet;

/// An image of a set as an address that holds its own PNG (PNG Specification, third edition, with one
/// IDAT chunk and filter 0).
pub(in crate::report) fn data_address(set: &ImageSet, index: usize) -> String {
    format!("data:image/png;base64,{}", base64(&png(set, index)))
}

fn png(set: &ImageSet, index: usize) -> Vec<u8> {
    let channels = if set.channels == 3 { 3 } else { 1 };
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    for side in [set.width, set.height] {
        header.extend((side as u32).to_be_bytes());
    }
    header.extend([8, if channels == 3 { 2 } else { 0 }, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing into memory cannot fail.
    let _ = encoder.write_all(&rows(set, index, channels));
    chunk(&mut file, b"IDAT", &encoder.finish().unwrap_or_default());
    chunk(&mut file, b"IEND", &[]);
    file
}

/// Rows of pixels from 0 to 255, each after the number of its filter.
fn rows(set: &ImageSet, index: usize, channels: usize) -> Vec<u8> {
    let margin = set.margin;
    let (height, width) = (set.height + 2 * margin, set.width + 2 * margin);
    let image = set.image(index);
    let mut rows = Vec::new();
    for y in 0..set.height {
        rows.push(0);
        for x in 0..set.width {
            for channel in 0..channels {
                let at = (channel * height + y + margin) * width + x + margin;
                rows.push((f32::from(image[at]) * set.scale * 255.0).round() as u8);
            }
        }
    }
    rows
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    file.extend(kind);
    file.extend(data);
    file.extend(crc.sum().to_be_bytes());
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

    /// Read back by another program: zune-png, which reads data sets.
    #[test]
    fn a_png_reads_back() {
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
        let file = png(&set, 0);
        let mut decoder = zune_png::PngDecoder::new(std::io::Cursor::new(&file[..]));
        let pixels = decoder.decode_raw().unwrap();
        // Sixteenths of 255, red, green and blue of each pixel.
        assert_eq!(pixels, [0, 128, 32, 255, 64, 16]);
    }
}
