//! The command as a person meets it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use burn::tensor::Bytes;

use super::program::{error, lowbit, run};

#[test]
fn json_is_the_only_thing_on_standard_output() {
    let temporary = tempfile::tempdir().unwrap();
    let output = run(
        temporary.path(),
        "train --epochs 1 --threads 1 --seed 5 --json --out a",
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["seed"], 5);
    assert_eq!(report["config"]["data"], "digits");
    let runs = report["runs"].as_array().unwrap();
    let names: Vec<&str> = runs
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["float", "dorefa-w4a4"]);
    for run in runs {
        for field in [
            "accuracy",
            "loss",
            "seconds",
            "images_per_second",
            "model_bits",
        ] {
            assert!(run[field].as_f64().unwrap() > 0.0, "{field}");
        }
        assert!(run["accuracy"].as_f64().unwrap() <= 1.0);
    }

    // The folder's configuration repeats the numbers.
    let again = run(
        temporary.path(),
        "train --config a/config.toml --json --out b",
    );
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["runs"][1]["loss"], report["runs"][1]["loss"]);

    // A test of the last weights finds what training reported.
    let eval = run(temporary.path(), "eval a/dorefa-w4a4 --last --json");
    let eval: serde_json::Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert_eq!(eval["runs"][0]["accuracy"], report["runs"][1]["accuracy"]);
    assert_eq!(eval["runs"][0]["loss"], report["runs"][1]["loss"]);
    assert_eq!(eval["config"], report["config"]);
}

/// Names and values of the parameters of a run's last checkpoint.
fn weights(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut checkpoints: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    checkpoints.sort();
    let bytes = std::fs::read(checkpoints.last().unwrap().join("model.bpk")).unwrap();
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes)).unwrap();
    let names: Vec<String> = reader
        .tensor_names()
        .into_iter()
        .map(String::from)
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), reader.tensor_data(&name).unwrap()))
        .collect()
}

/// Waits until a run has a checkpoint of `epoch` or a later one.
fn wait_for_epoch(run: &Path, epoch: usize) {
    let reached = || {
        std::fs::read_dir(run.join("checkpoints")).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let number = name
                    .strip_prefix("epoch-")
                    .and_then(|n| n.parse::<usize>().ok());
                number.is_some_and(|number| number >= epoch)
            })
        })
    };
    let start = std::time::Instant::now();
    while !reached() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no epoch {epoch}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_run_ends_with_the_weights_of_one_that_was_not() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let flags = "train --epochs 4 --threads 1 --no-baseline";
    assert!(
        run(folder, &format!("{flags} --out whole"))
            .status
            .success()
    );
    let name = "dorefa-w4a4";
    let killed = folder.join("killed").join(name);
    let spawn = |arguments: &str| {
        let mut command = lowbit(folder, arguments);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // Killed at birth, in the first epoch, and at some moment after each of the first three.
    for pause in [0, 5, 60] {
        let mut child = spawn(&format!("{flags} --out killed-{pause}"));
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut arguments = format!("{flags} --out killed");
    for (epoch, pause) in [(1, 0), (2, 40), (3, 100)] {
        let mut child = spawn(&arguments);
        wait_for_epoch(&killed, epoch);
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        arguments = "train --resume --out killed".into();
    }
    let last = run(folder, &arguments);
    assert!(
        last.status.success(),
        "{}",
        String::from_utf8_lossy(&last.stderr)
    );
    let (whole, killed) = (weights(&folder.join("whole").join(name)), weights(&killed));
    assert!(!whole.is_empty() && whole == killed, "weights differ");

    // A folder from an early kill can be taken up by one of the two commands.
    for pause in [0, 5, 60] {
        let out = format!("killed-{pause}");
        let fresh = run(folder, &format!("{flags} --out {out}"));
        let resumed = run(folder, &format!("train --resume --out {out}"));
        assert!(fresh.status.success() || resumed.status.success(), "{out}");
        assert!(weights(&folder.join(out).join(name)) == whole);
    }
}

#[test]
fn bad_input_is_answered_in_one_line_that_names_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/file"), "x").unwrap();
    std::fs::write(folder.join("bad.toml"), "data = \"digits\"\nepoch = 3\n").unwrap();
    for (arguments, named) in [
        ("train --wbits 40", "wbits"),
        ("train --abits 17", "abits"),
        ("train --method float --wbits 4", "wbits"),
        ("train --method tqt --no-baseline", "start"),
        ("train --data-dir x", "data_dir"),
        ("train --epochs 0", "epochs"),
        ("train --method float --fold training", "fold"),
        ("train --batch 0", "batch"),
        ("train --lr -1", "lr"),
        ("train --threads 0", "threads"),
        ("train --out full", "full"),
        ("train --resume --out nowhere", "nowhere"),
        ("train --from nowhere --method tqt", "nowhere"),
        ("train --config missing.toml", "missing.toml"),
        ("train --config bad.toml", "bad.toml line 2"),
        ("train --data mnist --data-dir nowhere", "nowhere"),
        ("train --model lenet", "lenet needs images of 16x16"),
        // Said before the float network is trained.
        ("train --method tqt --widths conv9=4", "conv9"),
        ("train --method tqt --widths 8,8", "layer_widths"),
        ("eval nowhere", "nowhere"),
        ("bench train --rounds 0", "--rounds"),
    ] {
        let text = error(folder, arguments);
        let last = text.lines().last().unwrap();
        assert!(last.contains(named), "{arguments}: {text}");
        assert!(!text.contains("epoch   1"), "{arguments}: {text}");
        assert!(
            last.starts_with("error:") && !text.contains("panicked"),
            "{arguments}: {text}"
        );
    }
    for arguments in [
        "train --data imagenet",
        "train --method magic",
        "train --model vgg",
    ] {
        let text = error(folder, arguments);
        assert!(text.contains("expected"), "{arguments}: {text}");
    }
}

/// An objective is part of the configuration, on the command line and in a file, and its numbers do
/// not depend on threads.
#[test]
fn an_objective_is_chosen() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::write(
        folder.join("c.toml"),
        "objective = \"sum-of-squares\"\nepochs = 2\n",
    )
    .unwrap();
    let result = |arguments: &str| {
        let output = run(folder, &format!("{arguments} --json"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let one = result("train --config c.toml --threads 1 --out one");
    let two = result("train --objective sum-of-squares --epochs 2 --threads 2 --out two");
    let default = result("train --epochs 2 --out default");
    for i in 0..2 {
        assert_eq!(one["runs"][i]["loss"], two["runs"][i]["loss"]);
        let objective = &one["config"]["runs"][i]["objective"];
        assert_eq!(objective, "sum-of-squares");
        assert!(one["runs"][i]["accuracy"].as_f64().unwrap() > 0.9);
        assert_ne!(one["runs"][i]["loss"], default["runs"][i]["loss"]);
    }
    assert!(weights(&folder.join("one/float")) == weights(&folder.join("two/float")));
    let text = std::fs::read_to_string(folder.join("default/config.toml")).unwrap();
    assert!(!text.contains("objective"), "{text}");
    // A test measures what training made small.
    let eval = result("eval one/float --last");
    assert_eq!(eval["runs"][0]["loss"], one["runs"][0]["loss"]);
}

/// Every number of the loop has a format of its own on the command line; the float run beside it has
/// none.
#[test]
fn low_precision_is_trained_beside_float() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::write(folder.join("sums.toml"), "sums = \"e6m9 chunk 64\"\n").unwrap();
    let output = run(
        folder,
        "train --method float --activation-format e4m3 --error-format e5m2:stochastic \
         --weight-format e4m3 --gradient-format e5m2 --momentum-format bf16 \
         --accumulator-format fp16:stochastic --config sums.toml --epochs 4 --threads 2 \
         --out low --json",
    );
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [float, low] = [0, 1].map(|i| &report["runs"][i]);
    assert_eq!(
        (&float["name"], &low["name"]),
        (&"float".into(), &"low-precision".into())
    );
    let accuracy = |run: &serde_json::Value| run["accuracy"].as_f64().unwrap();
    assert!(accuracy(low) > accuracy(float) - 0.03, "{report}");
    let [float, low] = [0, 1].map(|i| &report["config"]["runs"][i]);
    assert!(float["numbers"].is_null());
    assert_eq!(low["numbers"]["momentum"], "bf16");
    assert_eq!(low["plan"]["default"]["accumulate"], "e6m9 chunk 64");
    assert_eq!(low["plan"]["first"]["input"]["format"], "e4m3");
    // Weights are values of their format.
    let e4m3: lowbit_formats::Format = "e4m3".parse().unwrap();
    let stored = weights(&folder.join("low/low-precision"));
    let stored = stored.iter().filter(|(name, _)| name.ends_with(".weight"));
    let values = stored.flat_map(|(_, bytes)| bytes.chunks(4));
    let values: Vec<f32> = values
        .map(|x| f32::from_le_bytes(x.try_into().unwrap()))
        .collect();
    let mut rounded = values.clone();
    let nearest = lowbit_formats::Rounding::NearestEven;
    e4m3.quantize_in_place(&mut rounded, nearest).unwrap();
    assert!(values.len() > 10_000 && values == rounded);
    let answered = |arguments: &str, expected: &str| {
        let text = self::error(folder, arguments);
        assert!(text.lines().last().unwrap().contains(expected), "{text}");
    };
    answered(
        "train --method dorefa --gbits 8 --error-format bf16",
        "error_format: the errors have gbits, expected one of the two",
    );
    answered(
        "train --method tqt --sums e6m9",
        "sums: the method is tqt, expected float",
    );
    answered("train --method float --sums magic", "magic");
    answered("train --weight-format e4m3:up:down", "up:down");
    answered("train --momentum-format magic", "magic");
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
#[test]
fn a_device_that_is_not_built_says_how_to_build_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    for arguments in [
        "train --device cuda",
        "quantize --from a --device cuda",
        "eval a --device cuda",
        "analyze accumulators a --device cuda",
        "bench train --device cuda",
        "bench convolutions --device cuda",
    ] {
        assert_eq!(
            error(folder, arguments),
            "error: device: cuda is not built in; build it with: \
             cargo build --release -p lowbit-cli --features cuda\n"
        );
    }
    let unknown = "unknown device `tpu`, expected flex, wgpu or cuda\n";
    assert!(error(folder, "train --device tpu").ends_with(unknown));
    let flex = run(folder, "train --device flex --epochs 1 --out a");
    assert!(flex.status.success());
}

/// Options of TQT are the same in both commands.
#[test]
fn training_takes_the_options_of_quantization() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let output = run(
        folder,
        "train --method tqt --bbits 12 --init mse --per-channel --widths conv2=4 --epochs 1 \
         --threads 1 --out a --json",
    );
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let plan = &report["config"]["runs"][1]["plan"];
    assert_eq!(plan["default"]["bias"]["bits"], 12);
    assert_eq!(plan["default"]["weight"]["per_channel"], true);
    assert_eq!(plan["default"]["input"]["init"], "mse");
    assert_eq!(plan["widths"][0]["path"], "conv2");
}

#[test]
fn help_names_every_shared_flag() {
    let output = run(Path::new("."), "train --help");
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--data",
        "--data-dir",
        "--model",
        "--method",
        "--wbits",
        "--abits",
        "--epochs",
        "--batch",
        "--lr",
        "--objective",
        "--seed",
        "--threads",
        "--device",
        "--config",
        "--out",
        "--from",
        "--accept",
        "--fold",
        "--resume",
        "--json",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
}

#[test]
fn a_float_run_is_quantized_tested_and_retrained() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let float = "train --method float --epochs 2 --threads 1 --out float";
    assert!(run(folder, float).status.success());
    let output = run(
        folder,
        "quantize --from float --method tqt --widths 8,4,4,8 --fold merged --out int --json",
    );
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["runs"][0]["name"], "tqt-static-w8a8");
    let layers = report["quantized"][0]["layers"].as_array().unwrap();
    let width = |path: &str| {
        let layer = layers.iter().find(|layer| layer["path"] == path).unwrap();
        layer["weight"].as_u64().unwrap()
    };
    assert_eq!((width("conv1"), width("conv2"), width("fc")), (8, 4, 8));
    let tensors = report["quantized"][0]["tensors"].as_array().unwrap();
    // Of four layers the weight, bias, input and sum, what the mean reads, and the result.
    assert_eq!(tensors.len(), 18);
    let is_sum = |tensor: &serde_json::Value| {
        let path = tensor["path"].as_str().unwrap();
        path.ends_with(".accumulator")
    };
    let (sums, tensors): (Vec<_>, Vec<_>) = tensors.iter().partition(|tensor| is_sum(tensor));
    assert_eq!(sums.len(), 4);
    assert!(
        sums.iter()
            .all(|sum| sum["clipped"] == 0.0 && sum["bits"] == 32)
    );
    for tensor in tensors {
        let threshold = tensor["threshold"][0].as_f64().unwrap();
        assert_eq!(threshold.log2().fract(), 0.0, "{tensor}");
        assert!(tensor["log2_threshold"][0].as_f64().unwrap() <= threshold.log2());
        assert!(
            tensor["sqnr"].as_f64().is_none_or(|db| db > 0.0),
            "{tensor}"
        );
        assert!(tensor["clipped"].as_f64().unwrap() < 0.5, "{tensor}");
    }
    let eval = run(folder, "eval int --json");
    let eval: serde_json::Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert_eq!(eval["runs"][0]["accuracy"], report["runs"][0]["accuracy"]);

    // Retraining takes up data, network, widths and folding of the quantized run.
    let retrain = run(
        folder,
        "train --method tqt --from int --epochs 1 --threads 1 --out retrained --json",
    );
    assert!(retrain.status.success());
    let said = String::from_utf8_lossy(&retrain.stderr);
    assert!(said.contains("thresholds came with the weights"), "{said}");
    let retrain: serde_json::Value = serde_json::from_slice(&retrain.stdout).unwrap();
    assert_eq!(retrain["runs"][0]["name"], "tqt-w8a8");
    let plan = &retrain["config"]["runs"][0]["plan"];
    assert_eq!(
        (&plan["fold"], &plan["layer_widths"][1]),
        (&"merged".into(), &4.into())
    );
    assert_eq!(plan["default"]["weight"]["retrain"], true);
    // With widths of its own it takes up the folding: weights that are merged stay so. The
    // inputs of conv2 and conv3 had 4 bits and now have 8, so that their thresholds are calibrated.
    let narrower = run(
        folder,
        "train --method tqt --wbits 4 --from int --epochs 1 --threads 1 --out narrower --json",
    );
    assert!(narrower.status.success());
    let said = String::from_utf8_lossy(&narrower.stderr).into_owned();
    assert!(said.contains("calibrated 2 quantizers"), "{said}");
    let narrower: serde_json::Value = serde_json::from_slice(&narrower.stdout).unwrap();
    assert_eq!(narrower["config"]["runs"][0]["plan"]["fold"], "merged");
    let compare = run(
        folder,
        "quantize --from float --compare --epochs 1 --out all",
    );
    let text = String::from_utf8(compare.stdout).unwrap();
    let names: Vec<&str> = text
        .lines()
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    let expected = [
        "float",
        "static-max-w8a8",
        "static-kl-j-w8a8",
        "retrained-w8a8",
        "retrained-w4a4",
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_cannot_be_quantized_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let error = |arguments: &str| error(folder, arguments);
    assert!(error("quantize --from nowhere").contains("nowhere: No such file"));
    std::fs::create_dir(folder.join("empty")).unwrap();
    assert!(error("quantize --from empty").contains("empty: is not the folder of a run"));
    let dorefa = "train --method dorefa --no-baseline --epochs 1 --threads 1 --out dorefa";
    assert!(run(folder, dorefa).status.success());
    assert!(error("quantize --from dorefa").contains("has no float weights"));
    std::fs::write(folder.join("a.pt"), "").unwrap();
    assert!(error("quantize --from a.pt").contains("data: is not given"));
    assert!(error("quantize --from a.pt --data digits --out x").contains("a.pt: "));
    assert!(error("quantize --from a.pt --data digits --widths 8,b").contains("`b`"));
    assert!(error("quantize --from a.pt --data digits --images 0").contains("calibration_images"));
    assert!(error("quantize --from a.pt --data digits --method dorefa").contains("dorefa"));
    assert!(error("quantize --from a.pt --data digits --init best").contains("kl-j"));
    for (flag, bits) in [("wbits", 1), ("bbits", 25), ("abits", 99)] {
        let text = error(&format!(
            "quantize --from a.pt --data digits --{flag} {bits}"
        ));
        let expected = format!("{flag}: is {bits}, expected 2 to 24, or 32 for float\n");
        assert!(text.ends_with(&expected), "{text}");
    }
}

/// What failed before it began is no run: the mended command may have the same folder.
#[test]
fn a_mistake_leaves_no_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::write(folder.join("a.pt"), "").unwrap();
    for arguments in [
        "quantize --from a.pt --data digits --out new",
        "train --method tqt --from a.pt --out new",
    ] {
        let text = error(folder, arguments);
        assert!(text.contains("a.pt: "), "{text}");
        assert!(!folder.join("new").exists(), "{arguments}");
    }
    // What was there before stays, and is not taken for a run.
    std::fs::create_dir(folder.join("new")).unwrap();
    std::fs::write(folder.join("new/notes"), "").unwrap();
    let text = error(folder, "quantize --from a.pt --data digits --out new");
    let expected = "new: already holds something, expected a new or an empty folder\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(folder.join("new/notes").exists());
    // A run that stands is one to go on with.
    let train = "train --method float --epochs 1 --threads 1 --out float";
    assert!(run(folder, train).status.success());
    let text = error(folder, train);
    let expected = "to go on with it: lowbit train --resume --out float\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn weights_that_differ_are_loaded_when_that_is_accepted() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let float = "train --method float --epochs 1 --threads 1 --out float";
    assert!(run(folder, float).status.success());
    // A file with the float network's weights, less one and with another too many.
    let model = folder.join("float/float/checkpoints/epoch-00001/model.bpk");
    let bytes = Bytes::from_bytes_vec(std::fs::read(model).unwrap());
    let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
    let mut tensors = reader.into_tensors().unwrap();
    let bias = tensors.iter_mut().find(|tensor| tensor.name == "fc.bias");
    bias.unwrap().name = "fc.shift".into();
    let bytes = burn_pack::Writer::new(tensors).into_bytes().unwrap();
    std::fs::write(folder.join("part.bpk"), &bytes[..]).unwrap();

    let quantize = "quantize --from part.bpk --data digits";
    let text = error(folder, quantize);
    let expected = "holds another network; it lacks fc.bias; it alone has fc.shift\n";
    assert!(text.ends_with(expected), "{text}");
    let text = error(folder, &format!("{quantize} --accept missing"));
    let expected = "holds another network; it alone has fc.shift\n";
    assert!(text.ends_with(expected), "{text}");
    for arguments in [
        &format!("{quantize} --out int"),
        "train --method tqt --from part.bpk --fold training --epochs 1 --threads 1 --out tqt",
    ] {
        let arguments = format!("{arguments} --accept missing,unexpected --json");
        let output = run(folder, &arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {text}");
        for listed in ["it lacks fc.bias\n", "it alone has fc.shift\n"] {
            let line = format!("accepted of the file: {listed}");
            assert!(text.contains(&line), "{arguments}: {text}");
        }
        // What was accepted is part of the configuration that repeats the run.
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["config"]["accept"]["missing"], true);
        let fold = &report["config"]["runs"][0]["plan"]["fold"];
        let folded = arguments.contains("--fold");
        assert_eq!(fold.as_str(), folded.then_some("training"), "{arguments}");
    }
}

/// A network that holds a NaN or an infinity is an error that says where, wherever training or
/// quantization would start from it, and where it is tested, one that names the run and its loss.
#[test]
fn a_network_that_is_no_numbers_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let float = "train --method float --epochs 1 --threads 1 --out a";
    assert!(run(folder, float).status.success());
    let path = folder.join("a/float/checkpoints/epoch-00001/model.bpk");
    let whole = std::fs::read(&path).unwrap();
    let with = |name: &str, value: f32| {
        let bytes = Bytes::from_bytes_vec(whole.clone());
        let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
        let mut data = reader.tensor_data(name).unwrap();
        data[..4].copy_from_slice(&value.to_le_bytes());
        let mut tensors = reader.into_tensors().unwrap();
        let tensor = tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap();
        let (dtype, shape, id) = (tensor.dtype, tensor.shape.clone(), tensor.param_id);
        let data = Bytes::from_bytes_vec(data);
        *tensor = burn_pack::Tensor::new(name.into(), dtype, shape, id, data);
        let bytes = burn_pack::Writer::new(tensors).into_bytes().unwrap();
        std::fs::write(&path, &bytes[..]).unwrap();
    };
    let answered = |arguments: &str, expected: &str| {
        let text = error(folder, arguments);
        assert!(
            text.ends_with(&format!("{expected}\n")),
            "{arguments}: {text}"
        );
    };
    with("fc.bias", f32::NAN);
    let said = "model.bpk: fc.bias holds NaN, expected numbers";
    answered("train --from a --method tqt --out b", said);
    answered("quantize --from a --out b", said);
    let said_of_loss = "the network's parameters or data are at fault";
    answered(
        "eval a",
        &format!("error: float: the test loss is NaN; {said_of_loss}"),
    );
    with("bn2.running_var", f32::INFINITY);
    let said = "model.bpk: bn2.running_var holds inf, expected numbers";
    answered("train --from a --method tqt --out b", said);
}
