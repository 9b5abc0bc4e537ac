//! Files that NumPy and ml_dtypes wrote, against what these two round them to.

use std::fs;
use std::path::Path;

use lowbit_formats::tensor_file::{ApplyConfig, Output, Streams, apply, apply_with, read, read_as};
use lowbit_formats::{Format, Rounding};

use crate::folder::Folder;
use crate::words::{bytes, lines};

const TABLE: &str = include_str!("../reference/numpy.txt");

/// Name, type of `V1`, input, and output if it is not refused.
fn files() -> impl Iterator<Item = (&'static str, ApplyConfig, Vec<u8>, Option<Vec<u8>>)> {
    lines(TABLE).map(|line| {
        let [name, byte_type, input, output] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line}");
        };
        let config = ApplyConfig {
            bytes: (byte_type != "-").then(|| byte_type.parse().unwrap()),
            ..ApplyConfig::default()
        };
        (
            name,
            config,
            bytes(input),
            (output != "refused").then(|| bytes(output)),
        )
    })
}

fn format(text: &str) -> Format {
    text.parse().unwrap()
}

/// The rounded file is NumPy's own, byte for byte.
#[test]
fn arrays_of_every_type_are_rounded_as_numpy_rounds_them() {
    let folder = Folder::new("numpy-types");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let mut counts = [0, 0];
    for (name, config, before, after) in files().filter(|(name, ..)| !name.starts_with("npz")) {
        fs::write(&input, before).unwrap();
        let applied = apply_with(&format("int4"), &input, &output, &config);
        let Some(after) = after else {
            let message = applied.unwrap_err().to_string();
            assert!(message.contains("x.npy: holds "), "{name}: {message}");
            assert!(read(&input).is_err() && !output.exists(), "{name}");
            counts[1] += 1;
            continue;
        };
        assert_eq!(applied.unwrap().tensors.len(), 1, "{name}");
        assert!(fs::read(&output).unwrap() == after, "{name}");
        let rounded = read_as(&output, config.bytes).unwrap().tensors.remove(0);
        let mut expected = read_as(&input, config.bytes).unwrap().tensors.remove(0);
        expected
            .data
            .iter_mut()
            .for_each(|x| *x = x.round_ties_even() + 0.0);
        assert_eq!(rounded.data, expected.data, "{name}");
        fs::remove_file(&output).unwrap();
        counts[0] += 1;
    }
    assert_eq!(counts, [47, 13]);
}

#[test]
fn archives_are_rounded_array_by_array() {
    let folder = Folder::new("numpy-npz");
    let [input, output, expected] = ["x.npz", "y.npz", "z.npz"].map(|name| folder.file(name));
    for (name, config, before, after) in files().filter(|(name, ..)| name.starts_with("npz")) {
        fs::write(&input, before).unwrap();
        fs::write(&expected, after.unwrap()).unwrap();
        let applied = apply_with(&format("int4"), &input, &output, &config).unwrap();
        assert_eq!((applied.tensors.len(), applied.copied), (3, 1), "{name}");
        assert_eq!(applied.copied_types, ["`<i8`"]);
        let [rounded, expected] = [&output, &expected].map(|path| read(path).unwrap().tensors);
        assert_eq!(rounded.len(), 3);
        for (a, b) in rounded.iter().zip(&expected) {
            assert_eq!((&a.name, &a.shape, &a.data), (&b.name, &b.shape, &b.data));
        }
        let codes = apply(
            &format("int4"),
            Rounding::Up,
            &input,
            &output,
            Output::Codes,
        );
        assert!(codes.unwrap_err().to_string().contains("not codes"));
    }
}

/// Of a kind that is not read, by their first bytes: text, PNG, HDF5, GGUF, pickle, gzip, and a zip
/// archive of other files (an empty one).
#[test]
fn other_files_are_said_to_be_others() {
    let folder = Folder::new("numpy-others");
    let (input, output) = (folder.file("x.bin"), folder.file("y"));
    for start in [
        &b"a,b\n1,2\n"[..],
        b"",
        b"1",
        b"\x89PNG\r\n\x1a\n and more",
        b"\x89HDF\r\n\x1a\n and more",
        b"GGUF\x03\x00\x00\x00 and more",
        b"\x80\x02}q\x00(X\x01\x00 and more",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00 and more",
        b"\x04\x00\x00\x00\x00\x00\x00\x00 and more",
    ] {
        fs::write(&input, start).unwrap();
        for error in [
            read(&input).unwrap_err(),
            apply(
                &format("int4"),
                Rounding::Up,
                &input,
                &output,
                Output::Numbers,
            )
            .unwrap_err(),
        ] {
            let expected = "x.bin: is neither a .npy or .npz nor a safetensors file";
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }
    fs::write(&input, b"PK\x03\x04 and more").unwrap();
    assert!(read(&input).unwrap_err().to_string().contains(".npz"));
}

/// An array of f16 or f32 as NumPy writes it.
fn npy(descr: &str, data: &[u8], count: usize) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({count},), }}");
    let text = format!("{text:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

/// Around 60000, posit(8,2) holds 2^16 alone, beyond the largest float16, 65504 = 0x7BFF.
#[test]
fn finite_results_stay_finite_in_narrow_files() {
    let folder = Folder::new("numpy-narrow");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    // 60000 = 0x7B53: 32 * 1875 = 2^15 * (1 + 851 / 1024). Infinity is 0x7C00.
    let numbers = [0x53, 0x7B, 0x53, 0xFB, 0x00, 0x3C];
    fs::write(&input, npy("<f2", &numbers, 3)).unwrap();
    for text in ["posit(8,2)", "bf16", "pot(4)"] {
        let applied = apply(
            &format(text),
            Rounding::Up,
            &input,
            &output,
            Output::Numbers,
        );
        assert_eq!(applied.unwrap().tensors[0].error.overflowed, 0, "{text}");
        let data = read(&output).unwrap().tensors.remove(0).data;
        assert!(data.iter().all(|x| x.is_finite()), "{text}: {data:?}");
    }
    let nearest = Rounding::NearestEven;
    apply(
        &format("posit(8,2)"),
        nearest,
        &input,
        &output,
        Output::Numbers,
    )
    .unwrap();
    let expected = npy("<f2", &[0xFF, 0x7B, 0xFF, 0xFB, 0x00, 0x3C], 3);
    assert_eq!(fs::read(&output).unwrap(), expected);
}

/// int4 has no code for NaN or infinity.
#[test]
fn lost_nan_is_counted() {
    let folder = Folder::new("numpy-nan");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let numbers = [f32::NAN, 1.0, f32::INFINITY, f32::NAN];
    let data: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    fs::write(&input, npy("<f4", &data, 4)).unwrap();
    let lost = |text: &str, kind| {
        let applied = apply(&format(text), Rounding::NearestEven, &input, &output, kind);
        let error = applied.unwrap().tensors[0].error;
        (error.nan_lost, error.infinite_lost)
    };
    assert_eq!(lost("int4", Output::Codes), (2, 1));
    assert_eq!(lost("int4", Output::Numbers), (0, 1));
    assert_eq!(lost("e5m2", Output::Codes), (0, 0));
    assert_eq!(lost("e4m3", Output::Codes), (0, 0));
}

/// Half of a million numbers at 0.5 go up, and of the pairs of two tensors with words of their own
/// a half agree: four standard errors of a mean of halves are 4 * 0.5 / 1000.
#[test]
fn two_files_draw_words_of_their_own() {
    let folder = Folder::new("numpy-streams");
    let count = 1_000_000;
    let data: Vec<u8> = (0..count).flat_map(|_| 0.5f32.to_le_bytes()).collect();
    let rounded = |name: &str, streams, stream| {
        let (input, output) = (folder.file(name), folder.file("rounded.npy"));
        fs::write(&input, npy("<f4", &data, count)).unwrap();
        let config = ApplyConfig {
            rounding: Rounding::stochastic(7, stream),
            streams,
            ..ApplyConfig::default()
        };
        let applied = apply_with(&format("int8"), &input, &output, &config).unwrap();
        (
            read(&output).unwrap().tensors.remove(0).data,
            applied.tensors[0].rounding,
        )
    };
    let agree = |a: &[f32], b: &[f32]| {
        let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
        same as f64 / count as f64
    };
    let (a, rounding) = rounded("a.npy", Streams::Named, 0);
    let (b, _) = rounded("b.npy", Streams::Named, 0);
    assert!((agree(&a, &b) - 0.5).abs() < 0.002);
    assert_eq!(rounded("a.npy", Streams::Named, 5).0, a);
    // A stream that is named, the library takes as it is: tensor 0 of each file has that one.
    let (c, _) = rounded("c.npy", Streams::Numbered, 3);
    assert_eq!(rounded("d.npy", Streams::Numbered, 3).0, c);
    let halves = vec![0.5; count];
    let stream_3 = format("int8").quantize_to_vec(&halves, Rounding::stochastic(7, 3));
    assert_eq!(stream_3.unwrap(), c);
    // FNV-1a of `a.npy`, a byte of zero, and `a`, by Python:
    // functools.reduce(lambda h, c: (h ^ c) * 0x100000001B3 % 2**64, b"a.npy\0a", 0xCBF29CE484222325)
    assert_eq!(rounding, Rounding::stochastic(7, 5_737_369_966_014_645_560));
    assert!(Path::new(&folder.file("a.npy")).exists());
}
