//! What the loads are tried on, and how they are run.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

/// Serves each connection on a thread of its own, for as long as the test runs.
pub fn serve(session: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (session, stream) = (session.clone(), stream.unwrap());
            thread::spawn(move || session(stream));
        }
    });
    address
}

pub fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

pub fn read_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut frame = vec![0; 4 + u32::from_be_bytes(header) as usize];
    frame[..4].copy_from_slice(&header);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

pub fn bots(arguments: &[&str], to: SocketAddr) -> Output {
    bots_to(arguments, &to.to_string())
}

pub fn bots_to(arguments: &[&str], to: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(arguments)
        .args(["--to", to])
        .stdin(Stdio::piped())
        .output()
        .unwrap()
}

/// The last line of stdout, which is JSON.
pub fn report(output: &Output) -> Value {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{err}");
    let last = out
        .lines()
        .last()
        .unwrap_or_else(|| panic!("nothing was printed: {err}"));
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

/// A `photinus-bots` that serves, where `url` says.
pub struct Serving {
    pub process: Child,
    pub url: String,
}

impl Serving {
    pub fn start(arguments: &[&str]) -> Serving {
        let mut process = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.next().unwrap().unwrap();
        let url = ready.strip_prefix("ready ").unwrap().to_owned();
        Serving { process, url }
    }

    /// With a certificate of its own in a folder of this name.
    pub fn start_tls(arguments: &[&str], name: &str) -> Serving {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let certificate = file("chain.pem", made.cert.pem());
        let key = file("key.pem", made.signing_key.serialize_pem());
        let shown = ["--certificate", &certificate, "--key", &key];
        Serving::start(&[arguments, &shown].concat())
    }
}

impl Drop for Serving {
    /// The end of its stdin ends it.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

pub fn read_short_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut frame = vec![0; 2 + usize::from(head[1])];
    frame[..2].copy_from_slice(&head);
    stream.read_exact(&mut frame[2..]).ok()?;
    Some(frame)
}

/// A file of this name with some.
pub fn payloads(name: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lines: Vec<String> = (0..5)
        .map(|number| format!("{{\"number\":{number},\"text\":\"{}\"}}", "ab".repeat(200)))
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}
