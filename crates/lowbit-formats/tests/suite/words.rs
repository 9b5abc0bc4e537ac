//! Reading the reference tables, whose numbers are hexadecimal words.

/// The `f32` of a word.
pub(crate) fn bits(word: &str) -> f32 {
    f32::from_bits(u32::from_str_radix(word, 16).unwrap())
}

/// The `f32`s of words with spaces between them.
pub(crate) fn floats(words: &str) -> Vec<f32> {
    words.split_whitespace().map(bits).collect()
}

/// The bytes of pairs of digits.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

/// Lines that are not comments.
pub(crate) fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

/// Bit for bit, except that every NaN is as good as another.
pub(crate) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// That two lists of numbers are the [`same`].
pub(crate) fn assert_same(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            same(a, b),
            "{what}: element {i} is {a:e}, the reference has {b:e}"
        );
    }
}
