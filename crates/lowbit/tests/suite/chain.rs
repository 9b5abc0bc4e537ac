//! Chains of widths repeat, wherever they were stopped.

use std::path::Path;

use burn::tensor::Device;
use lowbit::report::ChainReport;
use lowbit::train::{Chain, ChainResults, Interrupter, RunFolder, Settings};

use super::training::{StopAfter, assert_same_runs, some_digits};

fn chain() -> Chain {
    let settings = Settings {
        epochs: Some(1),
        batch: Some(32),
        threads: Some(1),
        distill_weight: Some(0.5),
        ..Settings::default()
    };
    Chain::new(vec![32, 4, 2], Vec::new(), 1, settings).unwrap()
}

fn train(folder: &Path, stop_after: usize) -> Option<ChainResults> {
    let chain = Chain::open(folder).unwrap();
    let interrupter = Interrupter::new();
    let mut stop = StopAfter(stop_after, &interrupter);
    let device = Device::flex();
    chain
        .train(folder, &some_digits(), &device, &interrupter, &mut stop)
        .unwrap()
}

/// 180 of 200 images are trained on, six steps an epoch: stops fall into every kind of cell, and on
/// the end of one.
#[test]
fn a_stopped_chain_ends_as_one_that_was_not() {
    let temporary = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| temporary.path().join(name));
    for folder in [&whole, &parts] {
        chain().create(folder).unwrap();
    }
    let finished = train(&whole, usize::MAX).unwrap();
    assert_eq!(finished.cells.len(), 3 + 2 + 1);
    for steps in [2, 6, 5, 1, 7, 3] {
        assert_eq!(train(&parts, steps), None);
    }
    let again = train(&parts, usize::MAX).unwrap();
    assert_eq!(again, finished);
    for cell in chain().cells() {
        let of = |folder: &Path| RunFolder::open(folder.join(chain().folder(cell))).unwrap();
        let ((a, experiment), (b, _)) = (of(&whole), of(&parts));
        assert_same_runs(&a, &b, &experiment);
    }
    let files = ["table.txt", "table.csv", "table.json", "accuracy.svg"];
    let written = |folder: &Path, results: ChainResults| {
        ChainReport::new(results).write(folder).unwrap();
        files.map(|name| std::fs::read(folder.join(name)).unwrap())
    };
    assert!(written(&whole, finished) == written(&parts, again));
}

#[test]
fn a_cell_that_is_another_run_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("a");
    chain().create(&folder).unwrap();
    assert_eq!(train(&folder, 2), None);
    let config = folder.join("seed-0/alone-float/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("batch = 32", "batch = 16")).unwrap();
    let (device, interrupter) = (Device::flex(), Interrupter::new());
    let refused = chain().train(&folder, &some_digits(), &device, &interrupter, &mut ());
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("holds another run than the chain's"),
        "{refused}"
    );
    assert_eq!(refused.lines().count(), 1);
}
