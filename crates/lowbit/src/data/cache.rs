//! The folder that data sets are downloaded to, and archives that they come in.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::Archive;
use ureq::Agent;

use super::download::{OnProgress, Source};
use crate::Error;
use crate::files::write_atomic;

/// The folder that the set called `name` is downloaded to: `$LOWBIT_DATA/<name>` if that variable
/// is set, else `lowbit/<name>` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`,
/// `~/Library/Caches`, `%LOCALAPPDATA%`).
///
/// # Errors
///
/// [`Error::NoCacheFolder`] if the system does not say where the user's cache folder is.
pub fn cache_folder(name: &str) -> Result<PathBuf, Error> {
    let chosen = env::var_os("LOWBIT_DATA").filter(|folder| !folder.is_empty());
    chosen
        .map(PathBuf::from)
        .or_else(|| Some(dirs::cache_dir()?.join("lowbit")))
        .map(|folder| folder.join(name))
        .ok_or(Error::NoCacheFolder)
}

/// Downloads a `.tar.gz` archive to `dir` and unpacks the files called `names`. An archive that was
/// put there by hand is used, and kept.
pub(super) fn fetch_archive(
    agent: &Agent,
    url: &str,
    archive: (&str, &str),
    names: &[&str],
    dir: &Path,
    progress: OnProgress,
) -> Result<(), Error> {
    let path = dir.join(archive.0);
    let by_hand = path.exists();
    let source = Source {
        url,
        files: &[archive],
    };
    source.fetch(agent, dir, archive.0, progress)?;
    unpack(&path, names, dir)?;
    if by_hand {
        return Ok(());
    }
    fs::remove_file(&path).map_err(Error::io(&path))
}

/// Writes the files called `names` that are in the `.tar.gz` file `archive` to `dir`. A file gets its
/// name when it is complete.
fn unpack(archive: &Path, names: &[&str], dir: &Path) -> Result<(), Error> {
    let damaged = |error: io::Error| Error::Data {
        path: archive.to_owned(),
        offset: None,
        message: format!("the archive is damaged ({error})"),
    };
    let file = File::open(archive).map_err(Error::io(archive))?;
    let mut members = Archive::new(GzDecoder::new(BufReader::new(file)));
    for member in members.entries().map_err(damaged)? {
        let mut member = member.map_err(damaged)?;
        let path = member.path().map_err(damaged)?;
        let name = path.file_name().and_then(|name| name.to_str());
        // A name from the list, not from the archive, says where to write.
        if let Some(name) = names.iter().find(|&&known| Some(known) == name) {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).map_err(damaged)?;
            write_atomic(&dir.join(name), &bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::super::cifar::{CIFAR100, fetch_cifar100};
    use super::super::test_server::{self, Server, answer};
    use super::*;

    /// A `.tar.gz` file with the given members.
    fn tar_gz(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn record(fine: u8) -> Vec<u8> {
        [&[0, fine], &[1; 3072][..]].concat()
    }

    /// A folder with an archive of CIFAR-100 that was put there by hand.
    fn by_hand(archive: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("cifar-100-binary.tar.gz")).unwrap();
        file.write_all(archive).unwrap();
        dir
    }

    fn fetch(dir: &Path) -> Result<(), Error> {
        fetch_cifar100(&Agent::new_with_defaults(), dir, &mut |_| {
            panic!("nothing is to be downloaded")
        })
    }

    /// The names of the files in `dir`, sorted.
    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_archive_put_there_by_hand_is_unpacked_and_kept() {
        let dir = by_hand(&tar_gz(&[
            ("cifar-100-binary/fine_label_names.txt", b"apple"),
            ("cifar-100-binary/train.bin", &record(7)),
            ("cifar-100-binary/test.bin", &record(9)),
        ]));
        fetch(dir.path()).unwrap();
        let split = CIFAR100.load(dir.path()).unwrap();
        assert_eq!((split.train.labels, split.test.labels), (vec![7], vec![9]));
        assert_eq!(
            names(dir.path()),
            ["cifar-100-binary.tar.gz", "test.bin", "train.bin"]
        );
    }

    #[test]
    fn a_downloaded_archive_is_unpacked_and_removed() {
        let archive = tar_gz(&[("x/train.bin", &record(7)), ("x/test.bin", &record(9))]);
        let server = Server::start(vec![answer("200 OK", archive.len(), &archive)]);
        let dir = tempfile::tempdir().unwrap();
        let md5 = format!("{:x}", md5::compute(&archive));
        fetch_archive(
            &test_server::agent(),
            &server.url,
            ("c.tar.gz", &md5),
            &CIFAR100.names().collect::<Vec<_>>(),
            dir.path(),
            &mut |progress| assert_eq!(progress.file, "c.tar.gz"),
        )
        .unwrap();
        assert_eq!(CIFAR100.load(dir.path()).unwrap().train.labels, [7]);
        assert_eq!(names(dir.path()), ["test.bin", "train.bin"]);
        server.ranges();
    }

    #[test]
    fn a_damaged_archive_is_named() {
        let good = tar_gz(&[("train.bin", &record(7))]);
        for bytes in [&good[..good.len() / 2], b"not gzip"] {
            let dir = by_hand(bytes);
            let message = fetch(dir.path()).unwrap_err().to_string();
            let path = dir.path().join("cifar-100-binary.tar.gz");
            let expected = format!("{}: the archive is damaged (", path.display());
            assert!(message.starts_with(&expected), "{message}");
            assert!(!dir.path().join("train.bin").exists());
        }
    }

    #[test]
    fn the_cache_folder_ends_in_the_name() {
        assert!(cache_folder("mnist").unwrap().ends_with("mnist"));
    }
}
