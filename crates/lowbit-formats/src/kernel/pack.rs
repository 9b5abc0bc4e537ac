//! Codes of a few bits, side by side without padding.
//!
//! Code `i` of `bits` bits takes the bits `i * bits .. (i + 1) * bits` of the stream, where bit `j`
//! of the stream is bit `j % 8` of byte `j / 8`, counted from the lowest.

use crate::error::{FormatError, check_range};

/// How many bytes `count` codes of `bits` bits take.
pub fn packed_size(count: usize, bits: u32) -> usize {
    // In bytes and bits apart, so that only sizes beyond memory overflow, and those stop at the top.
    let bits = bits as usize;
    (count / 8)
        .saturating_mul(bits)
        .saturating_add((count % 8 * bits).div_ceil(8))
}

/// Packs the lowest `bits` bits of each code.
///
/// # Errors
///
/// [`FormatError::Parameter`] if `bits` is not in 1..=32.
pub fn pack(codes: &[u32], bits: u32) -> Result<Vec<u8>, FormatError> {
    check_range("packed codes", "bits", bits, 1..=32)?;
    let mask = u32::MAX >> (32 - bits);
    let mut bytes = Vec::with_capacity(packed_size(codes.len(), bits));
    let (mut pending, mut count) = (0u64, 0);
    for code in codes {
        pending |= u64::from(code & mask) << count;
        count += bits;
        while count >= 8 {
            bytes.push(pending as u8);
            pending >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        bytes.push(pending as u8);
    }
    Ok(bytes)
}

/// The first `count` codes of `bits` bits of a packed stream.
///
/// # Errors
///
/// [`FormatError::Parameter`] if `bits` is not in 1..=32, [`FormatError::Length`] if `bytes` is too
/// short (`input` says how many codes it holds).
pub fn unpack(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u32>, FormatError> {
    check_range("packed codes", "bits", bits, 1..=32)?;
    if bytes.len() < packed_size(count, bits) {
        return Err(FormatError::Length {
            input: bytes.len() * 8 / bits as usize,
            output: count,
        });
    }
    let mask = u32::MAX >> (32 - bits);
    let mut bytes = bytes.iter();
    let (mut pending, mut available) = (0u64, 0);
    let codes = (0..count).map(|_| {
        while available < bits {
            pending |= u64::from(*bytes.next().unwrap_or(&0)) << available;
            available += 8;
        }
        let code = pending as u32 & mask;
        pending >>= bits;
        available -= bits;
        code
    });
    Ok(codes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_by_hand() {
        // 3-bit codes 1, 2, 3: 001, 010, 011 from the lowest bit up is 0b11_010_001 and 0b0.
        assert_eq!(pack(&[1, 2, 3], 3).unwrap(), [0b1101_0001, 0]);
        assert_eq!(pack(&[0xA, 0xB, 0xC], 4).unwrap(), [0xBA, 0x0C]);
        assert_eq!(pack(&[0x1FF], 8).unwrap(), [0xFF]);
        assert!(pack(&[], 5).unwrap().is_empty());
    }

    #[test]
    fn every_width_comes_back() {
        for bits in 1..=32 {
            let mask = u32::MAX >> (32 - bits);
            for count in [0, 1, 7, 8, 9, 100] {
                let codes: Vec<u32> = (0..count)
                    .map(|i: u32| i.wrapping_mul(0x9E37_79B9) & mask)
                    .collect();
                let bytes = pack(&codes, bits).unwrap();
                assert_eq!(bytes.len(), packed_size(codes.len(), bits));
                assert_eq!(bytes.len(), (codes.len() * bits as usize).div_ceil(8));
                assert_eq!(unpack(&bytes, bits, codes.len()).unwrap(), codes);
            }
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(pack(&[1], 0).is_err());
        assert!(pack(&[1], 33).is_err());
        assert!(unpack(&[1, 2], 9, 2).is_err());
        assert!(unpack(&[], 9, usize::MAX).is_err());
    }
}
