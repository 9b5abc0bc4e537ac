//! A folder of images of your own, a folder for each class.
//!
//! ```text
//! DIR/train/cat/001.jpg    DIR/val/cat/901.jpg
//! DIR/train/dog/001.png    DIR/val/dog/901.png
//! ```
//!
//! Classes are the folders in `train`, in the order of their names; what is in `val` is to test with.
//! Images are the files ending in `.png`, `.jpg` or `.jpeg` (capitals, too); all else, and what begins
//! with a dot, is passed over. Each is brought to red, green and blue: grey ones get three equal
//! channels, transparency is dropped, 16 bits become 8.
//!
//! All images are decoded when the set is loaded, and held as bytes: `3 side^2` for each, with a side
//! of the crop for those of `val`, and up to that of the resized image for those of `train`. A hundred
//! thousand training images at the usual sizes take 19.7 GB. A set that the free memory cannot hold is
//! refused before anything is decoded.

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::zune_core::result::DecodingResult;
use zune_png::PngDecoder;

use super::resize::{Rgb, resized_middle};
use super::{Augment, Defaults, Description, ImageSet, Split};
use crate::Error;
use crate::models::{Architecture, BaseNetwork, ResNetForm};
use crate::optim::{OptimizerConfig, Schedule};

pub(super) const DESCRIPTION: Description = Description {
    name: "folder",
    is_text: false,
    // The crop moves in the margin.
    augment: Some(Augment { pad: 0, flip: true }),
    read: |dir| ImageFolder::default().load(dir),
    download: Some(|_, _, _| Err(no_folder())),
    defaults: Defaults {
        model: Architecture::of(BaseNetwork::PostActResNet {
            form: ResNetForm::EighteenImageNet,
        }),
        epochs: 90,
        batch: 256,
        lr: 0.1,
        optimizer: OptimizerConfig::Sgd {
            momentum: 0.9,
            weight_decay: 1e-4,
        },
        schedule: Schedule::Cosine,
    },
};

/// What is said where no folder is.
pub(crate) fn no_folder() -> Error {
    let message = "is not given, and the images of the data set `folder` are in a folder of yours";
    Error::config("data_dir", message)
}

/// How the images of a folder are read: resized, cropped and normalized.
///
/// The usual sizes and numbers are those of torchvision's recipe for ImageNet. A test image is
/// brought to 256 pixels on its shorter side, and the middle 224x224 of it is seen. Of a training
/// image the middle square of so many pixels is held, and each epoch sees a crop of 224x224 at a
/// random place of it, mirrored half of the time; torchvision's training crops have random sizes,
/// too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageFolder {
    /// Pixels of the shorter side that images are brought to; 0 for images as they are.
    pub resize: u32,
    /// Rows and columns of what the network sees.
    pub crop: u32,
    /// Mean of each channel, of values from 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of each channel.
    pub std: [f64; 3],
}

impl Default for ImageFolder {
    fn default() -> Self {
        Self {
            resize: 256,
            crop: 224,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

/// Labels are bytes.
const MOST_CLASSES: usize = 256;

/// An image's file and class.
type Labelled = (PathBuf, u8);

impl ImageFolder {
    /// Whether everything is as usual.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The resized side that goes with a crop, unless given: as 256 with 224.
    pub fn usual_resize(crop: u32) -> u32 {
        (f64::from(crop) * 256.0 / 224.0).round() as u32
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        if self.crop == 0 {
            return Err(Error::config("crop", "is 0, expected at least 1"));
        }
        if self.resize != 0 && self.resize < self.crop {
            let message = format!(
                "is {}, expected at least the {} of the crop, or 0 for images as they are",
                self.resize, self.crop
            );
            return Err(Error::config("resize", message));
        }
        let all = self.mean.iter().chain(&self.std);
        if !all.clone().all(|number| number.is_finite()) || self.std.iter().any(|&std| std <= 0.0) {
            let message = "expected three numbers, and three positive ones";
            return Err(Error::config("mean and std", message));
        }
        Ok(())
    }

    /// Reads the images in `dir`.
    ///
    /// # Errors
    /// With the file or folder: if there is no `train` or `val`, a class has no image, `val` has a
    /// class that `train` lacks, there are more than 256 classes, the free memory cannot hold the
    /// images, or one cannot be read or is smaller than the crop (where images are not resized).
    pub fn load(&self, dir: &Path) -> Result<Split, Error> {
        self.check()?;
        let [train, val] = ["train", "val"].map(|part| dir.join(part));
        if !train.is_dir() || !val.is_dir() {
            return Err(Error::Missing {
                set: "folder".into(),
                dir: dir.into(),
                files: "train/CLASS/*.png or *.jpg, and val/CLASS/*".into(),
            });
        }
        let classes = classes(&train)?;
        let train_files = files(&train, &classes)?;
        let unknown = self::classes(&val)?.difference(&classes).next().cloned();
        if let Some(unknown) = unknown {
            let message = format!("is no class, as {} has no such folder", train.display());
            return Err(wrong(val.join(unknown), message));
        }
        let present = |class: &&String| val.join(class).is_dir();
        let val_files = files_of(&val, classes.iter().filter(present), &classes)?;
        let margin = (self.resize.saturating_sub(self.crop) / 2) as usize;
        let crop = self.crop as usize;
        let of = |count: usize, side: usize| 3 * side as u64 * side as u64 * count as u64;
        let bytes = of(train_files.len(), crop + 2 * margin) + of(val_files.len(), crop);
        if let Some(free) = free_bytes().filter(|&free| free < bytes) {
            let [needed, free] = [bytes, free].map(|bytes| bytes as f64 / 1e9);
            let images = train_files.len() + val_files.len();
            let message =
                format!("{images} images take {needed:.1} GB of memory, {free:.1} GB are free");
            return Err(wrong(dir.into(), message));
        }
        let set = |part: &str, files: &[Labelled], margin: usize| {
            Ok(ImageSet {
                name: format!("folder {part}"),
                images: self.decoded(files, margin)?,
                labels: files.iter().map(|(_, label)| *label).collect(),
                channels: 3,
                height: crop,
                width: crop,
                margin,
                classes: classes.len(),
                scale: 1.0 / 255.0,
                mean: self.mean.map(|number| number as f32).into(),
                std: self.std.map(|number| number as f32).into(),
            })
        };
        Ok(Split {
            train: set("train", &train_files, margin)?,
            test: set("val", &val_files, 0)?,
        })
    }

    /// The pixels of all images, one after the other; of several that cannot be read, the first is
    /// told.
    fn decoded(&self, files: &[Labelled], margin: usize) -> Result<Vec<u8>, Error> {
        let side = self.crop as usize + 2 * margin;
        let size = 3 * side * side;
        let mut images = vec![0; files.len() * size];
        let outputs = images.par_chunks_exact_mut(size).zip(files);
        let failed = outputs.find_map_first(|(output, (path, _))| {
            let image = self.decode(path, side);
            image.map(|image| output.copy_from_slice(&image)).err()
        });
        failed.map_or(Ok(images), Err)
    }

    /// The middle `side` pixels of an image, `[3, side, side]`.
    fn decode(&self, path: &Path, side: usize) -> Result<Vec<u8>, Error> {
        let image = read_image(path)?;
        let (width, height) = (image.width, image.height);
        let shorter = (self.resize > 0).then_some(self.resize as usize);
        if shorter.is_none() && width.min(height) < side {
            let message = format!("is {width}x{height}, smaller than the crop of {side}x{side}");
            return Err(wrong(path.into(), message));
        }
        Ok(resized_middle(&image, shorter, side))
    }
}

fn wrong(path: PathBuf, message: impl Into<String>) -> Error {
    Error::Data {
        path,
        offset: None,
        message: message.into(),
    }
}

/// The names of what is in a folder, less what begins with a dot; sorted.
fn names(dir: &Path) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let name = entry.map_err(Error::io(dir))?.file_name();
        let name = name.into_string().map_err(|name| {
            let message = format!("{} is no Unicode", name.display());
            wrong(dir.into(), message)
        })?;
        if !name.starts_with('.') {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The folders in one.
fn classes(part: &Path) -> Result<BTreeSet<String>, Error> {
    let mut classes = names(part)?;
    classes.retain(|name| part.join(name).is_dir());
    match classes.len() {
        0 => Err(wrong(
            part.into(),
            "holds no class, expected a folder for each",
        )),
        count if count > MOST_CLASSES => {
            let message = format!("holds {count} classes, expected {MOST_CLASSES} at most");
            Err(wrong(part.into(), message))
        }
        _ => Ok(classes),
    }
}

fn files(part: &Path, classes: &BTreeSet<String>) -> Result<Vec<Labelled>, Error> {
    files_of(part, classes.iter(), classes)
}

/// The images of `some` of the classes.
fn files_of<'a>(
    part: &Path,
    some: impl Iterator<Item = &'a String>,
    classes: &BTreeSet<String>,
) -> Result<Vec<Labelled>, Error> {
    let mut files = Vec::new();
    for class in some {
        let label = classes.iter().position(|known| known == class);
        let label = label.expect("it is one of them") as u8;
        let dir = part.join(class);
        let before = files.len();
        let names = names(&dir)?.into_iter();
        let images = names.filter(|name| format_of(name).is_some());
        files.extend(images.map(|name| (dir.join(name), label)));
        if files.len() == before {
            let message = "holds no image, expected .png, .jpg or .jpeg";
            return Err(wrong(dir, message));
        }
    }
    Ok(files)
}

#[derive(Clone, Copy)]
enum ImageFormat {
    Png,
    Jpeg,
}

/// What the ending of a file's name says.
fn format_of(name: &str) -> Option<ImageFormat> {
    let (_, extension) = name.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        _ => None,
    }
}

fn read_image(path: &Path) -> Result<Rgb, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = match format_of(&name) {
        Some(ImageFormat::Jpeg) => read_jpeg,
        _ => read_png,
    };
    let file = fs::File::open(path).map_err(Error::io(path))?;
    let image = read(BufReader::new(file)).map_err(|error| {
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        wrong(path.into(), format!("cannot be decoded: {error}"))
    })?;
    match image.width.min(image.height) {
        0 => Err(wrong(path.into(), "has no pixels")),
        _ => Ok(image),
    }
}

fn read_png(file: BufReader<fs::File>) -> Result<Rgb, String> {
    let options = DecoderOptions::default().png_set_strip_to_8bit(true);
    let mut decoder = PngDecoder::new_with_options(file, options);
    let decoded = decoder.decode().map_err(|error| error.to_string())?;
    let (Some((width, height)), DecodingResult::U8(bytes)) = (decoder.dimensions(), decoded) else {
        return Err("has no bytes".into());
    };
    let channels = bytes.len() / (width * height).max(1);
    if !(1..=4).contains(&channels) || bytes.len() != channels * width * height {
        return Err("has an unknown color space".into());
    }
    let pixels = bytes.chunks_exact(channels);
    // With one channel or two the first is grey.
    let bytes = match channels {
        1 | 2 => pixels.flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => pixels
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
    };
    Ok(Rgb {
        bytes,
        width,
        height,
    })
}

fn read_jpeg(file: BufReader<fs::File>) -> Result<Rgb, String> {
    // The crate is built without its code for single CPUs, so that bytes are the same on each.
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(file, options);
    let bytes = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("has no size")?;
    if bytes.len() != 3 * width * height {
        return Err("has an unknown color space".into());
    }
    Ok(Rgb {
        bytes,
        width,
        height,
    })
}

/// The bytes of memory that are free, where the system says (Linux, proc(5)'s `MemAvailable`).
fn free_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A PNG of pixels with this depth and color type, row by row, each behind a byte 0 (no filter).
    fn png([width, height]: [u32; 2], [depth, color_type]: [u8; 2], rows: &[u8]) -> Vec<u8> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(rows).unwrap();
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([depth, color_type, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        for (name, data) in [
            (b"IHDR", header),
            (b"IDAT", zlib.finish().unwrap()),
            (b"IEND", Vec::new()),
        ] {
            let mut crc = flate2::Crc::new();
            crc.update(name);
            crc.update(&data);
            png.extend((data.len() as u32).to_be_bytes());
            png.extend(name);
            png.extend(data);
            png.extend(crc.sum().to_be_bytes());
        }
        png
    }

    /// Writes a PNG of one color.
    fn write(path: &Path, width: u32, height: u32, color: [u8; 3]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let row = [&[0], &color.repeat(width as usize)[..]].concat();
        let rows = row.repeat(height as usize);
        fs::write(path, png([width, height], [8, 2], &rows)).unwrap();
    }

    /// Two cats and a dog to train on, a dog to test with.
    fn pets() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("train/dog/b.png"), 9, 12, [0, 0, 200]);
        write(&path("train/cat/2.png"), 8, 8, [0, 100, 0]);
        write(&path("train/cat/1.PNG"), 12, 9, [50, 0, 0]);
        write(&path("val/dog/c.png"), 10, 8, [1, 2, 3]);
        fs::write(path("train/cat/notes.txt"), "no image").unwrap();
        fs::write(path("train/labels.csv"), "no class").unwrap();
        fs::create_dir(path("train/.cache")).unwrap();
        dir
    }

    fn small() -> ImageFolder {
        ImageFolder {
            resize: 6,
            crop: 4,
            ..ImageFolder::default()
        }
    }

    fn message(folder: &ImageFolder, dir: &Path) -> String {
        let message = folder.load(dir).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        message.replace(&dir.display().to_string(), "DIR")
    }

    #[test]
    fn classes_are_folders_in_the_order_of_their_names() {
        let split = small().load(pets().path()).unwrap();
        assert_eq!((split.train.classes, split.test.classes), (2, 2));
        assert_eq!(split.train.labels, [0, 0, 1]);
        assert_eq!(split.test.labels, [1]);
        // A color everywhere stays one. Training images have a margin of one pixel.
        let plane = |color: [u8; 3], size: usize| color.map(|byte| vec![byte; size]).concat();
        assert_eq!(split.train.margin, 1);
        assert_eq!(split.train.image(0), plane([50, 0, 0], 36));
        assert_eq!(split.train.image(1), plane([0, 100, 0], 36));
        assert_eq!(split.train.image(2), plane([0, 0, 200], 36));
        assert_eq!(split.test.image(0), plane([1, 2, 3], 16));
        split.check().unwrap();
    }

    /// The mean of ImageNet's red is 0.485, its deviation 0.229: a red of 50 is seen as
    /// (50 / 255 - 0.485) / 0.229.
    #[test]
    fn channels_are_normalized_as_imagenets() {
        let split = small().load(pets().path()).unwrap();
        let mut out = vec![0.0; 48];
        let crop = DESCRIPTION.augment.unwrap();
        split.train.fill_batch(&[0], Some((&crop, 1, 2)), &mut out);
        let expected = (50.0 / 255.0 - 0.485) / 0.229;
        assert!(out[..16].iter().all(|x: &f32| (x - expected).abs() < 1e-6));
    }

    #[test]
    fn images_as_they_are_lose_what_is_over_the_crop() {
        let folder = ImageFolder {
            resize: 0,
            crop: 8,
            ..ImageFolder::default()
        };
        let split = folder.load(pets().path()).unwrap();
        assert_eq!((split.train.margin, split.train.height), (0, 8));
        let folder = ImageFolder { crop: 9, ..folder };
        assert_eq!(
            message(&folder, pets().path()),
            "DIR/train/cat/2.png: is 8x8, smaller than the crop of 9x9"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            message(&small(), dir.path()),
            "DIR: no folder here, expected train/CLASS/*.png or *.jpg, and val/CLASS/*"
        );
        for part in ["train", "val"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        assert_eq!(
            message(&small(), dir.path()),
            "DIR/train: holds no class, expected a folder for each"
        );
        fs::create_dir(dir.path().join("train/cat")).unwrap();
        assert_eq!(
            message(&small(), dir.path()),
            "DIR/train/cat: holds no image, expected .png, .jpg or .jpeg"
        );
        let pets = pets();
        write(&pets.path().join("val/bird/1.png"), 8, 8, [0; 3]);
        assert_eq!(
            message(&small(), pets.path()),
            "DIR/val/bird: is no class, as DIR/train has no such folder"
        );
    }

    #[test]
    fn an_image_that_cannot_be_read_is_named() {
        let pets = pets();
        fs::write(pets.path().join("train/dog/a.jpg"), [0xff, 0xd8, 0xff]).unwrap();
        let found = message(&small(), pets.path());
        assert!(
            found.starts_with("DIR/train/dog/a.jpg: cannot be decoded: "),
            "{found}"
        );
        fs::remove_file(pets.path().join("train/dog/a.jpg")).unwrap();
        fs::write(pets.path().join("val/dog/d.png"), "GIF89a").unwrap();
        let found = message(&small(), pets.path());
        assert!(
            found.starts_with("DIR/val/dog/d.png: cannot be decoded: "),
            "{found}"
        );
    }

    #[test]
    fn more_than_the_memory_holds_is_refused_before_it_is_decoded() {
        let Some(free) = free_bytes() else { return };
        assert!(free > 1 << 20);
        // Four images of a million pixels squared are 12 TB.
        let folder = ImageFolder {
            resize: 1_000_000,
            crop: 1_000_000,
            ..ImageFolder::default()
        };
        let found = message(&folder, pets().path());
        assert!(
            found.starts_with("DIR: 4 images take 12000.0 GB of memory, "),
            "{found}"
        );
    }

    /// A grey PNG of 16 bits with transparency, as bytes 128 and 3 of the upper halves; and a grey
    /// JPEG, made with Pillow from a plain 128.
    #[test]
    fn grey_transparent_and_deep_images_become_red_green_and_blue() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let row = [0, 128, 7, 255, 0, 3, 200, 0, 0];
        fs::write(&path, png([2, 1], [16, 4], &row)).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!(image.bytes, [128, 128, 128, 3, 3, 3]);
        // One bit each: white, black, white.
        fs::write(&path, png([3, 1], [1, 0], &[0, 0b1010_0000])).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!(image.bytes, [[255; 3], [0; 3], [255; 3]].as_flattened());
        let path = dir.path().join("a.jpeg");
        fs::write(
            &path,
            include_bytes!("../../tests/fixtures/images/grey.jpg"),
        )
        .unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!((image.width, image.height), (8, 8));
        assert_eq!(image.bytes, [128; 192]);
    }

    /// Four squares of 8x8, one a block of the JPEG, which Pillow made and reads as (200, 30, 39),
    /// (20, 179, 60), (10, 60, 219) and (128, 128, 128).
    #[test]
    fn a_jpeg_has_its_colors_where_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.JPG");
        let bytes = include_bytes!("../../tests/fixtures/images/quadrants.jpg");
        fs::write(&path, bytes).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!((image.width, image.height), (16, 16));
        for (x, y, color) in [
            (0, 0, [200, 30, 39]),
            (15, 0, [20, 179, 60]),
            (0, 15, [10, 60, 219]),
            (15, 15, [128; 3]),
        ] {
            let found = &image.bytes[(y * 16 + x) * 3..][..3];
            for (&found, expected) in found.iter().zip(color) {
                assert!(
                    (i32::from(found) - expected).abs() <= 2,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let refused = |folder: ImageFolder| folder.check().unwrap_err().to_string();
        let usual = ImageFolder::default();
        assert_eq!(
            refused(ImageFolder {
                resize: 200,
                ..usual.clone()
            }),
            "resize: is 200, expected at least the 224 of the crop, or 0 for images as they are"
        );
        assert_eq!(
            refused(ImageFolder {
                crop: 0,
                ..usual.clone()
            }),
            "crop: is 0, expected at least 1"
        );
        assert_eq!(
            refused(ImageFolder {
                std: [1.0, 0.0, 1.0],
                ..usual
            }),
            "mean and std: expected three numbers, and three positive ones"
        );
        assert_eq!(ImageFolder::usual_resize(224), 256);
        assert_eq!(ImageFolder::usual_resize(56), 64);
    }
}
