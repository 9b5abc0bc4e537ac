//! Integers in NumPy's `.npy` files (format 1.0, little-endian).

use crate::tensor::Interval;

/// Types that files have, and their bytes.
const TYPES: [(&str, usize); 4] = [("|i1", 1), ("<i2", 2), ("<i4", 4), ("<i8", 8)];

fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        sizes.join(", ")
    );
    // Numbers begin at a multiple of 64.
    while !(10 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// A file of numbers in an interval, in the narrowest type that holds them.
pub(crate) fn write(shape: &[usize], values: &[i64], interval: Interval) -> Vec<u8> {
    let bits = interval.bits() as usize;
    let (kind, size) = TYPES
        .into_iter()
        .find(|(_, bytes)| 8 * bytes >= bits)
        .unwrap_or(TYPES[3]);
    let mut bytes = header(kind, shape);
    for value in values {
        bytes.extend(&value.to_le_bytes()[..size]);
    }
    bytes
}

/// The numbers of a file of any count of images of a shape.
pub(crate) fn read(bytes: &[u8], shape: &[usize]) -> Result<Vec<i64>, String> {
    let elements: usize = shape.iter().product();
    let start = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0, low, high, ..] => {
            10 + usize::from(u16::from_le_bytes([*low, *high]))
        }
        _ => return Err("is no .npy file of version 1.0".into()),
    };
    let data = bytes.get(start..).ok_or("ends within its header")?;
    for (kind, size) in TYPES {
        let mut all = vec![data.len() / size / elements];
        all.extend(shape);
        if header(kind, &all) == bytes[..start] && data.len() == all[0] * elements * size {
            let number = |bytes: &[u8]| {
                // Eight bytes of the same sign.
                let mut wide = [if bytes[size - 1] & 128 == 0 { 0 } else { 255 }; 8];
                wide[..size].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            };
            return Ok(data.chunks_exact(size).map(number).collect());
        }
    }
    Err(format!(
        "expected whole images of {shape:?}, of signed integers"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (least, greatest, size) in [
            (-128, 127, 1),
            (0, 255, 2),
            (-40_000, 0, 4),
            (0, 1 << 40, 8),
        ] {
            let file = write(&[2, 1], &[least, greatest], Interval { least, greatest });
            assert_eq!(file.len(), 128 + 2 * size);
            assert_eq!(read(&file, &[1]), Ok(vec![least, greatest]));
            assert!(read(&file[..file.len() - 1], &[1]).is_err());
            assert!(read(&file, &[3]).is_err());
            assert!(read(&file[..12], &[1]).is_err());
        }
        // numpy.save(file, numpy.zeros((3,), "int8")) of NumPy 2.4 begins so.
        let expected =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '|i1', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(&header("|i1", &[3])[..expected.len()], expected);
    }
}
