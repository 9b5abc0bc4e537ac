//! Event files as they are read back, independently of what writes them.

use std::path::Path;

use prost::Message;

use super::proto::Event;

/// CRC-32C bit by bit: the reflected polynomial of RFC 3720 (0x1edc6f41), from all ones, inverted.
fn checksum(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shifted(crc));
    !bytes.iter().fold(!0, byte)
}

/// The checksum that a masked one stands for.
fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The events of a file, whose checksums are right and which ends with a whole record.
pub(crate) fn events(path: &Path) -> Vec<Event> {
    let file = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut at, mut found) = (0, Vec::new());
    while at < file.len() {
        let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(word(at + 8)), checksum(&file[at..at + 8]));
        let bytes = &file[at + 12..at + 12 + length];
        assert_eq!(unmasked(word(at + 12 + length)), checksum(bytes));
        found.push(Event::decode(bytes).unwrap());
        at += 16 + length;
    }
    found
}

/// RFC 3720, appendix B.4: 32 zeros, 32 ones.
#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
    assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
}
