use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use crate::Error;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The name of the file that is on its way.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of the whole file, if the server says.
    pub total: Option<u64>,
}

/// Takes reports of a download's progress.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Why a download did not work, before the address is added to it.
enum Failure {
    /// Server, network or content.
    Remote(String),
    /// The file here.
    Local(io::Error),
}

/// Files on a server that belong into one folder.
pub(super) struct Source<'a> {
    /// The address of the folder that they are in, with a slash at its end.
    pub(super) url: &'a str,
    /// The name and MD5 checksum, as published, of each file.
    pub(super) files: &'a [(&'a str, &'a str)],
}

impl Source<'_> {
    /// Brings those files into `dir` that are not there yet.
    ///
    /// What has arrived of a file is kept in `NAME.part`; the next attempt asks for the rest. The
    /// file gets its name when it is complete and its checksum is right.
    ///
    /// # Errors
    ///
    /// [`Error::Download`] with `wanted` as the files to get by hand; [`Error::Io`] if `dir`
    /// cannot be written to.
    pub(super) fn fetch(
        &self,
        agent: &Agent,
        dir: &Path,
        wanted: &str,
        progress: OnProgress,
    ) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        for &(name, md5) in self.files {
            let path = dir.join(name);
            if path.exists() {
                continue;
            }
            let url = format!("{}{name}", self.url);
            let mut report = |done, total| {
                progress(Progress {
                    file: name,
                    done,
                    total,
                })
            };
            download(agent, &url, &path, md5, &mut report).map_err(|failure| match failure {
                Failure::Local(source) => Error::io(&path)(source),
                Failure::Remote(message) => Error::Download {
                    url,
                    message,
                    dir: dir.to_owned(),
                    files: wanted.into(),
                },
            })?;
        }
        Ok(())
    }
}

/// The client for downloads: patient with a slow server, not with a silent one.
pub(super) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

type Report<'a> = &'a mut dyn FnMut(u64, Option<u64>);

fn download(
    agent: &Agent,
    url: &str,
    path: &Path,
    md5: &str,
    report: Report,
) -> Result<(), Failure> {
    let part = path.with_added_extension("part");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&part)?;
    // Where files cannot be locked, the checksum still finds what two downloads mixed.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(Failure::Remote("another download of it is going on".into()));
    }
    loop {
        let kept = receive(agent, url, &mut file, report)?;
        let found = checksum(&mut file)?;
        if found == md5 {
            break;
        }
        file.set_len(0)?;
        // What an earlier attempt left may have been of another file; one made anew has no excuse.
        if kept == 0 {
            let message = format!("its MD5 checksum is {found}, expected {md5}");
            return Err(Failure::Remote(message));
        }
    }
    file.sync_all()?;
    Ok(fs::rename(&part, path)?)
}

/// Completes `file` with what the server sends, and returns how many of its bytes were kept.
fn receive(agent: &Agent, url: &str, file: &mut File, report: Report) -> Result<u64, Failure> {
    let have = file.metadata()?.len();
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let mut response = request.call()?;
    let kept = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(have) => have,
        // There is nothing after what is here; the checksum tells whether it is the file.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(have),
        StatusCode::PARTIAL_CONTENT => {
            return Err(Failure::Remote("the server sent another range".into()));
        }
        status => return Err(Failure::Remote(format!("the server answers {status}"))),
    };
    file.set_len(kept)?;
    file.seek(io::SeekFrom::Start(kept))?;
    let body = response.body_mut();
    let total = body.content_length().map(|rest| kept + rest);
    copy(&mut body.as_reader(), file, kept, total, report)?;
    Ok(kept)
}

/// The first byte that a partial response holds, from `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start<T>(response: &Response<T>) -> Option<u64> {
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}

fn copy(
    body: &mut impl Read,
    file: &mut File,
    mut done: u64,
    total: Option<u64>,
    report: Report,
) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        report(done, total);
        let of = total.map_or_else(String::new, |total| format!(" of {total}"));
        let read = body.read(&mut buffer).map_err(|error| {
            Failure::Remote(format!(
                "the connection broke after {done}{of} bytes ({error})"
            ))
        })?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read])?;
        done += read as u64;
    }
}

/// The MD5 checksum of the whole file, in hexadecimal.
fn checksum(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut md5 = md5::Context::new();
    io::copy(file, &mut md5)?;
    Ok(format!("{:x}", md5.finalize()))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Remote(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tempfile::TempDir;

    use super::super::test_server::{Server, agent, answer};
    use super::*;

    const BODY: &[u8] = b"The quick brown fox jumps over the lazy dog";
    /// MD5 of that sentence, by md5sum.
    const MD5: &str = "9e107d9d372bb6826bd81d3542a419d6";

    fn whole() -> Vec<u8> {
        answer("200 OK", BODY.len(), BODY)
    }

    fn from(start: usize) -> Vec<u8> {
        let (end, total) = (BODY.len() - 1, BODY.len());
        let head = format!("206 Partial Content\r\nContent-Range: bytes {start}-{end}/{total}");
        answer(&head, total - start, &BODY[start..])
    }

    /// A folder that may hold the start of `fox.txt`, as an earlier attempt left it.
    fn folder(part: Option<&[u8]>) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        if let Some(part) = part {
            fs::write(dir.path().join("fox.txt.part"), part).unwrap();
        }
        dir
    }

    /// Downloads `fox.txt` and gives the error's message, or else checks the file.
    fn fetch(url: &str, dir: &Path) -> Option<String> {
        fetch_reporting(url, dir, &mut |_| ())
    }

    fn fetch_reporting(url: &str, dir: &Path, progress: OnProgress) -> Option<String> {
        let source = Source {
            url,
            files: &[("fox.txt", MD5)],
        };
        if let Err(error) = source.fetch(&agent(), dir, "fox.txt", progress) {
            assert!(!dir.join("fox.txt").exists());
            return Some(error.to_string());
        }
        assert_eq!(fs::read(dir.join("fox.txt")).unwrap(), BODY);
        assert!(!dir.join("fox.txt.part").exists());
        None
    }

    /// The message of a failed download.
    fn failed(url: &str, dir: &Path, why: &str) -> Option<String> {
        let dir = dir.display();
        Some(format!(
            "cannot download {url}fox.txt: {why}; put fox.txt into {dir} by hand, or try again"
        ))
    }

    #[test]
    fn a_file_is_downloaded_and_progress_reported() {
        let (server, dir) = (Server::start(vec![whole()]), folder(None));
        let mut reports = Vec::new();
        let message = fetch_reporting(&server.url, dir.path(), &mut |progress| {
            assert_eq!((progress.file, progress.total), ("fox.txt", Some(43)));
            reports.push(progress.done);
        });
        assert_eq!(message, None);
        assert_eq!(server.ranges(), [None]);
        assert_eq!((reports.first(), reports.last()), (Some(&0), Some(&43)));
    }

    #[test]
    fn a_file_that_is_there_is_not_asked_for() {
        let dir = folder(None);
        fs::write(dir.path().join("fox.txt"), BODY).unwrap();
        assert_eq!(fetch("http://127.0.0.1:1/", dir.path()), None);
    }

    #[test]
    fn an_interrupted_download_is_resumed() {
        // The first connection ends after 10 of 43 bytes.
        let cut = answer("200 OK", BODY.len(), &BODY[..10]);
        let (server, dir) = (Server::start(vec![cut, from(10)]), folder(None));
        let message = fetch(&server.url, dir.path()).unwrap();
        assert!(
            message.contains("the connection broke after 10 of 43 bytes"),
            "{message}"
        );
        assert_eq!(fetch(&server.url, dir.path()), None);
        assert_eq!(server.ranges(), [None, Some("bytes=10-".into())]);
    }

    #[test]
    fn a_server_without_ranges_sends_the_file_anew() {
        let (server, dir) = (Server::start(vec![whole()]), folder(Some(b"The")));
        assert_eq!(fetch(&server.url, dir.path()), None);
        assert_eq!(server.ranges(), [Some("bytes=3-".into())]);
    }

    #[test]
    fn a_complete_part_is_kept() {
        let refusal = answer("416 Range Not Satisfiable", 0, b"");
        let (server, dir) = (Server::start(vec![refusal]), folder(Some(BODY)));
        assert_eq!(fetch(&server.url, dir.path()), None);
        assert_eq!(server.ranges(), [Some("bytes=43-".into())]);
    }

    #[test]
    fn a_part_of_another_file_is_thrown_away() {
        let (server, dir) = (Server::start(vec![from(3), whole()]), folder(Some(b"Any")));
        assert_eq!(fetch(&server.url, dir.path()), None);
        assert_eq!(server.ranges(), [Some("bytes=3-".into()), None]);
    }

    #[test]
    fn a_wrong_checksum_starts_the_file_anew() {
        let other = answer("200 OK", 5, b"Hello");
        let (server, dir) = (Server::start(vec![other, whole()]), folder(None));
        // MD5("Hello"), by md5sum.
        let why = format!("its MD5 checksum is 8b1a9953c4611296a827abf8c47804d7, expected {MD5}");
        assert_eq!(
            fetch(&server.url, dir.path()),
            failed(&server.url, dir.path(), &why)
        );
        assert_eq!(fetch(&server.url, dir.path()), None);
        assert_eq!(server.ranges(), [None, None]);
    }

    #[test]
    fn another_range_than_asked_for_is_refused() {
        let (server, dir) = (Server::start(vec![from(5)]), folder(Some(b"The")));
        let why = "the server sent another range";
        assert_eq!(
            fetch(&server.url, dir.path()),
            failed(&server.url, dir.path(), why)
        );
        assert_eq!(fs::read(dir.path().join("fox.txt.part")).unwrap(), b"The");
    }

    #[test]
    fn a_file_that_the_server_does_not_have() {
        let refusal = answer("404 Not Found", 4, b"gone");
        let (server, dir) = (Server::start(vec![refusal]), folder(None));
        let why = "the server answers 404 Not Found";
        assert_eq!(
            fetch(&server.url, dir.path()),
            failed(&server.url, dir.path(), why)
        );
    }

    #[test]
    fn a_server_that_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let dir = folder(None);
        let message = fetch(&url, dir.path()).unwrap();
        assert!(
            message.starts_with(&format!("cannot download {url}fox.txt: ")),
            "{message}"
        );
        assert!(message.to_lowercase().contains("refused"), "{message}");
        assert!(message.ends_with("by hand, or try again") && !message.contains('\n'));
    }

    #[test]
    fn two_downloads_of_one_file_do_not_mix() {
        let dir = folder(Some(b"The"));
        let part = File::open(dir.path().join("fox.txt.part")).unwrap();
        part.lock().unwrap();
        let why = "another download of it is going on";
        let url = "http://127.0.0.1:1/";
        assert_eq!(fetch(url, dir.path()), failed(url, dir.path(), why));
    }
}
