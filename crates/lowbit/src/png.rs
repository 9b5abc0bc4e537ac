//! Pictures as PNG files.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// A file of `width` by `height` pixels from 0 to 255, row by row, each of one channel, grey, or of three,
/// red, green and blue (PNG Specification, third edition, with one IDAT chunk and filter 0).
pub(crate) fn png([width, height]: [usize; 2], channels: usize, pixels: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    for side in [width, height] {
        header.extend((side as u32).to_be_bytes());
    }
    header.extend([8, if channels == 3 { 2 } else { 0 }, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    for row in pixels.chunks((width * channels).max(1)) {
        // The number of its filter comes first. Writing into memory cannot fail.
        let _ = encoder.write_all(&[0]);
        let _ = encoder.write_all(row);
    }
    chunk(&mut file, b"IDAT", &encoder.finish().unwrap_or_default());
    chunk(&mut file, b"IEND", &[]);
    file
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Read back by another program: zune-png, which reads data sets.
    #[test]
    fn a_png_reads_back() {
        for (channels, pixels) in [(3, &[0, 128, 32, 255, 64, 16][..]), (1, &[7, 255])] {
            let file = png([2, 1], channels, pixels);
            let mut decoder = zune_png::PngDecoder::new(std::io::Cursor::new(&file[..]));
            assert_eq!(decoder.decode_raw().unwrap(), pixels);
            assert_eq!(decoder.dimensions(), Some((2, 1)));
        }
    }
}
