//! Training on images in folders.

use std::fs;
use std::io::Write;
use std::path::Path;

use lowbit::train::{Method, Settings};

use super::training::{assert_same_runs, train};

/// Writes a PNG of grey noise over a brightness.
fn write(path: &Path, [width, height]: [u32; 2], brightness: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |i: u32| brightness + (i * i % 61) as u8;
    // Rows of bytes behind a byte 0, which is no filter.
    let rows = (0..height).flat_map(|y| {
        [0].into_iter()
            .chain((0..width).map(move |x| pixel(y * width + x)))
    });
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&rows.collect::<Vec<u8>>()).unwrap();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // Eight bits of grey.
    header.extend([8, 0, 0, 0, 0]);
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
    fs::write(path, png).unwrap();
}

/// Dark and bright images of different sizes.
fn images(dir: &Path) {
    for (class, brightness) in [("bright", 190), ("dark", 5)] {
        for i in 0..24 {
            let part = if i < 16 { "train" } else { "val" };
            let path = dir.join(format!("{part}/{class}/{i}.png"));
            write(&path, [12 + i % 5, 11 + i % 7], brightness);
        }
    }
}

/// Two runs, each with its own copy of the data, on one thread and on two: the same bits.
#[test]
fn a_network_learns_images_in_folders() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("images");
    images(&dir);
    let settings = Settings {
        data: Some("folder".parse().unwrap()),
        data_dir: Some(dir),
        image_resize: Some(10),
        image_crop: Some(8),
        model: Some("cnn".parse().unwrap()),
        method: Some(Method::FLOAT),
        epochs: Some(6),
        batch: Some(8),
        lr: Some(0.05),
        ..Settings::default()
    };
    let experiment = settings.complete().unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let path = temporary.path().join(format!("runs-{threads}"));
        pool.install(|| {
            let split = experiment.load(None, &mut |_| {}).unwrap();
            assert_eq!((split.train.len(), split.train.margin), (32, 1));
            train(&path, &experiment, &split)
        })
    };
    let (one, two) = (on(1), on(2));
    assert_same_runs(&one, &two, &experiment);
    let result = one.result("float").unwrap().unwrap();
    assert_eq!(result.accuracy, 1.0);
    // Two classes have no five.
    assert_eq!(result.top5_accuracy, None);
}
