//! Cells as a job array of Slurm.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use lowbit::train::sweep::SweepFolder;
use lowbit_formats::new_file;

use super::super::Ended;
use super::Worker;
use super::cell::STOPPED;
use crate::output::{print, say};

/// The script, in the sweep's folder.
const SCRIPT: &str = "slurm.sh";

/// Writes a script whose array has a task for each cell that is not finished, and submits it with
/// further options of sbatch.
pub(super) fn submit(folder: &SweepFolder, worker: &Worker, options: &[String]) -> Ended {
    let mut unfinished = Vec::new();
    for cell in folder.cells()? {
        if cell.state()?.result.is_none() {
            unfinished.push(absolute(cell.path())?);
        }
    }
    if unfinished.is_empty() {
        say("all cells are finished");
        return Ok(ExitCode::SUCCESS);
    }
    let path = folder.path().join(SCRIPT);
    let text = script(folder.path(), worker, &unfinished)?;
    new_file::write(&path, text.as_bytes())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let shown = path.display();
    let output = Command::new("sbatch").args(options).arg(&path).output();
    let output = output.map_err(|error| format!("sbatch: {error}; the script is {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ");
        return Err(format!("sbatch: {said}; the script is {shown}").into());
    }
    let cells = unfinished.len();
    say(format_args!("{cells} cells, one a task; script: {shown}"));
    print(String::from_utf8_lossy(&output.stdout))?;
    Ok(ExitCode::SUCCESS)
}

/// The script. sbatch takes its own options before those in it.
///
/// One minute before its time is over, Slurm sends the shell USR1; the cell's process then gets TERM,
/// saves a checkpoint, and the task is queued again. TERM itself is what a task gets that is
/// cancelled, or that Slurm queues again itself.
fn script(folder: &Path, worker: &Worker, cells: &[String]) -> Result<String, Box<dyn Error>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let name = quoted(&name);
    let program = quoted(&absolute(&std::env::current_exe()?)?);
    let log = quoted(&format!("{}/slurm-%A_%a.log", absolute(folder)?));
    let last = cells.len() - 1;
    let mut flags: Vec<String> = Vec::new();
    for flag in worker.flags() {
        flags.push(quoted(&flag.to_string_lossy()));
    }
    if worker.threads.is_none() {
        flags.push("--threads \"${SLURM_CPUS_PER_TASK:-1}\"".into());
    }
    let flags = flags.join(" ");
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| format!("  {}", quoted(cell)))
        .collect();
    let cells = cells.join("\n");
    Ok(format!(
        r#"#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@60

# One task a cell that was not finished when this was written.
cells=(
{cells}
)

{program} sweep run-cell {flags} -- "${{cells[$SLURM_ARRAY_TASK_ID]}}" &
cell=$!
out_of_time=
signalled=
trap 'out_of_time=yes; signalled=yes; kill -TERM "$cell"' USR1
trap 'signalled=yes; kill -TERM "$cell"' TERM
wait "$cell"
code=$?
# A signal ends `wait` before the process has saved its checkpoint.
while [ -n "$signalled" ]; do
  signalled=
  wait "$cell"
  ended=$?
  # 127: the first `wait` had the process's own code.
  [ "$ended" -eq 127 ] || code=$ended
done
if [ -n "$out_of_time" ] && [ "$code" -eq {STOPPED} ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"#
    ))
}

fn absolute(path: &Path) -> Result<String, Box<dyn Error>> {
    let path = std::path::absolute(path)?;
    let text = path.to_str().map(String::from);
    text.ok_or_else(|| format!("{}: is not Unicode", path.display()).into())
}

/// A text that the shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_a_task_for_each_cell() {
        let worker = Worker {
            threads: None,
            device: None,
            data_dir: None,
        };
        let cells = ["/a/seed=1", "/a/it's"].map(String::from);
        let text = script(Path::new("/a"), &worker, &cells).unwrap();
        for line in [
            "#SBATCH --job-name='a'",
            "#SBATCH --array=0-1",
            "#SBATCH --output='/a/slurm-%A_%a.log'",
            "  '/a/seed=1'",
            r"  '/a/it'\''s'",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
    }
}
