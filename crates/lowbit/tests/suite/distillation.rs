//! Students learn from teachers, and repeat what they learned.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use lowbit::data::{DataSet, Split};
use lowbit::models::{Classifier, LoadReport};
use lowbit::train::{
    Distillation, Experiment, Interrupter, Method, Outcome, Progress, RunFolder, Settings, Start,
};

use super::training::{StopAfter, assert_same_runs, noise, some_digits, train, weights};

/// A float run of one epoch, and its folder.
fn teacher(folder: &Path, model: &str, split: &Split) -> PathBuf {
    let settings = Settings {
        model: Some(model.parse().unwrap()),
        method: Some(Method::FLOAT),
        epochs: Some(1),
        batch: Some(32),
        seed: Some(9),
        threads: Some(1),
        ..Settings::default()
    };
    let path = folder.join(format!("teacher-{model}"));
    train(&path, &settings.complete().unwrap(), split);
    path
}

/// A student in four bits, from the settings in `text`.
fn student(teacher: &Path, text: &str) -> Result<Experiment, lowbit::Error> {
    let settings = Settings {
        teacher: Some(teacher.into()),
        epochs: Some(2),
        batch: Some(32),
        threads: Some(1),
        ..toml::from_str(text).unwrap()
    };
    settings.complete()
}

fn only_distilled(text: &str) -> String {
    format!("baseline = false\n{text}")
}

#[test]
fn the_runs_are_the_student_alone_and_distilled() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let teacher = teacher(temporary.path(), "cnn", &split);
    let runs = |text: &str| -> Vec<(String, Start, bool)> {
        let runs = student(&teacher, text).unwrap().runs.into_iter();
        runs.map(|run| (run.name, run.start, run.distillation.is_some()))
            .collect()
    };
    let run = |name: &str, start, distilled| (name.to_string(), start, distilled);
    assert_eq!(
        runs(""),
        [
            run("dorefa-w4a4", Start::Scratch, false),
            run("dorefa-w4a4-distilled", Start::Scratch, true)
        ]
    );
    assert_eq!(
        runs("method = \"float\"\nbaseline = false\nstart_from_teacher = true"),
        [run("float-distilled", Start::Teacher, true)]
    );
    // What is calibrated starts from a trained network.
    assert_eq!(
        runs("method = \"tqt\""),
        [
            run("float", Start::Scratch, false),
            run("tqt-w8a8", Start::First, false),
            run("tqt-w8a8-distilled", Start::First, true)
        ]
    );
    let experiment = student(&teacher, "temperature = 4.0").unwrap();
    let text = experiment.to_toml().unwrap();
    let read = Experiment::from_toml(Path::new("a"), &text).unwrap();
    assert_eq!(read, experiment);
    let distillation: &Distillation = read.runs[1].distillation.as_ref().unwrap();
    assert_eq!((distillation.temperature, distillation.weight), (4.0, 0.05));
    assert!(
        !student(&teacher, "")
            .unwrap()
            .to_toml()
            .unwrap()
            .contains("labels")
    );
}

/// Three epochs, one for each phase. The first is that of the student alone; in the second the teacher
/// learns, which a teacher without co-studying does not, so that the third differs.
#[test]
fn phases_are_of_their_epochs() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let teacher = teacher(temporary.path(), "cnn", &split);
    let trained = |name: &str, text: &str| {
        let mut experiment = student(&teacher, &format!("distill_weight = 0.5\n{text}")).unwrap();
        for run in &mut experiment.runs {
            run.epochs = 3;
        }
        experiment.check().unwrap();
        let folder = train(&temporary.path().join(name), &experiment, &split);
        let losses = |run: &str| -> Vec<f64> {
            let epochs = folder.epochs(run).unwrap().into_iter();
            epochs.map(|epoch| epoch.train_loss).collect()
        };
        [losses("dorefa-w4a4"), losses("dorefa-w4a4-distilled")]
    };
    let [alone, phases] = trained("a", "self_study = 1\nco_study = 1");
    let [_, fixed] = trained("b", "self_study = 1");
    assert_eq!(alone[0], phases[0]);
    assert_eq!(phases[0], fixed[0]);
    assert!(alone[1] != phases[1] && alone[1] != fixed[1]);
    assert_ne!(phases[2], fixed[2]);
    let long = student(&teacher, "self_study = 2\nco_study = 2").unwrap_err();
    assert_eq!(
        long.to_string(),
        "runs[1].distillation.co_study: takes 4 epochs with self_study, expected 2 at most"
    );
}

/// With weight 0 the loss is that of the labels, and the distilled student the one alone, to the bit;
/// its checkpoint has the same parameters, whatever else was trained.
#[test]
fn a_weight_of_zero_changes_nothing() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let teacher = teacher(temporary.path(), "cnn", &split);
    let experiment = student(&teacher, "distill_weight = 0.0").unwrap();
    let folder = train(&temporary.path().join("a"), &experiment, &split);
    let [alone, distilled] =
        ["dorefa-w4a4", "dorefa-w4a4-distilled"].map(|run| weights(&folder, run));
    assert!(alone == distilled);
    let experiment = student(&teacher, &only_distilled("distill_weight = 0.5")).unwrap();
    let folder = train(&temporary.path().join("b"), &experiment, &split);
    assert!(alone != weights(&folder, "dorefa-w4a4-distilled"));
}

#[test]
fn without_labels_they_do_not_matter() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let teacher = teacher(temporary.path(), "cnn", &split);
    let mut other = split.clone();
    for label in &mut other.train.labels {
        *label = (*label + 3) % 10;
    }
    let text = only_distilled("labels = false");
    let experiment = student(&teacher, &text).unwrap();
    assert_eq!(
        experiment.runs[0].distillation.as_ref().unwrap().weight,
        1.0
    );
    let trained = |name: &str, split: &Split| {
        let folder = train(&temporary.path().join(name), &experiment, split);
        weights(&folder, "dorefa-w4a4-distilled")
    };
    assert!(trained("a", &split) == trained("b", &other));
}

/// Features of 64, 128 and 256 channels teach those of 16, 32 and 64 through regressors, which are
/// no part of the student.
const STAGES: &str = "
    model = \"resnet8\"
    baseline = false
    feature_weight = 0.5
    attention_weight = 1.0
    loss_scale = \"dynamic 64\"
";

#[test]
fn an_interrupted_student_ends_with_the_weights_of_an_uninterrupted_one() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let cnn = teacher(temporary.path(), "cnn", &split);
    let resnet = teacher(temporary.path(), "resnet8-bottleneck", &split);
    let tqt = only_distilled("method = \"tqt\"\nstart_from_teacher = true");
    let swa = only_distilled("swa_start = 1");
    let stages_swa = format!("{STAGES}\nswa_start = 1");
    // An epoch alone, one together.
    let phases = format!("{STAGES}\nself_study = 1\nco_study = 1");
    let cases = [
        ("phases", &resnet, phases.as_str()),
        ("tqt", &cnn, tqt.as_str()),
        ("swa", &cnn, &swa),
        ("stages", &resnet, STAGES),
        ("stages-swa", &resnet, &stages_swa),
    ];
    for (name, teacher, text) in cases {
        let experiment = student(teacher, text).unwrap();
        let whole = train(
            &temporary.path().join(format!("{name}-whole")),
            &experiment,
            &split,
        );
        let path = temporary.path().join(format!("{name}-parts"));
        RunFolder::create(&path, &experiment).unwrap();
        for steps in [3, 5, 1, usize::MAX] {
            let (folder, experiment) = RunFolder::open(&path).unwrap();
            let interrupter = Interrupter::new();
            let mut stop = StopAfter(steps, &interrupter);
            let device = Device::flex();
            folder
                .train(&experiment, &split, &device, &interrupter, &mut stop)
                .unwrap();
        }
        let (parts, _) = RunFolder::open(&path).unwrap();
        assert_same_runs(&whole, &parts, &experiment);
    }
}

#[test]
fn two_threads_give_the_numbers_of_one_and_nothing_of_the_teacher_is_kept() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let teacher = teacher(temporary.path(), "resnet8-bottleneck", &split);
    let experiment = student(&teacher, STAGES).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let path = temporary.path().join(threads.to_string());
        pool.install(|| train(&path, &experiment, &split))
    };
    let (one, two) = (on(1), on(2));
    assert_same_runs(&one, &two, &experiment);
    let alone = Settings {
        model: Some("resnet8".parse().unwrap()),
        baseline: Some(false),
        epochs: Some(1),
        ..Settings::default()
    };
    let alone = train(
        &temporary.path().join("alone"),
        &alone.complete().unwrap(),
        &split,
    );
    let names = |folder: &RunFolder, run: &str| -> Vec<String> {
        weights(folder, run)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(
        names(&one, "dorefa-w4a4-distilled"),
        names(&alone, "dorefa-w4a4")
    );
}

/// What a student was given.
#[derive(Default)]
struct Given(LoadReport);

impl Progress for Given {
    fn started_from_teacher(&mut self, report: &LoadReport) {
        self.0 = report.clone();
    }
}

#[test]
fn a_student_starts_from_what_it_shares_with_its_teacher() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let given = |teacher: &Path, model: &str| {
        let text = format!("model = \"{model}\"\nstart_from_teacher = true\nbaseline = false");
        let experiment = student(teacher, &text).unwrap();
        let path = temporary.path().join(format!("from-{model}"));
        let folder = RunFolder::create(path, &experiment).unwrap();
        let mut given = Given::default();
        let (device, interrupter) = (Device::flex(), Interrupter::new());
        folder
            .train(&experiment, &split, &device, &interrupter, &mut given)
            .unwrap();
        given.0
    };
    let cnn = teacher(temporary.path(), "cnn", &split);
    let all = given(&cnn, "cnn");
    for name in [
        "conv2.weight",
        "bn1.running_mean",
        "bn3.running_var",
        "fc.bias",
    ] {
        assert!(all.loaded.iter().any(|loaded| loaded == name), "{name}");
    }
    assert!(all.missing.is_empty() && all.other_shape.is_empty());
    // The deeper network has a second block in each stage.
    let resnet = teacher(temporary.path(), "resnet8", &split);
    let some = given(&resnet, "resnet14");
    let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
    assert!(has(&some.loaded, "layer1.0.conv1.weight"));
    assert!(has(&some.missing, "layer1.1.conv1.weight"));
}

/// A network without normalization that starts as its teacher gives the same scores of the same
/// images: without labels its loss is 0 exactly where crops and flips reach both alike.
#[test]
fn crops_and_flips_reach_teacher_and_student_alike() {
    let split = noise([3, 32, 32], 64);
    let temporary = tempfile::tempdir().unwrap();
    let settings = Settings {
        data: Some(DataSet::Cifar10),
        model: Some("lenet".parse().unwrap()),
        method: Some(Method::FLOAT),
        epochs: Some(1),
        threads: Some(1),
        ..Settings::default()
    };
    let path = temporary.path().join("teacher");
    train(&path, &settings.clone().complete().unwrap(), &split);
    let settings = Settings {
        teacher: Some(path),
        start_from_teacher: Some(true),
        labels: Some(false),
        baseline: Some(false),
        lr: Some(1e-30),
        ..settings
    };
    let experiment = settings.complete().unwrap();
    assert!(experiment.augment);
    let folder = train(&temporary.path().join("student"), &experiment, &split);
    let epochs = folder.epochs("float-distilled").unwrap();
    assert!(
        epochs[0].train_loss.abs() < 1e-12,
        "{}",
        epochs[0].train_loss
    );
}

#[test]
fn a_file_of_weights_teaches_where_its_network_is_told() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let run = teacher(temporary.path(), "cnn", &split);
    let (folder, _) = RunFolder::open(&run).unwrap();
    let best = folder.checkpoints("float").best().unwrap().unwrap();
    let file = temporary.path().join("weights.bpk");
    std::fs::copy(best.join("model.bpk"), &file).unwrap();
    let refused = |path: &Path, text: &str| student(path, text).unwrap_err().to_string();
    assert_eq!(
        refused(&file, ""),
        "teacher_model: a file of weights does not say of which network they are"
    );
    assert_eq!(
        refused(&run, "teacher_model = \"cnn\""),
        "teacher_model: the teacher is a run, whose configuration says it"
    );
    assert_eq!(
        refused(&file, "teacher_model = \"cnn\"\nteacher_wbits = 4"),
        "teacher_method: widths are given, expected the method, too"
    );
    assert_eq!(
        refused(
            &file,
            "teacher_model = \"cnn\"\nteacher_method = \"dorefa\"\nteacher_wbits = 99"
        ),
        "teacher_wbits: is 99, dorefa takes 1 to 24, or 32 for float"
    );
    // The same weights, from the run, its folder, a checkpoint and the file, teach the same.
    let trained = |name: &str, path: &Path, text: &str| {
        let experiment = student(path, &only_distilled(text)).unwrap();
        let folder = train(&temporary.path().join(name), &experiment, &split);
        weights(&folder, "dorefa-w4a4-distilled")
    };
    let of_run = trained("a", &run, "");
    assert!(of_run == trained("b", &run.join("float"), ""));
    assert!(of_run == trained("c", &best, ""));
    assert!(of_run == trained("d", &file, "teacher_model = \"cnn\""));
}

#[test]
fn a_teacher_that_changed_or_does_not_fit_is_refused_in_a_line() {
    let split = some_digits();
    let temporary = tempfile::tempdir().unwrap();
    let path = teacher(temporary.path(), "cnn", &split);
    let go_on = |folder: &RunFolder, experiment: &Experiment| {
        let (device, interrupter) = (Device::flex(), Interrupter::new());
        let outcome = folder.train(experiment, &split, &device, &interrupter, &mut ());
        outcome.map_err(|error| error.to_string())
    };
    let create = |name: &str, experiment: &Experiment| {
        RunFolder::create(temporary.path().join(name), experiment).unwrap()
    };
    let experiment = student(&path, "baseline = false").unwrap();
    let folder = create("a", &experiment);
    let (moved, other) = (path.with_extension("old"), temporary.path().join("other"));
    std::fs::rename(&path, &moved).unwrap();
    let gone = go_on(&folder, &experiment).unwrap_err();
    assert!(gone.starts_with(&path.display().to_string()), "{gone}");
    // Other weights in its place.
    std::fs::create_dir(&other).unwrap();
    let mut retrained = RunFolder::open(&moved).unwrap().1;
    retrained.seed = 10;
    train(&path, &retrained, &split);
    let changed = go_on(&folder, &experiment).unwrap_err();
    let path = path.display();
    assert_eq!(
        changed,
        format!("teacher: {path} has other weights than when the run was made")
    );
    // Back in its place it teaches.
    std::fs::remove_dir_all(format!("{path}")).unwrap();
    std::fs::rename(&moved, format!("{path}")).unwrap();
    assert!(matches!(
        go_on(&folder, &experiment),
        Ok(Outcome::Finished(_))
    ));

    let stages = "model = \"densenet-bc-22-12\"\nbaseline = false\nattention_weight = 1.0";
    let experiment = student(format!("{path}").as_ref(), stages).unwrap();
    let refused = go_on(&create("b", &experiment), &experiment).unwrap_err();
    assert_eq!(
        refused,
        "teacher: the student is of a network that names no stages; features and attention need them"
    );
}

#[test]
fn what_is_said_without_a_teacher_is_refused() {
    let refused = |text: &str| {
        let settings: Settings = toml::from_str(text).unwrap();
        settings.complete().unwrap_err().to_string()
    };
    assert_eq!(
        refused("temperature = 4.0"),
        "temperature: there is nobody to learn from, expected teacher, too"
    );
    let nowhere = refused("teacher = \"nowhere/at/all\"");
    assert!(
        nowhere.contains("nowhere/at/all: No such file"),
        "{nowhere}"
    );
    assert_eq!(nowhere.lines().count(), 1);
}

/// Stages come with the scores of `forward`, bit for bit.
#[test]
fn stages_have_the_scores_of_a_forward_pass() {
    use burn::tensor::Tensor;
    let device = Device::flex();
    for (name, channels) in [("cnn", [16, 32, 64]), ("resnet8", [16, 32, 64])] {
        let architecture: lowbit::models::Architecture = name.parse().unwrap();
        let plan = Method::DOREFA.plan(4, 4);
        let model = architecture
            .init([1, 8, 8], 10, &plan, 3, &device)
            .unwrap()
            .valid();
        let images = Tensor::<4>::ones([2, 1, 8, 8], &device) * 0.3;
        let stages = model.stages(images.clone());
        let found: Vec<usize> = stages.features.iter().map(|x| x.dims()[1]).collect();
        assert_eq!(found, channels, "{name}");
        let bits =
            |x: Tensor<2>| -> Vec<u32> { x.into_data().iter::<f32>().map(f32::to_bits).collect() };
        assert_eq!(bits(stages.scores), bits(model.forward(images)), "{name}");
    }
}
