//! The tensors of a model's folder, in one safetensors file or in several.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::folder::CONFIG;
use crate::packed::{Packed, Stored, bytes_of, floats_of, stem};

/// The file of a model that is in one.
const ONE: &str = "model.safetensors";
/// The file that says where the tensors of a model in several are.
const INDEX: &str = "model.safetensors.index.json";

/// Where every tensor of a model is. Tensors are read one at a time, as they are asked for.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    tensors: BTreeMap<String, Place>,
    /// Weights of few bits, each with its tensors by what they are called after its layer's name.
    packed: BTreeMap<String, BTreeMap<String, Place>>,
    /// Widths of integers that `config.json` names.
    widths: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Of its bytes, in the file.
    start: u64,
    bytes: usize,
}

/// A tensor in row order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Reads which tensors a folder has: `model.safetensors`, or what
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// If there is neither, a file that the index names is missing, or one is no safetensors file, or lacks
    /// a tensor that the index says it has.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let index = folder.join(INDEX);
        let mut tensors = match (folder.join(ONE).exists(), index.exists()) {
            (_, true) => shards(folder, &index)?,
            (true, false) => header(&folder.join(ONE))?,
            (false, false) => {
                let message = format!("holds neither {ONE} nor {INDEX}");
                return Err(Error::file(folder, message));
            }
        };
        let parts = tensors.keys().filter_map(|name| {
            let (layer, part) = stem(name)?;
            Some((name.clone(), layer.to_string(), part))
        });
        let parts: Vec<(String, String, &str)> = parts.collect();
        let mut packed: BTreeMap<String, BTreeMap<String, Place>> = BTreeMap::new();
        for (name, layer, part) in parts {
            let weight = format!("{layer}.weight");
            let own = tensors.remove(&weight);
            let of_weight = packed.entry(weight).or_default();
            of_weight.extend(own.map(|place| ("weight".to_string(), place)));
            of_weight.extend(tensors.remove(&name).map(|place| (part.to_string(), place)));
        }
        Ok(Self {
            folder: folder.into(),
            widths: match packed.is_empty() {
                true => Vec::new(),
                false => widths(&folder.join(CONFIG))?,
            },
            tensors,
            packed,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors; one that is packed is one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.tensors.keys().chain(self.packed.keys());
        all.map(String::as_str)
    }

    /// Bytes of the files.
    ///
    /// # Errors
    /// If one cannot be found any more.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        let packed = self.packed.values().flat_map(BTreeMap::values);
        let files = self.tensors.values().chain(packed).map(|place| &place.file);
        let files: BTreeSet<&PathBuf> = files.collect();
        let sizes = files.into_iter().map(|file| {
            let metadata = file.metadata().map_err(Error::io(file))?;
            Ok(metadata.len())
        });
        sizes.sum()
    }

    /// Bits by which weights that are packed take less than in float32.
    ///
    /// # Errors
    /// If a weight's shape cannot be read.
    pub fn saved_bits(&self) -> Result<u64, Error> {
        let saved = |parts: &BTreeMap<String, Place>| {
            let bytes: usize = parts.values().map(|place| place.bytes).sum();
            let elements = match (parts.get("weight_shape"), parts.get("weight_packed")) {
                (Some(shape), _) => {
                    let extents = shape.read()?;
                    let (extents, _) = extents.as_chunks::<8>();
                    extents.iter().map(|e| u64::from_le_bytes(*e)).product()
                }
                (None, Some(halves)) => 2 * halves.bytes as u64,
                (None, None) => parts.get("weight").map_or(0, |bytes| bytes.bytes as u64),
            };
            Ok(elements.saturating_mul(32).saturating_sub(8 * bytes as u64))
        };
        self.packed.values().map(saved).sum()
    }

    /// The type of a tensor of numbers in floating point; of one that is packed, of the numbers that it stands
    /// for.
    pub(crate) fn float(&self, name: &str) -> Option<Dtype> {
        let scales = || self.packed.get(name)?.get("weight_scale");
        let place = self.tensors.get(name).or_else(scales)?;
        [Dtype::F32, Dtype::F16, Dtype::BF16]
            .into_iter()
            .find(|dtype| *dtype == place.dtype)
    }

    /// The tensor of that name, if there is one; numbers of 16 bits are widened, and those of fewer are what
    /// they stand for.
    ///
    /// # Errors
    /// If it cannot be read, or is neither of numbers of 16 or 32 bits in floating point nor packed in a layout
    /// that is known.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Numbers>, Error> {
        if let Some(parts) = self.packed.get(name) {
            return self.unpacked(name, parts).map(Some);
        }
        let Some(place) = self.tensors.get(name) else {
            return Ok(None);
        };
        let bytes = place.read()?;
        let values = floats_of(place.dtype, &bytes).ok_or_else(|| {
            let message = format!("{name} is {:?}, expected F32, F16 or BF16", place.dtype);
            Error::file(&place.file, message)
        })?;
        let shape = place.shape.clone();
        Ok(Some(Numbers { shape, values }))
    }

    /// What a weight of few bits stands for.
    fn unpacked(&self, name: &str, parts: &BTreeMap<String, Place>) -> Result<Numbers, Error> {
        let stored = parts.iter().map(|(part, place)| {
            let stored = Stored {
                dtype: place.dtype,
                shape: place.shape.clone(),
                bytes: place.read()?,
            };
            Ok((part.clone(), stored))
        });
        let stored = stored.collect::<Result<_, Error>>()?;
        let refused = |message: String| Error::file(&self.folder, format!("{name} {message}"));
        let packed = Packed::of(&stored, &self.widths).map_err(refused)?;
        let values = packed
            .numbers()
            .map_err(|error| refused(format!(": {error}")))?;
        Ok(Numbers {
            shape: packed.codes.shape,
            values,
        })
    }
}

impl Place {
    fn read(&self) -> Result<Vec<u8>, Error> {
        let io = |error| Error::io(&self.file)(error);
        let mut file = File::open(&self.file).map_err(io)?;
        file.seek(SeekFrom::Start(self.start)).map_err(io)?;
        let mut bytes = vec![0; self.bytes];
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

/// The widths that a `config.json` names for packed weights.
fn widths(config: &Path) -> Result<Vec<u32>, Error> {
    let text = std::fs::read_to_string(config).map_err(Error::io(config))?;
    let config: Value = serde_json::from_str(&text).map_err(|e| Error::file(config, e))?;
    let groups = config["quantization_config"]["config_groups"].as_object();
    let groups = groups.into_iter().flat_map(|groups| groups.values());
    let widths = groups.filter_map(|group| group["weights"]["num_bits"].as_u64());
    Ok(widths.map(|bits| bits as u32).collect())
}

fn shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Place>, Error> {
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| Error::file(index, e))?;
    let mut headers: BTreeMap<&str, BTreeMap<String, Place>> = BTreeMap::new();
    for shard in parsed.weight_map.values() {
        if headers.contains_key(shard.as_str()) {
            continue;
        }
        let file = folder.join(shard);
        if !file.exists() {
            return Err(Error::file(file, format!("is missing, {INDEX} names it")));
        }
        headers.insert(shard, header(&file)?);
    }
    let mut tensors = BTreeMap::new();
    for (name, shard) in &parsed.weight_map {
        let Some(place) = headers.get_mut(shard.as_str()).and_then(|h| h.remove(name)) else {
            let message = format!("lacks {name}, which {INDEX} says it has");
            return Err(Error::file(folder.join(shard), message));
        };
        tensors.insert(name.clone(), place);
    }
    Ok(tensors)
}

/// The tensors that a file's header names; no header is larger, as the format has it.
const LARGEST_HEADER: u64 = 100_000_000;

fn header(path: &Path) -> Result<BTreeMap<String, Place>, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut length = [0; 8];
    let cut = |_| Error::file(path, "is cut off in its header");
    file.read_exact(&mut length).map_err(cut)?;
    let length_of = u64::from_le_bytes(length);
    if length_of > LARGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(Error::file(
            path,
            "is no safetensors file, or cut off in its header",
        ));
    }
    let mut text = vec![0; length_of as usize];
    file.read_exact(&mut text).map_err(cut)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| Error::file(path, e))?;
    let data = 8 + length_of;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        if data + end as u64 > size {
            return Err(Error::file(path, format!("is cut off in {name}")));
        }
        let place = Place {
            file: path.into(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: data + start as u64,
            bytes: end - start,
        };
        tensors.insert(name, place);
    }
    Ok(tensors)
}

impl Numbers {
    /// As a file has them in a type of 16 or 32 bits.
    pub(crate) fn stored(self, dtype: Dtype) -> Stored {
        Stored {
            dtype,
            bytes: bytes_of(&self.values, dtype),
            shape: self.shape,
        }
    }

    /// The matrix with rows and columns exchanged; anything else as it is.
    pub(crate) fn transposed(self) -> Self {
        let [rows, columns] = self.shape[..] else {
            return self;
        };
        const BLOCK: usize = 32;
        let mut values = vec![0.0; self.values.len()];
        for first in (0..rows).step_by(BLOCK) {
            for column in 0..columns {
                let to = &mut values[column * rows + first..];
                for (row, to) in (first..rows).zip(to.iter_mut().take(BLOCK)) {
                    *to = self.values[row * columns + column];
                }
            }
        }
        Self {
            shape: vec![columns, rows],
            values,
        }
    }

    /// One of so many equal parts of the last dimension.
    pub(crate) fn part(self, [index, count]: [usize; 2]) -> Self {
        let Some((&columns, outer)) = self.shape.split_last() else {
            return self;
        };
        let width = columns / count;
        let rows = self.values.chunks(columns.max(1));
        let values = rows.flat_map(|row| &row[index * width..(index + 1) * width]);
        Self {
            shape: [outer, &[width]].concat(),
            values: values.copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize], values: &[f32]) -> Numbers {
        Numbers {
            shape: shape.into(),
            values: values.into(),
        }
    }

    #[test]
    fn matrices_are_turned_and_cut() {
        let matrix = numbers(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let turned = numbers(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(matrix.clone().transposed(), turned);
        assert_eq!(matrix.part([1, 3]), numbers(&[2, 1], &[2.0, 5.0]));
        let long: Vec<f32> = (0..70 * 3).map(|i| i as f32).collect();
        let twice = numbers(&[70, 3], &long).transposed().transposed();
        assert_eq!(twice, numbers(&[70, 3], &long));
    }

    #[test]
    fn a_folder_without_weights_says_which_files_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Weights::open(folder.path()).unwrap_err().to_string();
        let expected = "holds neither model.safetensors nor model.safetensors.index.json";
        assert!(refused.ends_with(expected), "{refused}");
        std::fs::write(folder.path().join(ONE), b"not one").unwrap();
        let refused = Weights::open(folder.path()).unwrap_err().to_string();
        assert!(refused.ends_with("is cut off in its header"), "{refused}");
        let index = r#"{ "weight_map": { "a": "model-00001-of-00002.safetensors" } }"#;
        std::fs::write(folder.path().join(INDEX), index).unwrap();
        let refused = Weights::open(folder.path()).unwrap_err().to_string();
        let expected = "model-00001-of-00002.safetensors: is missing, \
                        model.safetensors.index.json names it";
        assert!(refused.ends_with(expected), "{refused}");
    }
}
