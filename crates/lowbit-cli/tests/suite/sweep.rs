//! Sweeps as a person, a search and a cluster meet them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn::tensor::Bytes;
use lowbit::train::sweep::CellLock;
use serde_json::{Value, json};

use super::program::{error, lowbit, run, text};

const FOUR: &str = "
    epochs = 2
    [sweep]
    method = [\"dorefa\", \"lsq\"]
    bits = [4]
    seed = [1, 2]
";

#[test]
fn cells_are_trained_skipped_added_and_collected() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::write(folder.join("four.toml"), FOUR).unwrap();
    let table = text(folder, "sweep four.toml --jobs 2 --threads 1");
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("method  bits  seed  accuracy"),
        "{table}"
    );
    assert!(lines[4].starts_with("lsq        4     2  "), "{table}");
    // Mean and deviation over the seeds.
    assert!(
        lines[6].starts_with("method  bits  runs  accuracy  deviation"),
        "{table}"
    );
    let cell = "runs/four/method=lsq,bits=4,seed=1";
    let result = folder.join(cell).join("lsq-w4a4/result.json");
    let before = std::fs::metadata(&result).unwrap().modified().unwrap();
    // A cell is an ordinary run.
    let eval = text(folder, &format!("eval {cell} --json"));
    assert!(eval.contains("lsq-w4a4"), "{eval}");
    let csv = std::fs::read_to_string(folder.join("runs/four/results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    let svg = std::fs::read_to_string(folder.join("runs/four/accuracy.svg")).unwrap();
    assert!(svg.contains("lsq: ") && svg.contains(">bits</text>"));
    // Nothing is trained again; a further cell is.
    std::fs::write(
        folder.join("four.toml"),
        format!("{FOUR}[[sweep.cell]]\nmethod = \"float\"\nseed = 1\n"),
    )
    .unwrap();
    let output = run(folder, "sweep four.toml --json");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("4 cells are finished\n[5/5] method=float,seed=1: "),
        "{said}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["cells"][4]["run"], "float");
    assert_eq!(
        std::fs::metadata(&result).unwrap().modified().unwrap(),
        before
    );
    let again = text(folder, "sweep --collect runs/four --by seed --json");
    assert_eq!(
        serde_json::from_str::<Value>(&again).unwrap()["cells"],
        report["cells"]
    );
}

#[test]
fn mistakes_are_one_line_that_names_file_and_key() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    file("none.toml", "epochs = 2");
    file("wide.toml", "[sweep]\nbits = [4, 40]");
    file("key.toml", "[sweep]\nspeed = [4, 40]");
    file("bad.toml", "[sweep]\nbits = [4, ");
    file("four.toml", FOUR);
    file("other.toml", &FOUR.replace("epochs = 2", "epochs = 3"));
    let cell = "a/method=lsq,bits=4,seed=1";
    let missing = Command::new("sbatch").arg("--version").output().is_err();
    if missing {
        let error = error(folder, "sweep four.toml --out a --slurm --time=1:00");
        assert!(error.starts_with("error: sbatch: "), "{error}");
        assert!(error.ends_with("; the script is a/slurm.sh\n"), "{error}");
    } else {
        run(folder, "sweep four.toml --out a --slurm --no-such-option");
    }
    for (arguments, named) in [
        ("sweep missing.toml", "missing.toml: "),
        ("sweep none.toml", "none.toml: sweep: is not in the file"),
        ("sweep wide.toml", "wide.toml: bits=40: wbits: is 40"),
        ("sweep key.toml", "key.toml: sweep.speed: is no setting"),
        ("sweep bad.toml", "bad.toml line 2: "),
        (
            "sweep other.toml --out a",
            "a: was begun with other settings of all cells (epochs: 2, now 3)",
        ),
        ("sweep --collect nowhere", "nowhere: "),
        ("sweep --collect .", ".: is not the folder of a sweep"),
        ("sweep --collect a --by lr", "by: `lr` is set by no cell"),
        ("sweep run-cell nowhere", "nowhere: "),
        ("sweep tell nowhere", "nowhere: "),
        ("sweep ask key.toml --out .", "key.toml: sweep.speed"),
    ] {
        let text = error(folder, arguments);
        assert!(text.starts_with("error: "), "{arguments}: {text}");
        assert!(
            text.contains(named) && text.lines().count() == 1,
            "{arguments}: {text}"
        );
    }
    let _lock = CellLock::take(&folder.join(cell)).unwrap().unwrap();
    let output = run(folder, &format!("sweep run-cell {cell}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let holder = format!(
        "{cell}: is being trained by process {} on ",
        std::process::id()
    );
    assert!(said.contains(&holder), "{said}");
    assert_eq!(output.status.code(), Some(75));
    // The others are trained, and the exit code tells that not all are.
    let output = run(folder, "sweep four.toml --out a --threads 1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("[3/4] ") && said.contains(&holder), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_cell_that_fails_is_a_line_and_an_exit_code() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let text = "epochs = 1\nmethod = \"float\"\n[sweep]\nlr = [0.05, 1e30]";
    std::fs::write(folder.join("lr.toml"), text).unwrap();
    let output = run(folder, "sweep lr.toml --out a --threads 1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("lr=1e30: failed: float: the training loss is "),
        "{said}"
    );
    assert!(said.contains("1 cells failed"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("not begun"), "{table}");
}

/// The files of a cell without what depends on time or on the draw of Burn's parameter ids: of
/// checkpoints the bytes of every tensor, of numbers all but the seconds.
fn numbers(cell: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![cell.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // What a process was about to write when it was killed.
            let unfinished = name.starts_with(".lowbit-") || name.ends_with(".tmp");
            if ["lock", "log.txt"].contains(&&name[..]) || unfinished {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let bytes = match path.extension().and_then(|ending| ending.to_str()) {
                Some("json" | "jsonl") => without_seconds(&bytes),
                Some("bpk") => tensors(bytes),
                _ => bytes,
            };
            files.insert(path.strip_prefix(cell).unwrap().to_owned(), bytes);
        }
    }
    files
}

/// Names and bytes of a record's tensors. Those of an optimizer are named by the id of their
/// parameter, a random number, and what they are: `10508583964758557945.mean`.
fn tensors(file: Vec<u8>) -> Vec<u8> {
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(file)).unwrap();
    let names = reader.tensor_names().into_iter();
    let tensors = names.map(|name| {
        let known = name.trim_start_matches(|c: char| c.is_ascii_digit());
        [known.as_bytes(), &reader.tensor_data(name).unwrap()].concat()
    });
    let mut tensors: Vec<Vec<u8>> = tensors.collect();
    assert!(!tensors.is_empty());
    tensors.sort();
    tensors.concat()
}

/// Whether two cells hold the same files with the same numbers.
fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (numbers(one), numbers(other));
    assert!(
        one.keys().eq(other.keys()),
        "{:?} {:?}",
        one.keys(),
        other.keys()
    );
    for (file, bytes) in &one {
        assert!(*bytes == other[file], "{} differs", file.display());
    }
    assert!(one.len() > 6, "{:?}", one.keys());
}

fn without_seconds(lines: &[u8]) -> Vec<u8> {
    let values = serde_json::Deserializer::from_slice(lines).into_iter::<Value>();
    let values = values.map(|value| {
        let mut value = value.unwrap();
        for key in ["seconds", "step_seconds", "images_per_second"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value.to_string() + "\n"
    });
    values.collect::<String>().into_bytes()
}

/// A child that is killed when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_cell_goes_on_to_the_same_bytes() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let text = "epochs = 4\nmethod = \"lsq\"\n[sweep]\nseed = [1]";
    std::fs::write(folder.join("one.toml"), text).unwrap();
    let sweep = |out: &str| format!("sweep one.toml --threads 1 --out {out}");
    assert!(run(folder, &sweep("whole")).status.success());
    let cell = folder.join("killed/seed=1");
    let metrics = cell.join("lsq-w4a4/metrics.jsonl");
    let epochs = || std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    // The process that keeps the others is killed: its cell stops with a checkpoint.
    let mut command = lowbit(folder, &sweep("killed"));
    let mut parent = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    wait_until("no epoch", || epochs() >= 1);
    parent.0.kill().unwrap();
    parent.0.wait().unwrap();
    wait_until("still locked", || CellLock::take(&cell).unwrap().is_some());
    assert!(epochs() < 4);
    // The cell itself is killed.
    let mut command = lowbit(folder, "sweep run-cell killed/seed=1 --threads 1");
    let mut worker = Killed(command.stderr(Stdio::null()).spawn().unwrap());
    wait_until("no epoch", || epochs() >= 2);
    std::thread::sleep(Duration::from_millis(30));
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    assert!(run(folder, &sweep("killed")).status.success());
    assert_same(&folder.join("whole/seed=1"), &cell);
}

/// What answers a search.
struct Ask {
    child: Killed,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Ask {
    fn new(folder: &Path, arguments: &str) -> Self {
        let mut command = lowbit(folder, arguments);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child: Killed(child),
            lines,
        }
    }

    fn say(&mut self, line: &Value) {
        let input = self.child.0.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    fn hear(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

#[test]
fn a_search_asks_stops_and_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::write(folder.join("all.toml"), "epochs = 300\nmethod = \"dorefa\"").unwrap();
    let ask = "sweep ask all.toml --out a --threads 1";
    let mut search = Ask::new(folder, ask);
    search.say(&json!({ "bits": 40 }));
    let refused = search.hear();
    assert_eq!(refused["event"], "error");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("all.toml: bits=40: wbits: is 40"),
        "{message}"
    );
    search.say(&json!(3));
    let message = search.hear()["message"].as_str().unwrap().to_string();
    assert!(
        message.starts_with("is no JSON object of settings"),
        "{message}"
    );
    // One that is stopped after two epochs.
    search.say(&json!({ "bits": 3, "seed": 1 }));
    for epoch in 1..=2 {
        let told = search.hear();
        assert_eq!(
            (&told["event"], &told["epoch"]),
            (&json!("epoch"), &json!(epoch))
        );
        assert!(told["test_accuracy"].as_f64().unwrap() > 0.0, "{told}");
        assert_eq!(
            (&told["cell"], &told["epochs"]),
            (&json!("bits=3,seed=1"), &json!(300))
        );
    }
    search.say(&json!({ "stop": "another" }));
    search.say(&json!({ "stop": "bits=3,seed=1" }));
    let stopped = loop {
        let told = search.hear();
        if told["event"] != "epoch" {
            break told;
        }
    };
    assert_eq!(
        (&stopped["event"], &stopped["result"]),
        (&json!("stopped"), &Value::Null)
    );
    assert!(
        stopped["finished_epochs"].as_u64().unwrap() >= 2,
        "{stopped}"
    );
    // The next is trained.
    search.say(&json!({ "bits": 2, "epochs": 1 }));
    assert_eq!(search.hear()["event"], "epoch");
    let result = search.hear();
    assert_eq!(
        (&result["event"], &result["settings"]["bits"]),
        (&json!("result"), &json!(2))
    );
    assert!(
        result["result"]["accuracy"].as_f64().unwrap() > 0.1,
        "{result}"
    );
    assert!(folder.join(result["folder"].as_str().unwrap()).is_dir());
    drop(search.child.0.stdin.take());
    assert!(search.child.0.wait().unwrap().success());
    // What is known: the cell asked for again is not trained again, and its epochs are told.
    let told = text(folder, "sweep tell a");
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((told.len(), &told[0]["event"]), (2, &json!("result")));
    assert_eq!(told[1]["event"], "unfinished");
    let mut search = Ask::new(folder, ask);
    search.say(&json!({ "epochs": 1, "bits": 2 }));
    assert_eq!(search.hear()["event"], "epoch");
    assert_eq!(search.hear()["result"], told[0]["result"]);
}

/// A number below `most`, from a generator that starts at one number always (SplitMix64).
#[cfg(target_os = "linux")]
fn random(state: &mut u64, most: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % most
}

/// The processes that train a cell of `sweep` now, as their locks tell.
#[cfg(target_os = "linux")]
fn workers(sweep: &Path) -> Vec<String> {
    let Ok(cells) = std::fs::read_dir(sweep) else {
        return Vec::new();
    };
    let own = sweep.to_string_lossy().into_owned();
    let process = |cell: PathBuf| {
        let told = std::fs::read_to_string(cell.join("lock")).ok()?;
        let id = told.split(' ').nth(1)?.to_string();
        // A number of a process that is no more may be another's by now.
        let command = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).into_owned();
        let is_one = command.contains("run-cell") && command.contains(&own);
        is_one.then_some(id)
    };
    cells
        .flatten()
        .filter_map(|cell| process(cell.path()))
        .collect()
}

/// `cargo test --release --test suite sweep::a_hundred -- --ignored --nocapture`
#[cfg(target_os = "linux")]
#[test]
#[ignore = "some minutes"]
fn a_hundred_kills_change_no_bit() {
    const KILLS: usize = 100;
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let text = "
        epochs = 8
        [sweep]
        method = [\"dorefa\", \"lsq\"]
        bits = [8, 4, 3, 2]
        seed = [1, 2, 3]
    ";
    std::fs::write(folder.join("grid.toml"), text).unwrap();
    let sweep = |out: &str| format!("sweep grid.toml --jobs 2 --threads 1 --out {out}");
    let start = Instant::now();
    let whole = self::text(folder, &sweep("whole"));
    println!(
        "24 cells without a kill: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let (start, mut state) = (Instant::now(), 12);
    let path = folder.join("killed");
    let (mut parents, mut children, mut starts) = (0, 0, 0);
    let ended = loop {
        let mut command = lowbit(folder, "");
        command.args([
            "sweep",
            "grid.toml",
            "--jobs",
            "2",
            "--threads",
            "1",
            "--out",
        ]);
        command
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut parent = Killed(command.spawn().unwrap());
        starts += 1;
        let ended = loop {
            if let Some(status) = parent.0.try_wait().unwrap() {
                break Some(status);
            }
            std::thread::sleep(Duration::from_millis(random(&mut state, 600)));
            if parents + children == KILLS {
                break Some(parent.0.wait().unwrap());
            }
            let workers = workers(&path);
            match random(&mut state, workers.len() as u64 + 1) as usize {
                0 => {
                    parent.0.kill().unwrap();
                    parent.0.wait().unwrap();
                    parents += 1;
                    break None;
                }
                n => {
                    let kill = Command::new("kill").args(["-9", &workers[n - 1]]).output();
                    children += usize::from(kill.unwrap().status.success());
                }
            }
        };
        match ended {
            Some(status) if status.success() => break starts,
            // A cell that was killed is one that failed.
            _ => assert!(starts < 1000),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{parents} sweeps and {children} cells killed, {ended} starts: {seconds:.1} s");
    assert_eq!(parents + children, KILLS);
    let mut compared = 0;
    for entry in std::fs::read_dir(folder.join("whole")).unwrap() {
        let cell = entry.unwrap().path();
        if cell.is_dir() {
            assert_same(&cell, &path.join(cell.file_name().unwrap()));
            compared += 1;
        }
    }
    assert_eq!(compared, 24);
    println!("{whole}");
}
