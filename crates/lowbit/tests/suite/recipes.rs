//! Every recipe repeats to the bit: resumed, and on one and two threads.

use burn::tensor::Device;
use lowbit::data::{DataSet, ImageSet, Split};
use lowbit::train::{
    AveragingInterval, Experiment, Interrupter, NamedRecipe, Outcome, RunFolder, Settings,
};

use crate::training::{StopAfter, assert_same_runs, some_digits, train};

/// A recipe's arithmetic on a network and images that take a moment: two epochs of four steps on the
/// digits, by its own network where that is for them; of text some windows.
fn small(recipe: &NamedRecipe) -> Experiment {
    let file = recipe.read().unwrap();
    let mut experiment = file.complete(Settings::default()).unwrap();
    if experiment.data != DataSet::Digits && !experiment.data.is_text() {
        experiment.data = DataSet::Digits;
        let spikes = experiment.steps.is_some();
        let model = if spikes { "snn-cnn" } else { "cnn" };
        experiment.model = model.parse().unwrap();
    }
    experiment.augment = false;
    experiment.batch = 16;
    for run in &mut experiment.runs {
        run.epochs = 2;
        // As gentle as the small network needs it: some recipes' rates are for long runs.
        run.lr = run.lr.min(0.02);
        if let Some(swa) = &mut run.swa {
            swa.start = 1;
            swa.every = AveragingInterval::Steps(2);
        }
    }
    experiment.check().unwrap();
    experiment
}

fn few(split: &Split) -> Split {
    let first = |set: &ImageSet, count: usize| ImageSet {
        images: set.images[..count * set.image_len()].to_vec(),
        labels: set.labels[..count * set.answers()].to_vec(),
        ..set.clone()
    };
    Split {
        train: first(&split.train, 60),
        test: first(&split.test, 20),
    }
}

#[test]
fn every_recipe_repeats_resumed_and_on_any_number_of_threads() {
    let digits = few(&some_digits());
    let text = few(&DataSet::Shakespeare.load(None, &mut |_| {}).unwrap());
    let temporary = tempfile::tempdir().unwrap();
    for recipe in NamedRecipe::ALL {
        let experiment = small(recipe);
        let split = if experiment.data.is_text() {
            &text
        } else {
            &digits
        };
        let path = |what: &str| temporary.path().join(format!("{}-{what}", recipe.name));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let path = path(&threads.to_string());
            pool.build()
                .unwrap()
                .install(|| train(&path, &experiment, split))
        };
        let whole = on(1);
        assert_same_runs(&whole, &on(2), &experiment);
        let parts = RunFolder::create(path("parts"), &experiment).unwrap();
        // In the middle of the first epoch of the first run, and of the second of a later one.
        for steps in [2, 13, usize::MAX] {
            let interrupter = Interrupter::new();
            let mut stop = StopAfter(steps, &interrupter);
            let device = Device::flex();
            let outcome = parts.train(&experiment, split, &device, &interrupter, &mut stop);
            let stopped = matches!(outcome.unwrap(), Outcome::Interrupted(..));
            assert!(stopped || steps > 2, "{} was not stopped", recipe.name);
        }
        assert_same_runs(&whole, &parts, &experiment);
    }
}
