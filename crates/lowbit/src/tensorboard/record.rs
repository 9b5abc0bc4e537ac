//! Records as TensorFlow frames them
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>): the length in
//! eight bytes, the masked checksum of those, the bytes, and their masked checksum, all little-endian.

use std::io::{self, Write};

/// What is added to a rotated checksum, so that the checksum of bytes that hold one is not zero.
const MASK_DELTA: u32 = 0xa282_ead8;

/// CRC-32C (RFC 3720, appendix B.4), rotated right by 15 bits, plus a constant.
pub(super) fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(MASK_DELTA)
}

/// Writes a record.
pub(super) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = (bytes.len() as u64).to_le_bytes();
    to.write_all(&length)?;
    to.write_all(&masked_checksum(&length).to_le_bytes())?;
    to.write_all(bytes)?;
    to.write_all(&masked_checksum(bytes).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CRC-32C of RFC 3720, appendix B.4, by masks: `(crc >> 15 | crc << 17) + 0xa282ead8`.
    #[test]
    fn checksums_are_those_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let iscsi_read: [u8; 48] = [
            0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0,
            0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
        ];
        for (bytes, crc) in [
            (&[0u8; 32][..], 0x8a91_36aau32),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (&iscsi_read, 0xd996_3a56),
        ] {
            let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
            assert_eq!(masked_checksum(bytes), masked, "{crc:x}");
        }
    }

    /// The length 32 and 32 zeros, whose checksum 8a9136aa is 6d551522 rotated by 15 bits, and with the
    /// constant 0fd7fffa.
    #[test]
    fn a_record_by_hand() {
        let mut file = Vec::new();
        write(&mut file, &[0; 32]).unwrap();
        assert_eq!(file.len(), 8 + 4 + 32 + 4);
        assert_eq!(file[..8], [32, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(file[12..44], [0; 32]);
        assert_eq!(file[44..], [0xfa, 0xff, 0xd7, 0x0f]);
    }
}
