//! Files written by hand, rounded, and read back.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use crate::kernel::pack::unpack;
use crate::tensor_file::*;

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lowbit-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn format(text: &str) -> Format {
    text.parse().unwrap()
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// An array as NumPy writes it, version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let text = format!("{text:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

fn run(text: &str, input: &Path, output: &Path, kind: Output) -> Result<Applied, FormatError> {
    apply(&format(text), Rounding::NearestEven, input, output, kind)
}

#[test]
fn an_array_is_rounded_in_its_type() {
    let folder = Folder::new("npy");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let numbers = [0.3, -1.0, 1e9, 0.0, 2.1, 17.0];
    fs::write(&input, npy("<f4", "(2, 3)", &floats(&numbers))).unwrap();
    let applied = run("e4m3(saturate)", &input, &output, Output::Numbers).unwrap();
    // 17 lies between 16 and 18, whose even one is 16; 2.1 between 2 and 2.25.
    let expected = [0.3125, -1.0, 448.0, 0.0, 2.0, 16.0];
    let written = fs::read(&output).unwrap();
    assert_eq!(written, npy("<f4", "(2, 3)", &floats(&expected)));
    let tensor = &applied.tensors[0];
    assert_eq!(
        (tensor.dtype.as_str(), &tensor.shape[..]),
        ("f32", &[2, 3][..])
    );
    assert_eq!(
        (tensor.error.saturated, tensor.error.max_error),
        (1, 1e9 - 448.0)
    );
    assert_eq!(applied.bytes_out, written.len() as u64);
    assert_eq!(read(&output).unwrap().tensors[0].data, expected);
    // The output may be the input.
    run("int8", &output, &output, Output::Numbers).unwrap();
    assert_eq!(
        read(&output).unwrap().tensors[0].data,
        [0.0, -1.0, 127.0, 0.0, 2.0, 16.0]
    );
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
}

#[test]
fn an_f64_is_rounded_once() {
    let folder = Folder::new("f64");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    // Just above the tie between 1 and 1.125 in e4m3, by less than an f32 tells.
    let number = 1.0625f64 + 2f64.powi(-40);
    fs::write(&input, npy("<f8", "(1,)", &number.to_le_bytes())).unwrap();
    run("e4m3", &input, &output, Output::Numbers).unwrap();
    assert_eq!(read(&output).unwrap().tensors[0].data, [1.125]);
}

#[test]
fn pieces_give_the_numbers_of_one_pass() {
    let folder = Folder::new("pieces");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let count = (1 << 20) + 77;
    let numbers = crate::study::compare::Distribution::Normal.samples(count, 1);
    fs::write(
        &input,
        npy("<f4", &format!("({count},)"), &floats(&numbers)),
    )
    .unwrap();
    let (format, rounding) = (format("e4m3"), Rounding::stochastic(3, 9));
    apply(&format, rounding, &input, &output, Output::Numbers).unwrap();
    let expected = format.quantize_to_vec(&numbers, rounding).unwrap();
    assert!(read(&output).unwrap().tensors[0].data == expected);
    apply(&format, rounding, &input, &output, Output::Codes).unwrap();
    let bytes = fs::read(&output).unwrap();
    let codes = unpack(&bytes[bytes.len() - count..], 8, count).unwrap();
    assert!(format.decode(&codes) == expected);
}

/// A file of one array that cannot be rounded is a mistake, which a copy would hide.
#[test]
fn other_arrays_are_refused_by_name() {
    let folder = Folder::new("copied");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let bytes = npy("<i4", "(1,)", &[1, 2, 3, 4]);
    fs::write(&input, &bytes).unwrap();
    for error in [
        run("e4m3", &input, &output, Output::Numbers).unwrap_err(),
        read(&input).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("x.npy: holds `<i4`"), "{text}");
    }
    assert!(!output.exists());
}

/// A matrix in f32, a row in bf16, and whole numbers.
fn safetensors_file() -> Vec<u8> {
    let matrix = floats(&[12.0, 1.0, 3.1, -0.3, 0.0, 100.0]);
    let row: Vec<u8> = [0.3f32, 5.0]
        .iter()
        .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
        .collect();
    let whole = [1u8, 2, 3];
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
    let tensors = [
        ("matrix", view(Dtype::F32, &[2, 3], &matrix)),
        ("row", view(Dtype::BF16, &[2], &row)),
        ("whole", view(Dtype::U8, &[3], &whole)),
    ];
    let metadata = HashMap::from([("author".to_string(), "me".to_string())]);
    serialize(tensors, Some(metadata)).unwrap()
}

#[test]
fn tensors_are_rounded_in_their_places() {
    let folder = Folder::new("safetensors");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    fs::write(&input, safetensors_file()).unwrap();
    let applied = run("int4", &input, &output, Output::Numbers).unwrap();
    assert_eq!((applied.tensors.len(), applied.copied), (2, 1));
    assert_eq!(applied.bytes_in, applied.bytes_out);
    let bytes = fs::read(&output).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = floats(&[7.0, 1.0, 3.0, 0.0, 0.0, 7.0]);
    assert_eq!(tensors.tensor("matrix").unwrap().data(), matrix);
    assert_eq!(tensors.tensor("whole").unwrap().data(), [1, 2, 3]);
    assert_eq!(read(&output).unwrap().tensors[1].data, [0.0, 5.0]);
}

/// OCP microscaling: of each row the largest element decides, so the scales are 2^(3-2) and
/// 2^(6-2), E8M0 codes 128 and 131; the elements of e2m1 are 6, 0.5, 1.5 and 0, 0, 6.
#[test]
fn codes_of_blocks_have_their_scales() {
    let folder = Folder::new("codes");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    fs::write(&input, safetensors_file()).unwrap();
    run("mxfp4", &input, &output, Output::Codes).unwrap();
    let bytes = fs::read(&output).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("matrix.scales").unwrap().data(), [128, 131]);
    let codes = unpack(tensors.tensor("matrix.codes").unwrap().data(), 4, 6).unwrap();
    assert_eq!(codes, [7, 1, 3, 8, 0, 7]);
    assert_eq!(tensors.tensor("whole").unwrap().data(), [1, 2, 3]);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["lowbit.format"], "mxfp4");
    assert_eq!(
        metadata["lowbit.matrix"],
        r#"{"dtype":"f32","shape":[2,3]}"#
    );
    assert_eq!(metadata["author"], "me");
    for text in ["e2m1", "bfp(8)", "nvfp4", "affine(8)", "posit(6,1)", "fp32"] {
        run(text, &input, &output, Output::Codes).unwrap();
        SafeTensors::deserialize(&fs::read(&output).unwrap()).unwrap();
    }
}

/// The array of the matrix 1 2 3, 4 5 6 by columns, with the dimension 0 of two.
fn by_columns() -> Vec<u8> {
    let array = npy("<f4", "(2, 3)", &floats(&[1.0, 40.0, 2.0, 50.0, 3.0, 60.0]));
    let text = b"'fortran_order': False";
    let at = array.windows(text.len()).position(|w| w == text).unwrap();
    let mut array = array;
    array[at..at + text.len()].copy_from_slice(b"'fortran_order': True ");
    array
}

/// Each row has its own exponent: steps of 2^(1+2-4) = 0.5 up to 3.5, and of 2^(5+2-4) = 8 up to
/// 56.
#[test]
fn arrays_by_columns_are_rounded_by_rows() {
    let folder = Folder::new("columns");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    fs::write(&input, by_columns()).unwrap();
    assert_eq!(
        read(&input).unwrap().tensors[0].data,
        [1.0, 2.0, 3.0, 40.0, 50.0, 60.0]
    );
    run("bfp(4,dim=0)", &input, &output, Output::Numbers).unwrap();
    let rounded = read(&output).unwrap().tensors.remove(0);
    assert_eq!(rounded.data, [1.0, 2.0, 3.0, 40.0, 48.0, 56.0]);
    assert_eq!(rounded.shape, [2, 3]);
    let written = fs::read(&output).unwrap();
    assert!(written.ends_with(&floats(&[1.0, 40.0, 2.0, 48.0, 3.0, 56.0])));
    // Codes are by rows: 1 2 3 in steps of 0.5, and 5 6 7 in steps of 8.
    let output = folder.file("y.safetensors");
    run("bfp(4,dim=0)", &input, &output, Output::Codes).unwrap();
    let bytes = fs::read(&output).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let codes = unpack(tensors.tensor("x.codes").unwrap().data(), 4, 6).unwrap();
    assert_eq!(codes, [2, 4, 6, 5, 6, 7]);
    // Exponents 1 and 5, biased by 127.
    assert_eq!(tensors.tensor("x.scales").unwrap().data(), [128, 132]);
    run("int8", &input, &output, Output::Codes).unwrap();
    let bytes = fs::read(&output).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let codes = tensors.tensor("x.codes").unwrap().data().to_vec();
    assert_eq!(codes, [1, 2, 3, 40, 50, 60]);
}

/// Rounding at random takes the same words whether the rows or the columns lie side by side.
#[test]
fn the_order_of_a_file_does_not_change_numbers() {
    let folder = Folder::new("order");
    let (columns, rows) = (folder.file("x.npy"), folder.file("y.npy"));
    let output = folder.file("z.npy");
    fs::write(&columns, by_columns()).unwrap();
    let numbers = floats(&[1.0, 2.0, 3.0, 40.0, 50.0, 60.0]);
    fs::write(&rows, npy("<f4", "(2, 3)", &numbers)).unwrap();
    let rounding = Rounding::stochastic(5, 0);
    for text in ["fixed(8,-3)", "bfp(3,dim=1)", "mxfp4"] {
        let [a, b] = [&columns, &rows].map(|input| {
            apply(&format(text), rounding, input, &output, Output::Numbers).unwrap();
            read(&output).unwrap().tensors.remove(0).data
        });
        assert_eq!(a, b, "{text}");
    }
}

#[test]
fn bad_files_are_errors_and_leave_nothing() {
    let folder = Folder::new("bad");
    let (input, output) = (folder.file("x.bin"), folder.file("y"));
    let array = npy("<f4", "(2,)", &floats(&[1.0, 2.0]));
    let tensors = safetensors_file();
    let mut long = tensors.clone();
    long.push(0);
    let header = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    for bytes in [
        vec![],
        b"\x93NUMPY".to_vec(),
        b"\x93NUMPY\x01\x00\xff\xff".to_vec(),
        array[..array.len() - 1].to_vec(),
        npy("<c8", "(1,)", &floats(&[1.0, 0.0])),
        npy("<V1", "(2,)", &[0, 1]),
        npy("<f4", "(18446744073709551615, 2)", &[]),
        npy("<f4", "(", &[]),
        tensors[..tensors.len() - 1].to_vec(),
        tensors[..40].to_vec(),
        long,
        vec![255; 16],
        header("{}x"),
        header("[]"),
        header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#),
        header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#),
    ] {
        fs::write(&input, &bytes).unwrap();
        let error = run("e4m3", &input, &output, Output::Numbers).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("x.bin: ") && !text.contains('\n'), "{text}");
        assert!(read(&input).is_err());
    }
    fs::write(&input, &array).unwrap();
    assert!(run("bfp(8,dim=1)", &input, &output, Output::Numbers).is_err());
    assert!(run("mxfp4", &input, &output, Output::Codes).is_err());
    assert!(
        run(
            "int8",
            &input,
            &folder.file("y.safetensors"),
            Output::Numbers
        )
        .is_err()
    );
    assert!(run("int8", &input, &folder.0, Output::Numbers).is_err());
    assert!(run("int8", &folder.file("none"), &output, Output::Numbers).is_err());
    assert!(run("int8", &folder.0, &output, Output::Numbers).is_err());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

/// Tensors of more numbers than are in memory at a time.
#[test]
fn blocks_in_parts_are_blocks_of_the_whole() {
    let folder = Folder::new("parts");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let numbers: Vec<f32> = (0..1_470_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 2f32.powi((i % 23) as i32 - 40))
        .collect();
    for (shape, dims) in [
        ("(2100, 700)", vec![2100, 700]),
        ("(1470000,)", vec![1_470_000]),
    ] {
        fs::write(&input, npy("<f4", shape, &floats(&numbers))).unwrap();
        for text in [
            "mxfp4",
            "bfp(8,block=16)",
            "bfp(8,block=48,dim=0)",
            "bfp(8,dim=0)",
            "bfp(8)",
            "nvfp4",
        ] {
            for rounding in [
                Rounding::NearestEven,
                Rounding::Stochastic {
                    seed: 5,
                    stream: 1,
                    bits: 32,
                },
            ] {
                let format = format(text);
                apply(&format, rounding, &input, &output, Output::Numbers).unwrap();
                let mut whole = numbers.clone();
                format
                    .quantize_shaped_in_place(&mut whole, &dims, rounding)
                    .unwrap();
                let parts = &read(&output).unwrap().tensors[0].data;
                assert!(*parts == whole, "{text} {shape} {rounding}");
            }
        }
    }
}
