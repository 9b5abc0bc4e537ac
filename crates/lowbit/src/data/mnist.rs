//! MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 grey pixels, in IDX files (Y. LeCun,
//! C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998).
//!
//! An IDX file of bytes is, big-endian: the magic number `0x0000_08nn` with `nn` the number of
//! dimensions, the size of each dimension in 32 bits, and the bytes in row-major order. Images
//! have the dimensions `[images, 28, 28]`, labels `[images]`. Sets in the same files, such as
//! Fashion-MNIST, load the same way.

use std::path::{Path, PathBuf};

use ureq::Agent;

use super::download::{OnProgress, Source};
use super::reader::Reader;
use super::{Defaults, Description, ImageSet, Split};
use crate::Error;
use crate::models::{Architecture, BaseNetwork};
use crate::optim::{OptimizerConfig, Schedule};

pub(super) const DESCRIPTION: Description = Description {
    name: "mnist",
    is_text: false,
    augment: None,
    read: load,
    download: Some(fetch),
    defaults: Defaults {
        model: Architecture::of(BaseNetwork::LeNet),
        epochs: 5,
        batch: 64,
        lr: 2e-3,
        optimizer: OptimizerConfig::AdamW { weight_decay: 1e-2 },
        schedule: Schedule::OneCycle { warmup: 0.2 },
    },
};

/// The files' names, for messages; each may end in `.gz` and have `.idx` for `-idx`.
pub const FILES: &str = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, \
                         t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz";
/// Mean pixel value of the training images, the figure that is used everywhere.
pub const MEAN: f32 = 0.1307;
/// Standard deviation of the pixel values of the training images.
pub const STD: f32 = 0.3081;

/// The copy of MNIST that the common frameworks use. Checksums as torchvision publishes them.
const SOURCE: Source = Source {
    url: "https://ossci-datasets.s3.amazonaws.com/mnist/",
    files: &[
        (
            "train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ],
};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
const SIDE: u32 = 28;
const CLASSES: u8 = 10;

/// Reads the four files from `dir`, plain or `.gz`.
///
/// # Errors
///
/// [`Error::Missing`] if a file is not there; [`Error::Data`] if one does not hold what it should
/// (another magic number or image size, no image, a label over 9, not as many labels as images, an end that
/// comes too early or too late, damaged gzip data); [`Error::Io`] if one cannot be read.
pub fn load(dir: &Path) -> Result<Split, Error> {
    Ok(Split {
        train: load_part(dir, "train", "mnist train")?,
        test: load_part(dir, "t10k", "mnist test")?,
    })
}

/// Downloads what `dir` lacks of the files.
fn fetch(agent: &Agent, dir: &Path, progress: OnProgress) -> Result<(), Error> {
    SOURCE.fetch(agent, dir, FILES, progress)
}

/// The path of a file such as `train-images-idx3-ubyte` under one of its four names.
fn find(dir: &Path, part: &str, kind: &str) -> Result<PathBuf, Error> {
    let dotted = kind.replace("-idx", ".idx");
    let names = [kind, &dotted].map(|kind| format!("{part}-{kind}-ubyte"));
    let paths = names
        .iter()
        .flat_map(|name| [dir.join(name), dir.join(format!("{name}.gz"))]);
    paths
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Missing {
            set: names[0].clone(),
            dir: dir.to_owned(),
            files: FILES.into(),
        })
}

fn load_part(dir: &Path, part: &str, name: &str) -> Result<ImageSet, Error> {
    let images = read_images(&find(dir, part, "images-idx3")?)?;
    let count = images.len() as u64 / u64::from(SIDE * SIDE);
    let labels = read_labels(&find(dir, part, "labels-idx1")?, count)?;
    Ok(ImageSet {
        name: name.into(),
        images,
        labels,
        channels: 1,
        height: SIDE as usize,
        width: SIDE as usize,
        margin: 0,
        classes: CLASSES.into(),
        scale: 1.0 / 255.0,
        mean: vec![MEAN],
        std: vec![STD],
    })
}

fn read_images(path: &Path) -> Result<Vec<u8>, Error> {
    let mut file = Reader::open(path)?;
    read_magic(&mut file, IMAGES_MAGIC, "images")?;
    let count = file.u32("number of images")?;
    if count == 0 {
        return Err(file.wrong(4, "there are no images".into()));
    }
    for (offset, what) in [(8, "rows"), (12, "columns")] {
        let size = file.u32(what)?;
        if size != SIDE {
            return Err(file.wrong(
                offset,
                format!("images have {size} {what}, expected {SIDE}"),
            ));
        }
    }
    let images = file.bytes(u64::from(count) * u64::from(SIDE * SIDE), "images")?;
    file.end()?;
    Ok(images)
}

fn read_labels(path: &Path, images: u64) -> Result<Vec<u8>, Error> {
    let mut file = Reader::open(path)?;
    read_magic(&mut file, LABELS_MAGIC, "labels")?;
    let count = u64::from(file.u32("number of labels")?);
    if count != images {
        return Err(file.wrong(4, format!("{count} labels, but there are {images} images")));
    }
    let labels = file.bytes(count, "labels")?;
    file.end()?;
    if let Some(place) = labels.iter().position(|&label| label >= CLASSES) {
        let message = format!("label is {}, expected 0 to {}", labels[place], CLASSES - 1);
        return Err(file.wrong(8 + place as u64, message));
    }
    Ok(labels)
}

fn read_magic(file: &mut Reader, expected: u32, what: &str) -> Result<(), Error> {
    let magic = file.u32("magic number")?;
    if magic == expected {
        return Ok(());
    }
    let message = format!("magic is {magic:#010x}, expected {expected:#010x} (IDX {what})");
    Err(file.wrong(0, message))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tempfile::TempDir;

    use super::*;

    const IMAGES: &str = "train-images-idx3-ubyte";
    const LABELS: &str = "train-labels-idx1-ubyte";

    /// An IDX file by the format's description.
    fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, sizes.len() as u8];
        file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn images(count: u32) -> Vec<u8> {
        let pixels: Vec<u8> = (0..count * 784).map(|i| (i % 251) as u8).collect();
        idx(&[count, 28, 28], &pixels)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A folder with three training and two test images, and `changed` in place of, or beside,
    /// some of its files.
    fn folder(changed: &[(&str, Vec<u8>)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut files = vec![
            (IMAGES, images(3)),
            (LABELS, idx(&[3], &[7, 0, 9])),
            ("t10k-images.idx3-ubyte", images(2)),
            ("t10k-labels-idx1-ubyte.gz", gzip(&idx(&[2], &[1, 2]))),
        ];
        files.extend_from_slice(changed);
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    /// What loading says about a folder with `bytes` as the file `name`, from the file's name on.
    fn message(name: &str, bytes: Vec<u8>) -> String {
        let dir = folder(&[(name, bytes)]);
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(!message.contains('\n'));
        let folder = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
        message.replace(&folder, "")
    }

    #[test]
    fn every_spelling_of_the_names_loads() {
        let split = load(folder(&[]).path()).unwrap();
        assert_eq!(split.train.labels, [7, 0, 9]);
        assert_eq!(split.test.labels, [1, 2]);
        assert_eq!(split.train.images.len(), 3 * 784);
        assert_eq!(split.train.image(1)[0], (784 % 251) as u8);
        assert_eq!(split.test.image(1).len(), 784);
    }

    #[test]
    fn a_wrong_magic_number() {
        assert_eq!(
            message(IMAGES, idx(&[3], &[0; 3])),
            "train-images-idx3-ubyte: offset 0: \
             magic is 0x00000801, expected 0x00000803 (IDX images)"
        );
        assert_eq!(
            message(LABELS, images(3)),
            "train-labels-idx1-ubyte: offset 0: \
             magic is 0x00000803, expected 0x00000801 (IDX labels)"
        );
    }

    #[test]
    fn no_images_at_all() {
        assert_eq!(
            message(IMAGES, images(0)),
            "train-images-idx3-ubyte: offset 4: there are no images"
        );
    }

    #[test]
    fn an_image_size_that_is_not_28() {
        assert_eq!(
            message(IMAGES, idx(&[1, 28, 32], &[0; 28 * 32])),
            "train-images-idx3-ubyte: offset 12: images have 32 columns, expected 28"
        );
    }

    #[test]
    fn a_file_that_ends_too_early() {
        // 16 bytes of header and two of three images.
        assert_eq!(
            message(IMAGES, images(3)[..16 + 2 * 784].to_vec()),
            "train-images-idx3-ubyte: offset 1584: \
             the file ends here, in the images (2352 bytes from offset 16)"
        );
        assert_eq!(
            message(IMAGES, vec![0, 0]),
            "train-images-idx3-ubyte: offset 2: \
             the file ends here, in the magic number (4 bytes from offset 0)"
        );
        // The largest size a header can claim costs no memory.
        assert_eq!(
            message(IMAGES, idx(&[u32::MAX, 28, 28], &[0; 5])),
            "train-images-idx3-ubyte: offset 21: \
             the file ends here, in the images (3367254359280 bytes from offset 16)"
        );
    }

    #[test]
    fn a_file_that_ends_too_late() {
        assert_eq!(
            message(LABELS, idx(&[3], &[7, 0, 9, 1])),
            "train-labels-idx1-ubyte: offset 11: the file goes on where it should end"
        );
    }

    #[test]
    fn a_label_out_of_range() {
        assert_eq!(
            message(LABELS, idx(&[3], &[7, 10, 9])),
            "train-labels-idx1-ubyte: offset 9: label is 10, expected 0 to 9"
        );
    }

    #[test]
    fn more_labels_than_images() {
        assert_eq!(
            message(LABELS, idx(&[4], &[7, 0, 9, 1])),
            "train-labels-idx1-ubyte: offset 4: 4 labels, but there are 3 images"
        );
    }

    #[test]
    fn corrupt_gzip_data() {
        let name = "t10k-labels-idx1-ubyte.gz";
        let good = gzip(&idx(&[2], &[1, 2]));
        let starts = |message: String, offset: u64| {
            let expected = format!("{name}: offset {offset}: the gzip data is corrupt (");
            assert!(message.starts_with(&expected), "{message}");
        };
        starts(message(name, b"not gzip at all".to_vec()), 0);
        // Cut inside the eight bytes of checksum and length, after all ten bytes of content.
        starts(message(name, good[..good.len() - 6].to_vec()), 10);
        let mut flipped = good.clone();
        *flipped.iter_mut().nth_back(7).unwrap() ^= 1;
        starts(message(name, flipped), 10);
    }

    #[test]
    fn a_missing_file_is_named_with_its_folder() {
        let dir = folder(&[]);
        fs::remove_file(dir.path().join(LABELS)).unwrap();
        assert_eq!(
            load(dir.path()).unwrap_err().to_string(),
            format!(
                "{}: no train-labels-idx1-ubyte here, expected {FILES}",
                dir.path().display()
            )
        );
    }

    #[test]
    fn the_real_files_load() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = root.join("../../../shared/data/mnist");
        if !dir.is_dir() {
            eprintln!("skipped: no MNIST in {}", dir.display());
            return;
        }
        let Split { train, test } = load(&dir).unwrap();
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!(train.labels[..5], [5, 0, 4, 1, 9]);
        assert_eq!(test.labels[..5], [7, 2, 1, 0, 4]);
        let mut counts = [0_u32; 256];
        for &pixel in &train.images {
            counts[usize::from(pixel)] += 1;
        }
        let mean_of = |f: fn(f64) -> f64| {
            let terms = counts
                .iter()
                .zip(0..)
                .map(|(&n, x)| f64::from(n) * f(f64::from(x) / 255.0));
            terms.sum::<f64>() / train.images.len() as f64
        };
        let (mean, square) = (mean_of(|x| x), mean_of(|x| x * x));
        assert!((mean - f64::from(MEAN)).abs() < 5e-5);
        assert!(((square - mean * mean).sqrt() - f64::from(STD)).abs() < 5e-5);
    }
}
