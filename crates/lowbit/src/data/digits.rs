//! The handwritten digits that are part of the library: 1,797 images of 8 x 8 pixels in 17 shades
//! of grey ("Optical Recognition of Handwritten Digits", test part; E. Alpaydin, C. Kaynak, 1998,
//! UCI Machine Learning Repository, doi 10.24432/C50P49; CC BY 4.0).

use std::path::Path;

use super::reader::Reader;
use super::{Defaults, Description, ImageSet, Split};
use crate::Error;
use crate::models::{Architecture, BaseNetwork};
use crate::optim::{OptimizerConfig, Schedule};

pub(super) const DESCRIPTION: Description = Description {
    name: "digits",
    is_text: false,
    augment: None,
    read: |_| load(),
    download: None,
    defaults: Defaults {
        model: Architecture::of(BaseNetwork::Cnn),
        epochs: 20,
        batch: 32,
        lr: 1e-2,
        optimizer: OptimizerConfig::AdamW { weight_decay: 1e-2 },
        schedule: Schedule::OneCycle { warmup: 0.2 },
    },
};

const FILE: &str = "digits.csv.gz";
const CSV: &[u8] = include_bytes!("../../assets/digits.csv.gz");
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
const WHITE: u8 = 16;
const CLASSES: u8 = 10;

/// Mean pixel value of the 1,438 training images.
pub const MEAN: f32 = 0.304_669_84;
/// Standard deviation of the pixel values of the 1,438 training images.
pub const STD: f32 = 0.375_808_37;

/// The digits, in 1,438 images to train on and 359 to test with.
///
/// The split never changes: with the rows sorted by label (rows of one label in the file's order),
/// every fifth, beginning with the fifth, is a test image. So each class is split 80 to 20, to
/// within one image. Inside each part the images stand in the file's order.
///
/// # Errors
///
/// [`Error::Data`] if the embedded file is damaged.
pub fn load() -> Result<Split, Error> {
    let path = Path::new(FILE);
    let mut file = Reader::new(path, Box::new(flate2::bufread::MultiGzDecoder::new(CSV)));
    let rows = parse(&mut file)?;
    let is_test = test_rows(&rows);
    let part = |test| {
        let chosen = rows
            .iter()
            .zip(&is_test)
            .filter(move |(_, is)| **is == test);
        chosen.map(|(row, _)| row)
    };
    Ok(Split {
        train: image_set("digits train", part(false)),
        test: image_set("digits test", part(true)),
    })
}

/// An image and its label.
struct Row {
    pixels: [u8; PIXELS],
    label: u8,
}

/// Reads lines of 64 pixels and a label, separated by commas.
fn parse(file: &mut Reader) -> Result<Vec<Row>, Error> {
    let text = file.rest()?;
    let mut rows = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let row = parse_row(line.trim_ascii_end());
        rows.push(row.map_err(|message| file.wrong(offset, message))?);
        offset += line.len() as u64;
    }
    Ok(rows)
}

fn parse_row(line: &[u8]) -> Result<Row, String> {
    let fields = line.split(|&byte| byte == b',');
    let numbers: Vec<u8> = fields.map(parse_number).collect::<Result<_, _>>()?;
    let (&label, pixels) = numbers.split_last().ok_or("the line is empty")?;
    let pixels: [u8; PIXELS] = pixels
        .try_into()
        .map_err(|_| format!("{} numbers, expected {}", numbers.len(), PIXELS + 1))?;
    if let Some(pixel) = pixels.iter().find(|&&pixel| pixel > WHITE) {
        return Err(format!("pixel is {pixel}, expected 0 to {WHITE}"));
    }
    if label >= CLASSES {
        return Err(format!("label is {label}, expected 0 to {}", CLASSES - 1));
    }
    Ok(Row { pixels, label })
}

fn parse_number(field: &[u8]) -> Result<u8, String> {
    let text = String::from_utf8_lossy(field);
    text.parse()
        .map_err(|_| format!("`{text}` is no pixel or label"))
}

/// Which rows are for testing; see [`load`].
fn test_rows(rows: &[Row]) -> Vec<bool> {
    let mut by_label: Vec<usize> = (0..rows.len()).collect();
    by_label.sort_by_key(|&row| rows[row].label);
    let mut is_test = vec![false; rows.len()];
    for &row in by_label.iter().skip(4).step_by(5) {
        is_test[row] = true;
    }
    is_test
}

fn image_set<'a>(name: &str, rows: impl Iterator<Item = &'a Row>) -> ImageSet {
    let (images, labels): (Vec<_>, Vec<_>) = rows.map(|row| (row.pixels, row.label)).unzip();
    ImageSet {
        name: name.into(),
        images: images.into_flattened(),
        labels,
        channels: 1,
        height: SIDE,
        width: SIDE,
        margin: 0,
        classes: CLASSES.into(),
        scale: 1.0 / f32::from(WHITE),
        mean: vec![MEAN],
        std: vec![STD],
    }
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;

    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    fn counts(set: &ImageSet) -> [usize; 10] {
        let count = |class| set.labels.iter().filter(|&&label| label == class).count();
        std::array::from_fn(|class| count(class as u8))
    }

    /// The expected numbers come from a separate program in Python that sorts the file's lines,
    /// takes every fifth and prints the CRC-32 (zlib's) of what is left and what is taken.
    #[test]
    fn the_split_is_the_same_forever() {
        let Split { train, test } = load().unwrap();
        assert_eq!((train.len(), test.len()), (1438, 359));
        assert_eq!(
            counts(&train),
            [143, 145, 142, 146, 145, 146, 145, 143, 139, 144]
        );
        assert_eq!(counts(&test), [35, 37, 35, 37, 36, 36, 36, 36, 35, 36]);
        assert_eq!(crc(&train.labels), 0xD925_8742);
        assert_eq!(crc(&test.labels), 0x2994_4A12);
        assert_eq!(crc(&train.images), 0x9279_8D70);
        assert_eq!(crc(&test.images), 0xF97C_5A26);
    }

    #[test]
    fn the_first_image_is_the_zero_that_the_file_begins_with() {
        let train = load().unwrap().train;
        assert_eq!(train.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(train.labels[0], 0);
    }

    #[test]
    fn a_batch_of_all_training_images_has_mean_0_and_deviation_1() {
        let train = load().unwrap().train;
        let all: Vec<u32> = (0..train.len() as u32).collect();
        let mut out = vec![0.0; train.images.len()];
        train.fill_batch(&all, None, &mut out);
        let mean_of = |f: fn(f64) -> f64| {
            let sum: f64 = out.iter().map(|&x| f(x.into())).sum();
            sum / out.len() as f64
        };
        assert!(mean_of(|x| x).abs() < 1e-6);
        assert!((mean_of(|x| x * x) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_damaged_line_is_named_by_its_offset() {
        let zeros = "0,".repeat(PIXELS);
        let good = format!("{zeros}9\n");
        let message = |line: &str| {
            let text = format!("{good}{line}").into_bytes();
            let mut file = Reader::new(Path::new("x.csv"), Box::new(std::io::Cursor::new(text)));
            parse(&mut file).err().map(|error| error.to_string())
        };
        assert_eq!(message(&good), None);
        // 64 times "0," and "9" with the end of line are 130 bytes.
        let at = |what: &str| Some(format!("x.csv: offset 130: {what}"));
        assert_eq!(message("1,2\n"), at("2 numbers, expected 65"));
        assert_eq!(
            message(&format!("{zeros}10\n")),
            at("label is 10, expected 0 to 9")
        );
        assert_eq!(
            message(&format!("17,{}3\n", &zeros[2..])),
            at("pixel is 17, expected 0 to 16")
        );
        assert_eq!(message("a\n"), at("`a` is no pixel or label"));
    }
}
