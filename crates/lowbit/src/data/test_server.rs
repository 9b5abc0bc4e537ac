use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ureq::Agent;

/// A server on this machine that gives each connection the next of its answers, then stops.
pub(super) struct Server {
    /// Its address, with a slash at the end.
    pub(super) url: String,
    /// Gives the `Range` header of each request.
    thread: JoinHandle<Vec<Option<String>>>,
}

impl Server {
    pub(super) fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serve = move || {
            answers
                .iter()
                .map(|answer| give(&listener, answer))
                .collect()
        };
        Self {
            url,
            thread: thread::spawn(serve),
        }
    }

    /// What was asked for; every answer must have been called for.
    pub(super) fn ranges(self) -> Vec<Option<String>> {
        self.thread.join().unwrap()
    }
}

fn give(listener: &TcpListener, answer: &[u8]) -> Option<String> {
    let mut stream = accept(listener);
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut range = None;
    for line in lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
    {
        let line = line.to_ascii_lowercase();
        range = range.or(line.strip_prefix("range: ").map(String::from));
    }
    stream.write_all(answer).unwrap();
    range
}

fn accept(listener: &TcpListener) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            return stream;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("nobody connected");
}

/// A whole answer, with a body that may be shorter than the length it states.
pub(super) fn answer(head: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A client for this server: a proxy in the environment would not reach it.
pub(super) fn agent() -> Agent {
    Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .build()
        .new_agent()
}
