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

/// What is neither kind is told by its first bytes, before the name of the new file is looked at.
#[test]
fn a_text_is_no_file_of_tensors() {
    let folder = Folder::new("text");
    let (input, output) = (folder.file("junk.npy"), folder.file("o.npy"));
    fs::write(&input, "hello there").unwrap();
    let error = run("tf32", &input, &output, Output::Numbers).unwrap_err();
    let error = error.to_string();
    let expected = "junk.npy: is neither a .npy or .npz nor a safetensors file";
    assert!(error.ends_with(expected), "{error}");
}

/// 0x3F80 is 1 in bfloat16; 0x38 is 1 in float8_e4m3fn, 0x3C is 1.5 (OCP 8-bit floating point, table
/// 2). The type of `V1` is not that of an array of another type beside it.
#[test]
fn an_archive_of_several_types_is_read() {
    use std::io::Write;

    let folder = Folder::new("types");
    let (input, output) = (folder.file("x.npz"), folder.file("y.npz"));
    let mut archive = zip::ZipWriter::new(fs::File::create(&input).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, array) in [
        ("a.npy", npy("<V2", "(1,)", &[0x80, 0x3F])),
        ("b.npy", npy("<V1", "(2,)", &[0x38, 0x3C])),
    ] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(&array).unwrap();
    }
    archive.finish().unwrap();
    let error = run("int8", &input, &output, Output::Numbers).unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("say which one with --dtype"), "{error}");
    let bytes = Some(ByteType::E4m3Fn);
    let data = |path: &Path| {
        let tensors = read_as(path, bytes).unwrap().tensors.into_iter();
        tensors.map(|tensor| tensor.data).collect::<Vec<_>>()
    };
    assert_eq!(data(&input), [vec![1.0], vec![1.0, 1.5]]);
    let config = ApplyConfig {
        bytes,
        ..ApplyConfig::default()
    };
    apply_with(&format("int8"), &input, &output, &config).unwrap();
    assert_eq!(data(&output), [vec![1.0], vec![1.0, 2.0]]);
    // A file of one array that is told to be what it is not is a mistake.
    let array = folder.file("a.npy");
    fs::write(&array, npy("<V2", "(1,)", &[0x80, 0x3F])).unwrap();
    let error = read_as(&array, bytes).unwrap_err().to_string();
    assert!(
        error.ends_with("holds `<V2`, which is not float8_e4m3fn"),
        "{error}"
    );
}

/// The scale of `1 + 1e-12` is `fl32((1 + 1e-12) / 127) = fl32(1 / 127)`: in 127ths the row is 127, 38,
/// -89 and 0, however the file is read.
#[test]
fn a_scale_of_f64_is_rounded_once() {
    let folder = Folder::new("f64-scale");
    let (input, output) = (folder.file("x.npy"), folder.file("y.npy"));
    let codes = folder.file("y.safetensors");
    let row = [1.0 + 1e-12, 0.3, -0.7, 0.0];
    let expected = [1.0, 0.299_212_6, -0.700_787_4, 0.0];
    let bytes = |numbers: &[f64]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let by_rows: Vec<u8> = bytes(&[row, row].concat());
    let by_columns: Vec<u8> = bytes(&row.map(|x| [x, x]).concat());
    for (order, data) in [("False", by_rows), ("True ", by_columns)] {
        let mut file = npy("<f8", "(2, 4)", &data);
        let at = file.windows(5).position(|w| w == b"False").unwrap();
        file[at..at + 5].copy_from_slice(order.as_bytes());
        fs::write(&input, file).unwrap();
        for shared in ["", ",block=4", ",dim=0"] {
            let text = format!("affine(8,symmetric,narrow{shared})");
            run(&text, &input, &output, Output::Numbers).unwrap();
            let data = read(&output).unwrap().tensors.remove(0).data;
            assert_eq!(data, [expected, expected].concat(), "{text} {order}");
            run(&text, &input, &codes, Output::Codes).unwrap();
            let format: Format = text.parse().unwrap();
            let sample = read_codes(&format, CodeLayout::default(), &codes).unwrap();
            assert_eq!(sample.tensors[0].data, data, "{text} {order}");
        }
    }
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
        b"eleven byte".to_vec(),
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
            "scaled(e4m3,block=128x48)",
            "scaled(nf4,block=64,double)",
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

/// A file that another library wrote.
fn reference(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    fs::read(folder.join(name)).unwrap()
}

/// The tensor `x` of such a file in a file of its own.
fn only_x(bytes: &[u8], path: &Path) {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let view = tensors.tensor("x").unwrap();
    fs::write(path, serialize([("x", view)], None).unwrap()).unwrap();
}

fn run_in(layout: CodeLayout, text: &str, input: &Path, output: &Path) -> Result<(), FormatError> {
    let config = ApplyConfig {
        output: Output::Codes,
        layout,
        ..ApplyConfig::default()
    };
    apply_with(&format(text), input, output, &config).map(drop)
}

/// What the numbers of a file become.
fn rounded(text: &str, input: &Path) -> Vec<f32> {
    let sample = read(input).unwrap();
    let tensor = &sample.tensors[0];
    let mut output = vec![0.0; tensor.data.len()];
    format(text)
        .quantize_shaped(
            &tensor.data,
            &tensor.shape,
            &mut output,
            Rounding::NearestEven,
        )
        .unwrap();
    output
}

/// Names, types, shapes and bytes as torchao's tensors have them when the safetensors library writes
/// them; and those tensors read.
#[test]
fn typed_codes_are_those_of_torchao() {
    let folder = Folder::new("typed");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    let theirs = reference("torchao.safetensors");
    only_x(&theirs, &input);
    let theirs = SafeTensors::deserialize(&theirs).unwrap();
    for (text, name, ending) in [
        ("mxfp8(e4m3)", "mx.e4m3", "_scale"),
        ("mxfp8(e5m2)", "mx.e5m2", "_scale"),
        ("mxfp4", "mx.e2m1", "_scale"),
        ("scaled(e4m3)", "e4m3.tensor", "_scale"),
        ("scaled(e4m3,dim=0)", "e4m3.row", "_scale"),
        ("scaled(e4m3,block=2x64)", "e4m3.tile", "_scale_inv"),
    ] {
        run_in(CodeLayout::Safetensors, text, &input, &output).unwrap();
        let bytes = fs::read(&output).unwrap();
        let ours = SafeTensors::deserialize(&bytes).unwrap();
        let mut pairs = Vec::new();
        for (our_name, their_name) in [
            ("x".to_string(), name.to_string()),
            (format!("x{ending}"), format!("{name}_scale")),
        ] {
            let ours = ours.tensor(&our_name).unwrap();
            let theirs = theirs.tensor(&their_name).unwrap();
            assert_eq!(ours.dtype(), theirs.dtype(), "{text} {our_name}");
            assert_eq!(ours.shape(), theirs.shape(), "{text} {our_name}");
            assert_eq!(ours.data(), theirs.data(), "{text} {our_name}");
            pairs.push((our_name, theirs));
        }
        fs::write(&output, serialize(pairs, None).unwrap()).unwrap();
        let back = read_codes(&format(text), CodeLayout::Safetensors, &output).unwrap();
        assert_eq!(back.tensors[0].data, rounded(text, &input), "{text}");
        assert_eq!(back.tensors[0].shape, [4, 128], "{text}");
    }
}

/// The state dict as bitsandbytes writes it, which is read too.
#[test]
fn four_bit_codes_are_those_of_bitsandbytes() {
    let folder = Folder::new("bitsandbytes");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    let theirs = reference("bitsandbytes.safetensors");
    only_x(&theirs, &input);
    let theirs = SafeTensors::deserialize(&theirs).unwrap();
    for (kind, double) in [
        ("nf4", ""),
        ("nf4", ".double"),
        ("fp4", ""),
        ("fp4", ".double"),
    ] {
        let option = double.replace('.', ",");
        let text = format!("scaled(bitsandbytes-{kind},block=64,reciprocal{option})");
        run_in(CodeLayout::BitsAndBytes, &text, &input, &output).unwrap();
        let bytes = fs::read(&output).unwrap();
        let ours = SafeTensors::deserialize(&bytes).unwrap();
        let state = format!(".quant_state.bitsandbytes__{kind}");
        let nested = [".nested_absmax", ".nested_quant_map"];
        let endings = ["", ".absmax", ".quant_map", &state].into_iter();
        let nested = nested.into_iter().filter(|_| !double.is_empty());
        let mut pairs = Vec::new();
        for ending in endings.chain(nested) {
            let what = format!("{kind}{double}{ending}");
            let ours = ours.tensor(&format!("x{ending}")).unwrap();
            let theirs = theirs.tensor(&what).unwrap();
            pairs.push((format!("x{ending}"), theirs.clone()));
            if ending == state && !double.is_empty() {
                // Ours has room for another mean.
                let json = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
                assert_eq!(json(ours.data()), json(theirs.data()));
                continue;
            }
            assert_eq!(ours.dtype(), theirs.dtype(), "{what}");
            assert_eq!(ours.shape(), theirs.shape(), "{what}");
            // Of FP4's two zeros, bitsandbytes takes the one that a sort of its codes leaves last.
            let plus_zero = |byte: &u8| {
                let high = if byte >> 4 == 8 { byte & 15 } else { *byte };
                if high & 15 == 8 { high & 0xF0 } else { high }
            };
            let one_zero = |data: &[u8]| match (kind, ending) {
                ("fp4", "") => data.iter().map(plus_zero).collect(),
                _ => data.to_vec(),
            };
            assert_eq!(one_zero(ours.data()), one_zero(theirs.data()), "{what}");
        }
        fs::write(&output, serialize(pairs, None).unwrap()).unwrap();
        let back = read_codes(&format(&text), CodeLayout::BitsAndBytes, &output).unwrap();
        assert_eq!(back.tensors[0].data, rounded(&text, &input), "{text}");
        assert_eq!(back.tensors[0].shape, [4, 128], "{text}");
        let other = text.replace("64", "128");
        assert!(read_codes(&format(&other), CodeLayout::BitsAndBytes, &output).is_err());
    }
}

/// Every layout that holds a format gives back what rounding gives.
#[test]
fn files_of_codes_are_read_back() {
    let folder = Folder::new("back");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    only_x(&reference("torchao.safetensors"), &input);
    let mut read_back = 0;
    for text in [
        "e4m3",
        "int8",
        "posit(6,1)",
        "nf4",
        "bfp(8,block=16)",
        "mxfp4",
        "mxfp6(e3m2)",
        "mxfp8(e5m2,block=8,dim=0)",
        "mxint8",
        "nvfp4",
        "affine(8,block=32)",
        "affine(4)",
        "scaled(e4m3,block=3x50)",
        "scaled(e5m2,dim=1,scale=bf16)",
        "scaled(e2m1,block=16,scale=fp16)",
        "scaled(nf4,block=64)",
        "scaled(bitsandbytes-fp4,block=32,reciprocal,double)",
    ] {
        for layout in CodeLayout::ALL {
            if run_in(layout, text, &input, &output).is_err() {
                assert_ne!(layout, CodeLayout::Lowbit, "{text}");
                continue;
            }
            let back = read_codes(&format(text), layout, &output).unwrap();
            assert_eq!(
                back.tensors[0].data,
                rounded(text, &input),
                "{text} {layout}"
            );
            read_back += 1;
        }
    }
    // All 17 in the first layout, ten have types of their own, bitsandbytes has the last two.
    assert_eq!(read_back, 17 + 10 + 2);
}

#[test]
fn layouts_refuse_what_they_do_not_hold() {
    let folder = Folder::new("layouts");
    let (input, output) = (folder.file("x.safetensors"), folder.file("y.safetensors"));
    fs::write(&input, safetensors_file()).unwrap();
    for (layout, text, reason) in [
        (
            CodeLayout::Safetensors,
            "nf4",
            "nf4 does not support the layout safetensors: safetensors files have no type for its codes",
        ),
        (
            CodeLayout::BitsAndBytes,
            "e4m3",
            "e4m3 does not support the layout bitsandbytes: expected nf4 or fp4 with a scale per block",
        ),
        (
            CodeLayout::BitsAndBytes,
            "scaled(nf4)",
            "expected blocks along rows, of one of [32, 64, 128, 256, 512, 1024, 2048, 4096]",
        ),
        (
            CodeLayout::BitsAndBytes,
            "scaled(nf4,block=64)",
            "blocks of 64 do not fit into rows of 3",
        ),
        (
            CodeLayout::Safetensors,
            "scaled(e4m3,double)",
            "its scales are quantized in their turn",
        ),
    ] {
        let error = run_in(layout, text, &input, &output)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    let array = folder.file("x.npy");
    fs::write(&array, npy("<f4", "(2,)", &floats(&[1.0, 2.0]))).unwrap();
    let (layout, bytes) = (CodeLayout::Safetensors, folder.file("y.npy"));
    let error = run_in(layout, "e4m3", &array, &bytes).unwrap_err();
    let expected = "expected the ending .safetensors, the file of the layout safetensors";
    assert!(error.to_string().ends_with(expected), "{error}");
    run_in(layout, "e4m3", &array, &output).unwrap();
    let error = "torch".parse::<CodeLayout>().unwrap_err().to_string();
    assert_eq!(
        error,
        "file: layout is torch, expected lowbit, safetensors, bitsandbytes"
    );
}
