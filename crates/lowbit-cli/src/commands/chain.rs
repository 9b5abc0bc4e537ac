//! `lowbit chain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use lowbit::models::Architecture;
use lowbit::report::ChainReport;
use lowbit::train::{Chain, Interrupter, RunFolder, Settings};

use super::{DeviceArgument, Ended, print_json, use_threads};
use crate::interrupt::stop_gently;
use crate::options::{self, Options};
use crate::output::{print, say};
use crate::progress::Bars;

/// Train networks of one width after the other: alone, from the first, and from the one before.
///
/// For each seed, every width is trained alone; distilled from the first; and distilled from the one
/// before it, which so assists between the two (arXiv 1902.03393). Each of these is a run in a folder
/// of its own, as of `lowbit train`; its teacher is the best checkpoint of another. Held-out training
/// images choose checkpoints, never the test images.
///
/// In the end table.txt, table.csv, table.json and accuracy.svg lie in the chain's folder. A chain
/// that was stopped or killed goes on with --resume, to the same numbers.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Bits of weights and activations, the first teacher's first; 32 is float
    /// [default: 32,16,8,4,2,1]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    bits: Vec<u32>,
    /// The network of each width, or one for all [default: the usual one for the data]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    models: Vec<Architecture>,
    /// Seeds, from --seed on, over which the table tells mean and deviation [default: 1]
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    #[command(flatten)]
    options: Options<options::Chain>,
    #[command(flatten)]
    device: DeviceArgument,
    /// The chain's folder [default: a new one under runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the chain in --out
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  lowbit chain --epochs 20
  lowbit chain --bits 32,8,4,2,1 --seeds 3 --temperature 4 --distill-weight 0.9
  lowbit chain --data cifar10 --bits 32,4,2 --models resnet26,resnet20,resnet14
  lowbit chain --resume --out runs/digits-chain";

/// The widths of the notes that this plan is from.
const USUAL_BITS: [u32; 6] = [32, 16, 8, 4, 2, 1];

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let (json, device) = (self.json, self.device.open()?);
        let (folder, chain) = self.folder()?;
        let threads = chain.settings.threads;
        let threads =
            threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
        use_threads(threads.unwrap_or(1))?;
        let mut bars = Bars::new();
        let split = chain.load(&mut |progress| {
            bars.download(progress.file, progress.done, progress.total);
        })?;
        let interrupter = Interrupter::new();
        stop_gently(&interrupter);
        bars.say(&format!("chain folder: {}", folder.display()));
        let results = chain.train(&folder, &split, &device, &interrupter, &mut bars)?;
        let Some(results) = results else {
            let path = folder.display();
            say(format_args!(
                "stopped; go on with: lowbit chain --resume --out {path}"
            ));
            return Ok(ExitCode::from(130));
        };
        let report = ChainReport::new(results);
        report.write(&folder)?;
        if json {
            print_json(&report)?;
        } else {
            print(report.table())?;
            let picture = folder.join("accuracy.svg");
            say(format_args!("picture: {}", picture.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The chain's folder, made if it is new, and the chain.
    fn folder(self) -> Result<(PathBuf, Chain), Box<dyn std::error::Error>> {
        let settings = *self.options.settings;
        if self.resume {
            let path = self.out.expect("clap requires it");
            let says_cells =
                !self.bits.is_empty() || !self.models.is_empty() || self.seeds.is_some();
            let chain = resumed(&path, settings, says_cells)?;
            return Ok((path, chain));
        }
        let bits = match self.bits.is_empty() {
            true => USUAL_BITS.to_vec(),
            false => self.bits,
        };
        let chain = Chain::new(bits, self.models, self.seeds.unwrap_or(1), settings)?;
        let unused = || RunFolder::first_unused(&format!("{}-chain", chain.data()));
        let path = self.out.unwrap_or_else(unused);
        chain.create(&path)?;
        Ok((path, chain))
    }
}

/// The chain in a folder, with what of the settings cannot change its numbers.
fn resumed(
    path: &Path,
    settings: Settings,
    says_cells: bool,
) -> Result<Chain, Box<dyn std::error::Error>> {
    let others = Settings {
        threads: None,
        data_dir: None,
        ..settings.clone()
    };
    if says_cells || others != Settings::default() {
        return Err(
            "--resume goes on with the chain's own configuration; only --out, \
             --data-dir, --threads, --device and --json go with it"
                .into(),
        );
    }
    let mut chain = Chain::open(path)?;
    chain.settings.threads = settings.threads.or(chain.settings.threads);
    chain.settings.data_dir = settings.data_dir.or(chain.settings.data_dir);
    Ok(chain)
}
