//! What the weights in a file are, in one number.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Bytes;
use sha2::{Digest, Sha256};

use super::checkpoint::MODEL;
use crate::Error;
use crate::models::unreadable;

/// SHA-256 (FIPS 180-4) of the weights of the checkpoint in folder `path`, in hexadecimal digits: over all
/// tensors by their paths in the order of bytes, of each the line `path [dimensions]`, such as
/// `conv1.weight [8, 1, 3, 3]`, and its numbers, `f32` in little-endian order. Running statistics and what
/// quantizers learn are among them.
///
/// # Errors
/// If the file cannot be read.
pub fn weights_sha256(path: &Path) -> Result<String, Error> {
    let path = path.join(MODEL);
    let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
    let mut hash = Sha256::new();
    each_tensor(&path, bytes, |part| hash.update(part))?;
    Ok(format!("{:x}", hash.finalize()))
}

/// Hands on what the tensors of a file of ours are, by path: the order in which they lie in it and the
/// numbers by which it tells them apart are chance.
pub(super) fn each_tensor(
    path: &Path,
    bytes: Vec<u8>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let bad = |error: burn_pack::Error| unreadable(path, error);
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(bad)?;
    let mut parts = BTreeMap::new();
    for tensor in reader.into_tensors().map_err(bad)? {
        let (name, _, shape, _, bytes) = tensor.into_parts().map_err(bad)?;
        parts.insert(name, (shape.to_vec(), bytes));
    }
    for (name, (shape, bytes)) in parts {
        take(format!("{name} {shape:?}\n").as_bytes());
        take(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Shape};

    use super::*;

    /// `printf 'a [2]\n\0\0\200?\0\0\0\300b [1]\n\0\0\0?' | sha256sum`
    #[test]
    fn tensors_are_taken_by_name() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let tensor = |name: &str, numbers: &[f32]| {
            let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let shape = Shape::from(vec![numbers.len()]);
            burn_pack::Tensor::new(
                name.into(),
                DType::F32,
                shape,
                None,
                Bytes::from_bytes_vec(bytes),
            )
        };
        let tensors = vec![tensor("b", &[0.5]), tensor("a", &[1.0, -2.0])];
        burn_pack::Writer::new(tensors).write_to_file(folder.path().join(MODEL))?;
        let expected = "88445db57adc1cef13c4ef7a1c9f2e01bf75b07d29920c43b14b0d045e51ef1f";
        assert_eq!(weights_sha256(folder.path())?, expected);
        Ok(())
    }
}
