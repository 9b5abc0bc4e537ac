//! Where commands write: every output path, standard output that takes no more, and signals.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Commands that write a file, which is to be named at the end.
const WRITERS: [&str; 7] = [
    "formats plot e4m3 -o",
    "analyze quantizer -o",
    "formats apply int4 x.npy -o",
    "formats apply int4 x.npz -o",
    "formats apply int4 x.npy --codes -o",
    "formats apply int4 x.safetensors -o",
    "formats apply mxfp4 x.safetensors --codes -o",
];

/// Commands that make a folder.
const MAKERS: [&str; 2] = [
    "train --epochs 1 --batch 512 --no-baseline --threads 1 --out",
    "quantize --from run --threads 1 --images 64 --out",
];

fn lowbit(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    lowbit(folder, arguments).output().unwrap()
}

fn succeeds(folder: &Path, arguments: &str) {
    let output = run(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
}

/// The one line on standard error.
fn refused(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments} succeeded");
    assert_eq!(error.lines().count(), 1, "{arguments}: {error}");
    error
}

/// A NumPy array of f32.
fn array(numbers: &[f32]) -> Vec<u8> {
    let count = numbers.len();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}");
    let header = format!("{header:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// Two tensors of 32 numbers.
fn safetensors() -> Vec<u8> {
    let header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]},\
                  \"b\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[128,256]}}";
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..64).flat_map(|i| (i as f32).to_le_bytes()));
    bytes
}

/// An archive of one array, `a.npy`, as NumPy wrote it.
fn npz() -> Vec<u8> {
    let table = include_str!("../../../lowbit-formats/tests/reference/numpy.txt");
    let line = table.lines().find(|line| line.starts_with("npz ")).unwrap();
    let hexadecimal = line.split(' ').nth(2).unwrap().as_bytes();
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hexadecimal.chunks(2).map(byte).collect()
}

/// A folder with what the commands read.
fn inputs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let numbers: Vec<f32> = (0..64).map(|i| i as f32 / 3.0).collect();
    fs::write(folder.path().join("x.npy"), array(&numbers)).unwrap();
    fs::write(folder.path().join("x.npz"), npz()).unwrap();
    fs::write(folder.path().join("x.safetensors"), safetensors()).unwrap();
    folder
}

/// What a writer writes, under a name without an ending.
fn expected(folder: &Path, writer: &str) -> Vec<u8> {
    succeeds(folder, &format!("{writer} plain"));
    let bytes = fs::read(folder.join("plain")).unwrap();
    fs::remove_file(folder.join("plain")).unwrap();
    bytes
}

/// Names in a folder that the command made under another name.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".part") || name.ends_with(".tmp"))
        .collect()
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn devices_and_fifos_are_written_into() {
    let inputs = inputs();
    let folder = inputs.path();
    for writer in WRITERS {
        let expected = expected(folder, writer);
        succeeds(folder, &format!("{writer} /dev/null"));
        assert!(
            fs::metadata("/dev/null")
                .unwrap()
                .file_type()
                .is_char_device()
        );
        let path = folder.join("fifo");
        fifo(&path);
        let mut command = lowbit(folder, &format!("{writer} fifo"));
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(child.wait().unwrap().success(), "{writer}");
        assert!(bytes == expected, "{writer}");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        fs::remove_file(path).unwrap();
        let error = refused(folder, &format!("{writer} /dev/full"));
        assert!(error.contains("/dev/full: No space left"), "{error}");
    }
}

#[test]
fn links_are_followed() {
    let inputs = inputs();
    let folder = inputs.path();
    fs::create_dir(folder.join("far")).unwrap();
    for writer in WRITERS {
        let expected = expected(folder, writer);
        // To a link to a file, to a file that is not there yet, and in a circle.
        fs::write(folder.join("far/old"), "old").unwrap();
        symlink("old", folder.join("far/link")).unwrap();
        symlink("far/link", folder.join("link")).unwrap();
        symlink("far/new", folder.join("dangling")).unwrap();
        symlink("circle", folder.join("circle")).unwrap();
        for (link, file) in [("link", "far/old"), ("dangling", "far/new")] {
            succeeds(folder, &format!("{writer} {link}"));
            assert!(fs::read(folder.join(file)).unwrap() == expected, "{writer}");
            assert!(folder.join(link).is_symlink(), "{writer}");
            fs::remove_file(folder.join(file)).unwrap();
            fs::remove_file(folder.join(link)).unwrap();
        }
        assert!(folder.join("far/link").is_symlink());
        fs::remove_file(folder.join("far/link")).unwrap();
        refused(folder, &format!("{writer} circle"));
        fs::remove_file(folder.join("circle")).unwrap();
        assert!(leftovers(folder).is_empty() && leftovers(&folder.join("far")).is_empty());
    }
}

#[test]
fn permissions_stay_and_protect() {
    let inputs = inputs();
    let folder = inputs.path();
    let path = folder.join("y");
    for writer in WRITERS {
        let expected = expected(folder, writer);
        for bits in [0o600, 0o640, 0o755, 0o200, 0o666] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            succeeds(folder, &format!("{writer} y"));
            assert_eq!(mode(&path), bits, "{writer}");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            assert!(fs::read(&path).unwrap() == expected);
        }
        for bits in [0o444, 0o400, 0o555] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let error = refused(folder, &format!("{writer} y"));
            assert!(error.contains("y: is read-only"), "{error}");
            assert_eq!(
                (fs::read(&path).unwrap(), mode(&path)),
                (b"old".to_vec(), bits)
            );
            fs::remove_file(&path).unwrap();
        }
        // A new file has the permissions that any new file has.
        succeeds(folder, &format!("{writer} y"));
        fs::write(folder.join("usual"), "").unwrap();
        assert_eq!(mode(&path), mode(&folder.join("usual")));
        fs::remove_file(&path).unwrap();
        assert!(leftovers(folder).is_empty());
    }
}

#[test]
fn what_cannot_be_a_file_is_refused() {
    let inputs = inputs();
    let folder = inputs.path();
    fs::create_dir(folder.join("folder")).unwrap();
    for writer in WRITERS {
        for path in ["none/y", "folder", "none/", "x.npy/y", "y.png", "y.txt"] {
            let error = refused(folder, &format!("{writer} {path}"));
            assert!(error.contains(&format!("{path}: ")), "{error}");
        }
        assert!(leftovers(folder).is_empty());
    }
    assert!(
        fs::read_dir(folder.join("folder"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(!folder.join("none").exists());
}

/// A trained run in `run`, and commands that make one.
#[test]
fn folders_of_runs_replace_nothing() {
    let inputs = inputs();
    let folder = inputs.path();
    let flags = "--epochs 1 --batch 512 --threads 1 --method float --no-baseline";
    succeeds(folder, &format!("train {flags} --out run"));
    fifo(&folder.join("fifo"));
    fs::write(folder.join("file"), "old").unwrap();
    symlink("none/far", folder.join("dangling")).unwrap();
    for (i, maker) in MAKERS.into_iter().enumerate() {
        for path in ["/dev/null", "fifo", "file", "file/y", "dangling", "run"] {
            let output = run(folder, &format!("{maker} {path}"));
            assert!(!output.status.success(), "{maker} {path}");
            let error = String::from_utf8(output.stderr).unwrap();
            let last = error.lines().last().unwrap();
            assert!(
                last.starts_with("error: ") && last.contains(path),
                "{error}"
            );
        }
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"old");
        // Missing folders are made, links to folders followed, and permissions stay.
        let made = format!("made/{i}/run");
        succeeds(folder, &format!("{maker} {made}"));
        let private = folder.join(format!("private{i}"));
        fs::create_dir(&private).unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        let link = format!("link{i}");
        symlink(&private, folder.join(&link)).unwrap();
        succeeds(folder, &format!("{maker} {link}"));
        assert!(private.join("config.toml").is_file() && folder.join(link).is_symlink());
        assert_eq!(mode(&private), 0o700);
        assert!(leftovers(&private).is_empty() && leftovers(&folder.join(made)).is_empty());
    }
}

/// Every command that prints; those after the first eleven take seconds.
const PRINTERS: [&str; 22] = [
    "--help",
    "--version",
    "train --help",
    "formats list",
    "formats list --json",
    "formats describe e4m3",
    "formats describe e4m3 --json",
    "formats round e4m3 1 2 3",
    "formats round e4m3 1 2 3 --json",
    "formats apply int4 x.npy -o y.npy",
    "formats apply int4 x.npy -o y.npy --json",
    "formats compare e4m3 int8",
    "formats compare e4m3 int8 --json",
    "bench kernels int8 --elements 1000 --rounds 1 --threads 1",
    "bench train --model lenet --ways float --batch 1 --rounds 1 --threads 1",
    "bench convolutions --batch 1 --rounds 1 --threads 1",
    "train --epochs 1 --batch 512 --no-baseline --threads 1",
    "train --epochs 1 --batch 512 --no-baseline --threads 1 --json",
    "quantize --from run --threads 1 --images 64",
    "quantize --from run --threads 1 --images 64 --json",
    "eval run --threads 1",
    "analyze accumulators quantized --threads 1",
];

/// A closed pipe ends a command as SIGPIPE does (128 + 13), without a word; a full disk in a line.
/// Progress on standard error may be there before it, and nothing else.
#[test]
fn standard_output_that_takes_no_more_is_no_panic() {
    let inputs = inputs();
    let folder = inputs.path();
    let flags = "--epochs 1 --batch 512 --threads 1 --method float --no-baseline";
    succeeds(folder, &format!("train {flags} --out run"));
    succeeds(
        folder,
        "quantize --from run --threads 1 --images 64 --out quantized",
    );
    for printer in PRINTERS {
        let progress = ["train --e", "quantize"]
            .iter()
            .any(|c| printer.starts_with(c));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = lowbit(folder, printer).stdout(writer).output().unwrap();
        let error = String::from_utf8(closed.stderr).unwrap();
        assert_eq!(closed.status.code(), Some(141), "{printer}: {error}");
        assert!(progress || error.is_empty(), "{printer}: {error}");
        assert!(
            !error.contains("panic") && !error.contains("error"),
            "{printer}: {error}"
        );

        let disk = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = lowbit(folder, printer).stdout(disk).output().unwrap();
        let error = String::from_utf8(full.stderr).unwrap();
        assert_eq!(full.status.code(), Some(1), "{printer}: {error}");
        let last = error.lines().last().unwrap();
        assert!(
            last.starts_with("error: standard output: No space"),
            "{printer}: {error}"
        );
        assert!(progress || error.lines().count() == 1, "{printer}: {error}");
        assert!(!error.contains("panic"), "{printer}: {error}");
    }
}

/// So does a file that is a pipe, if its reader goes away while more is written than a pipe holds.
#[test]
fn a_pipe_that_is_written_to_and_takes_no_more_is_no_error() {
    let inputs = inputs();
    let folder = inputs.path();
    fs::write(folder.join("long.npy"), array(&[0.5; 100_000])).unwrap();
    for arguments in [
        "formats plot e4m3 int8 posit(8,1) e5m2 fp16 bf16 fixed(8,6) -o /dev/stdout",
        "formats apply int4 long.npy -o /dev/stdout",
    ] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let child = lowbit(folder, arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments}: {error}");
        assert!(error.is_empty(), "{arguments}: {error}");
    }
}

/// Nobody reads what goes wrong: the exit code still tells, and a run is trained to its end.
#[test]
fn standard_error_that_takes_no_more_stops_nothing() {
    let inputs = inputs();
    let folder = inputs.path();
    for (arguments, code) in [
        ("formats describe e4m33", 2),
        ("formats describe", 2),
        ("formats apply int4 none.npy -o y.npy", 1),
        (
            "train --epochs 1 --batch 512 --no-baseline --threads 1 --out run",
            0,
        ),
    ] {
        for path in ["pipe", "/dev/full"] {
            let mut command = lowbit(folder, arguments);
            if path == "pipe" {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                command.stderr(writer);
            } else {
                command.stderr(OpenOptions::new().write(true).open(path).unwrap());
            }
            assert_eq!(
                command.output().unwrap().status.code(),
                Some(code),
                "{arguments}"
            );
            let _ = fs::remove_dir_all(folder.join("run"));
        }
    }
}

/// A command that rounds a file of 2 GiB of zeros, of which the disk holds none.
fn long_apply(folder: &Path) -> Child {
    let count = 1u64 << 29;
    let mut header = array(&[]);
    let shape = format!("({count},), }}");
    let at = header.windows(2).position(|w| w == b"(0").unwrap();
    header[at..at + shape.len()].copy_from_slice(shape.as_bytes());
    let mut file = File::create(folder.join("long.npy")).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(header.len() as u64 + 4 * count).unwrap();
    let mut command = lowbit(folder, "formats apply int4 long.npy -o y.npy");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let start = Instant::now();
    while leftovers(folder).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "nothing is written"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Whether this process, and so what it starts, was told to ignore a signal.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[test]
fn signals_leave_no_half_written_files() {
    let inputs = inputs();
    let folder = inputs.path();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        if is_ignored(code - 128) {
            continue;
        }
        let child = long_apply(folder);
        std::thread::sleep(Duration::from_millis(30));
        let id = child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal}");
        assert!(output.stderr.is_empty(), "{signal}");
        assert!(leftovers(folder).is_empty(), "{signal}");
        assert!(!folder.join("y.npy").exists(), "{signal}");
    }
    // What SIGKILL leaves is in nobody's way.
    let mut child = long_apply(folder);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(leftovers(folder).len(), 1);
    succeeds(folder, "formats apply int4 x.npy -o y.npy");
    assert_eq!(leftovers(folder).len(), 1);
}

/// `nohup` starts commands with SIGHUP ignored, so that they outlive the terminal.
#[test]
fn ignored_signals_stay_ignored() {
    let inputs = inputs();
    let folder = inputs.path();
    fifo(&folder.join("fifo"));
    let mut child = Command::new("nohup")
        .current_dir(folder)
        .arg(env!("CARGO_BIN_EXE_lowbit"))
        .args(["formats", "plot", "e4m3", "-o", "fifo"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-s", "HUP", &id]).status();
    assert!(kill.unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    let picture = fs::read_to_string(folder.join("fifo")).unwrap();
    assert!(picture.starts_with("<svg"));
    assert!(child.wait().unwrap().success());
}
