//! Each load against a small blocking server, through the command line.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Serves each connection on a thread of its own, for as long as the test runs.
fn serve(session: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
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

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn read_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut frame = vec![0; 4 + u32::from_be_bytes(header) as usize];
    frame[..4].copy_from_slice(&header);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn bots(arguments: &[&str], to: SocketAddr) -> Output {
    bots_to(arguments, &to.to_string())
}

fn bots_to(arguments: &[&str], to: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(arguments)
        .args(["--to", to])
        .stdin(Stdio::piped())
        .output()
        .unwrap()
}

/// The last line of stdout, which is JSON.
fn report(output: &Output) -> Value {
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

#[test]
fn a_closed_loop_counts_echoes_and_starves_nobody() {
    let arguments = [
        "echo",
        "--connections",
        "8",
        "--depth",
        "4",
        "--seconds",
        "0.2",
    ];
    let report = report(&bots(&arguments, serve(echo)));
    assert_eq!(report["errors"], 0, "{report}");
    assert!(report["echoes"].as_u64().unwrap() > 8, "{report}");
    assert!(report["least_echoes"].as_u64().unwrap() > 0, "{report}");
    assert!(
        report["p50_us"].as_f64() <= report["p99_us"].as_f64(),
        "{report}"
    );
    assert!(
        report["p99_us"].as_f64() <= report["max_us"].as_f64(),
        "{report}"
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let arguments = [
        "echo",
        "--connections",
        "5",
        "--rate",
        "2000",
        "--seconds",
        "0.5",
    ];
    let report = report(&bots(&arguments, serve(echo)));
    assert_eq!(report["errors"], 0, "{report}");
    let rate = report["echoes_per_s"].as_f64().unwrap();
    assert!((1_000.0..3_000.0).contains(&rate), "{report}");
}

#[test]
fn an_open_loop_charges_a_pause_to_every_packet_that_was_due() {
    let paused = |mut stream: TcpStream| {
        let mut count = 0;
        while let Some(frame) = read_frame(&mut stream) {
            count += 1;
            if count == 400 {
                thread::sleep(Duration::from_millis(200));
            }
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    };
    let arguments = [
        "echo",
        "--rate",
        "1000",
        "--seconds",
        "0.8",
        "--warmup",
        "0.1",
    ];
    let report = report(&bots(&arguments, serve(paused)));
    assert_eq!(report["errors"], 0, "{report}");
    // A quarter of the window's packets was due in the pause; a loop that waits for the answer
    // before it sends again would see one slow packet in hundreds.
    assert!(report["p99_us"].as_f64().unwrap() > 100_000.0, "{report}");
}

#[test]
fn an_answer_that_differs_is_an_error() {
    let damaging = |mut stream: TcpStream| {
        while let Some(mut frame) = read_frame(&mut stream) {
            frame[40] ^= 1;
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    };
    let output = bots(&["echo", "--seconds", "0.2"], serve(damaging));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connection 1: answer 0 differs"), "{error}");
}

#[test]
fn wrong_use_and_a_missing_server_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let missing = bots(&["echo"], nobody);
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("connection 1 of 1"), "{error}");
    assert_eq!(
        bots(&["echo", "--connections", "0"], nobody).status.code(),
        Some(2)
    );
}

/// A `photinus-bots` that serves, where `url` says.
struct Serving {
    process: Child,
    url: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Serving {
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
    fn start_tls(arguments: &[&str], name: &str) -> Serving {
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

#[test]
fn echoes_go_through_tls() {
    let server = Serving::start_tls(&["bare"], "echoes");
    for pace in [&["--depth", "16"][..], &["--rate", "2000"]] {
        let arguments = [&["echo", "--connections", "7", "--seconds", "0.2"], pace].concat();
        let report = report(&bots_to(&arguments, &server.url));
        assert_eq!(report["errors"], 0, "{report}");
        assert!(report["least_echoes"].as_u64().unwrap() > 0, "{report}");
    }
}

#[test]
fn handshakes_are_counted_beside_echoes() {
    let server = Serving::start_tls(&["bare"], "storm");
    let arguments = "echo --connections 3 --rate 500 --seconds 0.5 --storm 4";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report = report(&bots_to(&arguments, &server.url));
    assert_eq!(report["errors"], 0, "{report}");
    assert_eq!(report["handshakes_failed"], 0, "{report}");
    assert!(report["handshakes"].as_u64().unwrap() > 4, "{report}");
    assert!(report["echoes"].as_u64().unwrap() > 100, "{report}");
}

#[test]
fn a_server_without_tls_fails_its_handshakes() {
    // It ends by itself, so that the load need not wait for a handshake that never comes.
    let plain = serve(|mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
    });
    let output = bots_to(&["echo"], &format!("tls://{plain}"));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connection 1"), "{error}");
}

/// What a server of the photinus protocol keeps of one session.
#[derive(Default)]
struct Kept {
    /// Whether a connection of it has not been read to its end.
    open: bool,
    received: u8,
    /// Counted frames that were sent, all of them.
    sent: Vec<Vec<u8>>,
}

/// Serves `say`, and pushes a number with every answer. What was sent is sent again to those who resume,
/// but for the first `forgotten` frames of that.
fn resumable(mut stream: TcpStream, sessions: &Mutex<HashMap<u8, Kept>>, forgotten: usize) {
    let Some(hello) = read_short_frame(&mut stream) else {
        return;
    };
    // Tags 1 and 2 take 20 bytes with the frame's head; then comes, if at all, the token and a count.
    let (id, had) = match hello.get(20..) {
        Some([5, _, id, .., had]) => (*id, Some(usize::from(*had))),
        _ => {
            // Taken at once: whoever comes beside gets another.
            let mut sessions = sessions.lock().unwrap();
            let id = sessions.len() as u8;
            sessions.insert(id, Kept::default());
            (id, None)
        }
    };
    let mut welcome = vec![2, 0, 2, 1, u8::from(had.is_some()), 10, 20];
    welcome.extend_from_slice(&[id; 20]);
    let mut again = Vec::new();
    // What the client said on its old connection comes first.
    while had.is_some() && sessions.lock().unwrap()[&id].open {
        thread::sleep(Duration::from_millis(1));
    }
    {
        let mut sessions = sessions.lock().unwrap();
        let kept = sessions.get_mut(&id).unwrap();
        kept.open = true;
        welcome.extend_from_slice(&[12, 1, kept.received]);
        if let Some(had) = had {
            again = kept.sent[had..]
                .iter()
                .skip(forgotten)
                .flatten()
                .copied()
                .collect();
        }
    }
    welcome[1] = (welcome.len() - 2) as u8;
    welcome.extend_from_slice(&[&b"\x05\x04tick"[..], &again].concat());
    let _ = stream.write_all(&welcome);
    while let Some(frame) = read_short_frame(&mut stream) {
        if frame[0] != 7 {
            continue;
        }
        let mut sessions = sessions.lock().unwrap();
        let kept = sessions.get_mut(&id).unwrap();
        kept.received += 1;
        let number = [0, 0, 0, kept.received - 1];
        let answer = [&[8, 5, frame[2]][..], &frame[4..]].concat();
        let push = [&[6, 5, 0][..], &number].concat();
        kept.sent.extend([answer.clone(), push.clone()]);
        // Whoever is not there any more gets it when they are back.
        let _ = stream.write_all(&[answer, push].concat());
    }
    sessions.lock().unwrap().get_mut(&id).unwrap().open = false;
}

fn read_short_frame(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut frame = vec![0; 2 + usize::from(head[1])];
    frame[..2].copy_from_slice(&head);
    stream.read_exact(&mut frame[2..]).ok()?;
    Some(frame)
}

#[test]
fn players_who_were_cut_resume_and_miss_what_was_lost() {
    for (forgotten, expected) in [(0, 0), (1, 6)] {
        let sessions: Arc<Mutex<HashMap<u8, Kept>>> = Arc::default();
        let to = serve(move |stream| resumable(stream, &sessions, forgotten));
        let arguments = "resume --connections 6 --before 0.2 --after 0.4 --pace 10";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let report = report(&bots(&arguments, to));
        assert_eq!(report["lost"], expected, "{report}");
        assert_eq!(report["doubled"], 0, "{report}");
        assert!(report["answers"].as_u64().unwrap() >= 12, "{report}");
        assert!(report["max_us"].as_f64().unwrap() > 0.0, "{report}");
    }
}

/// Gives each message back by itself, and tells how many there were in each read.
fn websocket_echo(mut stream: TcpStream, messages: &Mutex<Vec<usize>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return;
        }
        request.push(byte[0]);
    }
    assert!(request.starts_with(b"GET /play HTTP/1.1\r\n"));
    let answer =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(answer.as_bytes()).unwrap();
    let mut head = [0; 2];
    while stream.read_exact(&mut head).is_ok() {
        assert_eq!(head[0], 0x82, "a whole binary message");
        assert_eq!(head[1] & 0x80, 0x80, "masked");
        let mut length = usize::from(head[1] & 0x7f);
        let mut answer = vec![0x82];
        if length == 126 {
            let mut long = [0; 2];
            stream.read_exact(&mut long).unwrap();
            length = usize::from(u16::from_be_bytes(long));
            answer.extend_from_slice(&[&[126][..], &long].concat());
        } else {
            answer.push(length as u8);
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).unwrap();
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        (0..length).for_each(|at| payload[at] ^= mask[at % 4]);
        messages.lock().unwrap().push(length);
        answer.extend_from_slice(&payload);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn echoes_go_through_websocket_each_in_a_message_or_several_in_one() {
    for (more, expected) in [(&[][..], 64), (&["--one-message"], 4 * 64)] {
        let messages: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = Arc::clone(&messages);
        let address = serve(move |stream| websocket_echo(stream, &seen));
        let arguments = [&["echo", "--depth", "4", "--seconds", "0.2"], more].concat();
        let report = report(&bots_to(&arguments, &format!("ws://{address}/play")));
        assert_eq!(report["errors"], 0, "{report}");
        assert!(report["echoes"].as_u64().unwrap() > 4, "{report}");
        let messages = messages.lock().unwrap();
        assert_eq!(messages[0], expected);
        if more.is_empty() {
            assert!(messages.iter().all(|length| *length == expected));
        }
    }
}

#[test]
fn broadcasts_are_counted_to_the_last_member() {
    let members: Arc<Mutex<Vec<(SocketAddr, TcpStream)>>> = Arc::default();
    let broadcasting = move |mut stream: TcpStream| {
        let address = stream.peer_addr().unwrap();
        members
            .lock()
            .unwrap()
            .push((address, stream.try_clone().unwrap()));
        while let Some(frame) = read_frame(&mut stream) {
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, member) in members.lock().unwrap().iter_mut() {
                    if *other != address && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let arguments = [
        "receive",
        "--connections",
        "20",
        "--broadcasts",
        "3",
        "--seconds",
        "0.2",
    ];
    let report = report(&bots(&arguments, serve(broadcasting)));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 60, "{report}");
}

#[test]
fn nobody_waits_for_slow_readers() {
    // (whether it has greeted, its stream): slow readers say nothing, and this server sends them nothing.
    let members: Arc<Mutex<Vec<(bool, TcpStream)>>> = Arc::default();
    let seen = Arc::clone(&members);
    let broadcasting = move |mut stream: TcpStream| {
        let mine = {
            let mut members = members.lock().unwrap();
            members.push((false, stream.try_clone().unwrap()));
            members.len() - 1
        };
        while let Some(frame) = read_frame(&mut stream) {
            let mut members = members.lock().unwrap();
            members[mine].0 = true;
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, (greeted, member)) in members.iter_mut().enumerate() {
                    if *greeted && other != mine && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let arguments = "receive --connections 5 --slow 2 --seconds 0.2";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report = report(&bots(&arguments, serve(broadcasting)));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 5, "{report}");
    let members = seen.lock().unwrap();
    assert_eq!(members.iter().filter(|(greeted, _)| !greeted).count(), 2);
}

#[test]
fn idle_sessions_hold_burst_and_end_with_stdin() {
    let to = serve(echo).to_string();
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["idle", "--connections", "30", "--to", &to])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bots.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready 30");
    let mut stdin = bots.stdin.take().unwrap();
    for _ in 0..2 {
        stdin.write_all(b"burst\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "burst done");
    }
    drop(stdin);
    assert!(bots.wait().unwrap().success());
}

/// A world that answers every request, and pushes to its sender what a notify said.
fn world(mut stream: TcpStream) {
    let mut send = {
        let mut out = stream.try_clone().unwrap();
        move |kind: u8, body: &[u8]| {
            let mut package = (body.len() as u32).to_be_bytes();
            package[0] = kind;
            out.write_all(&[&package, body].concat()).is_ok()
        }
    };
    let mut header = [0; 4];
    while stream.read_exact(&mut header).is_ok() {
        let kind = std::mem::take(&mut header[0]);
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let going_on = match (kind, body.first()) {
            (1, _) => send(1, br#"{"code":200,"sys":{"heartbeat":1}}"#),
            (2, _) => send(3, b""),
            (4, Some(0)) => send(4, &[&[4, body[1]], &b"{}"[..]].concat()),
            (4, Some(2)) => send(4, b"\x06\x06walked{}"),
            _ => true,
        };
        if !going_on {
            return;
        }
    }
}

#[test]
fn players_log_in_walk_and_hear() {
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["game", "--count", "10", "--seconds", "2.5"])
        .args(["--to", &format!("tcp://{}?protocol=pomelo", serve(world))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open: its end would end the load.
    let stdin = bots.stdin.take();
    let output = bots.wait_with_output().unwrap();
    drop(stdin);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        lines.lines().count() >= 2,
        "one a second, and the total: {lines}"
    );
    let total = report(&output);
    assert_eq!(total["total"], true, "{lines}");
    assert_eq!(total["connected"], 10, "{lines}");
    assert_eq!(total["errors"], 0, "{lines}");
    assert!(total["answers"].as_u64().unwrap() >= 10, "{lines}");
    // Four steps a second each, from a random first moment on.
    assert!(total["pushes"].as_u64().unwrap() >= 20, "{lines}");
}

/// Answers every request with its own payload, whatever that is; `mark` says what the answers are said to be.
fn answer(mut stream: TcpStream, mark: Option<u8>) {
    let mut header = [0; 4];
    while stream.read_exact(&mut header).is_ok() {
        let kind = std::mem::take(&mut header[0]);
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let answer = match kind {
            1 => br#"{"code":200,"sys":{}}"#.to_vec(),
            4 => {
                let payload = &body[3 + usize::from(body[2])..];
                [&[mark.unwrap_or(body[0] | 4), body[1]], payload].concat()
            }
            _ => continue,
        };
        let mut package = (answer.len() as u32).to_be_bytes();
        package[0] = kind;
        if stream.write_all(&[&package, &answer[..]].concat()).is_err() {
            return;
        }
    }
}

/// A file of this name with some.
fn payloads(name: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lines: Vec<String> = (0..5)
        .map(|number| format!("{{\"number\":{number},\"text\":\"{}\"}}", "ab".repeat(200)))
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_is_asked_is_answered_compressed_or_not_by_count_or_by_rate() {
    let payloads = payloads("asked.jsonl");
    for more in ["--depth 8", "--depth 8 --compress", "--rate 300 --compress"] {
        let arguments = "ask --protocol pomelo --connections 3 --seconds 0.3 --payloads";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.push(&payloads);
        arguments.extend(more.split(' '));
        let report = report(&bots(&arguments, serve(|stream| answer(stream, None))));
        assert!(report["echoes"].as_u64().unwrap() > 30, "{report}");
        let compressed = report["sent_bytes"].as_u64().unwrap() < 100;
        assert_eq!(compressed, more.contains("--compress"), "{report}");
    }
}

#[test]
fn an_answer_that_is_not_as_agreed_on_is_an_error() {
    let payloads = payloads("wrong.jsonl");
    for (mark, expected) in [(0x04, "not agreed on"), (0x24, "is an error")] {
        let arguments = [
            "ask",
            "--protocol",
            "pomelo",
            "--compress",
            "--payloads",
            &payloads,
        ];
        let to = serve(move |stream| answer(stream, Some(mark)));
        let output = bots(&arguments, to);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{error}");
    }
}

/// What was said in the windows of a load of users.
fn windows(output: &Output) -> Vec<Value> {
    report(output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let (windows, begins): (Vec<_>, Vec<_>) = lines
        .map(Result::unwrap)
        .partition(|line| line["begins"].is_null());
    assert_eq!(windows.len(), begins.len(), "each is announced: {text}");
    windows
}

#[test]
fn users_come_play_and_go_through_a_proxy_to_their_world() {
    let answers = payloads("answers.jsonl");
    for (name, encrypted) in [("proxy-plain", false), ("proxy-tls", true)] {
        let world = Serving::start(&["world", "--answers", &answers]);
        let arguments = ["bare-forward", "--compress", "--upstream", &world.url];
        let proxy = match encrypted {
            true => Serving::start_tls(&arguments, name),
            false => Serving::start(&arguments),
        };
        // So many that in each second somebody says something, whose room has fifty.
        let arguments = "users --protocol length4 --zlib payload --ramp 0,90,20 --seconds 1";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let windows = windows(&bots_to(&arguments, &proxy.url));
        let count = |window: usize, name: &str| windows[window][name].as_u64().unwrap();
        assert_eq!(count(0, "bundles") + count(0, "sent"), 0, "{windows:?}");
        assert!(windows[0]["p99_us"].is_null(), "{windows:?}");
        for (window, users) in [(1, 90), (2, 20)] {
            assert_eq!(count(window, "users"), users, "{windows:?}");
            assert_eq!(count(window, "unanswered"), 0, "{windows:?}");
            assert_eq!(count(window, "missed"), 0, "{windows:?}");
            assert!(count(window, "answers") > 0, "{windows:?}");
            assert!(windows[window]["p50_us"].as_f64().unwrap() > 0.0);
            // Ten a second each; a machine under load makes a window longer, and not what is in it more.
            let seconds = windows[window]["seconds"].as_f64().unwrap();
            let expected = users as f64 * 10.0 * seconds;
            let share = count(window, "bundles") as f64 / expected;
            assert!((0.5..1.5).contains(&share), "{share}: {windows:?}");
        }
        assert!(count(1, "said") >= 40, "{windows:?}");
    }
}

#[test]
fn a_world_that_does_not_compress_is_told_from_one_that_does() {
    let world = Serving::start(&["world", "--answers", &payloads("plain-answers.jsonl")]);
    let proxy = Serving::start(&["bare-forward", "--upstream", &world.url]);
    let arguments = "users --protocol length4 --ramp 20 --seconds 0.5 --zlib";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let plain = windows(&bots_to(&[&arguments[..], &["none"]].concat(), &proxy.url));
    assert!(plain[0]["answers"].as_u64().unwrap() > 0, "{plain:?}");
    let output = bots_to(&[&arguments[..], &["payload"]].concat(), &proxy.url);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("not agreed on"), "{error}");
}

/// Nanoseconds of the clock that all processes share.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A world that speaks photinus: a bundle for each move, an answer, off by so much, for each question.
fn photinus_world(mut stream: TcpStream, off: u32) {
    let send = |stream: &mut TcpStream, kind: u8, body: &[u8]| {
        let length = body.len() as u16;
        let head = [kind, length as u8 | 0x80, (length >> 7) as u8];
        // The shorter form where that is due.
        let head = if length < 128 {
            vec![kind, length as u8]
        } else {
            head.to_vec()
        };
        stream.write_all(&[&head, body].concat()).is_ok()
    };
    let mut bundles = 0_u32;
    while let Some(frame) = read_short_frame(&mut stream) {
        let going_on = match frame[0] {
            1 => send(&mut stream, 2, &[2, 1, 0]) && send(&mut stream, 5, b"bundle"),
            0x26 => {
                assert_eq!(frame.len(), 3 + 24, "a move on route 0");
                let bundle = [
                    &[0][..],
                    &monotonic().to_be_bytes(),
                    &bundles.to_be_bytes(),
                    &[7; 188],
                ];
                bundles += 1;
                send(&mut stream, 6, &bundle.concat())
            }
            7 => {
                let (id, body) = (frame[2], &frame[4..]);
                let sequence = u32::from_be_bytes(*body[8..].first_chunk().unwrap()) + off;
                let now = monotonic();
                let json = format!(
                    r#"{{"seq":{sequence},"in":{now},"out":{now},"of":"{}"}}"#,
                    "x".repeat(100)
                );
                send(&mut stream, 8, &[&[id], json.as_bytes()].concat())
            }
            _ => true,
        };
        if !going_on {
            return;
        }
    }
}

#[test]
fn users_speak_photinus() {
    let arguments = "users --protocol photinus --ramp 8,4 --seconds 1";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let to = serve(|stream| photinus_world(stream, 0));
    let found = windows(&bots(&arguments, to));
    for (window, users) in found.iter().zip([8, 4]) {
        assert_eq!(window["users"], users, "{window}");
        assert!(window["answers"].as_u64().unwrap() > 0, "{window}");
        assert!(window["bundles"].as_u64().unwrap() > users, "{window}");
        assert_eq!(window["missed"], 0, "{window}");
    }
    let output = bots(&arguments, serve(|stream| photinus_world(stream, 1)));
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("answer 1 came when 0 was due"), "{error}");
}

#[test]
fn broadcasts_reach_members_on_several_servers() {
    // Two doors to one room.
    let members: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let broadcasting = move |mut stream: TcpStream| {
        let mine = {
            let mut members = members.lock().unwrap();
            members.push(stream.try_clone().unwrap());
            members.len() - 1
        };
        while let Some(frame) = read_frame(&mut stream) {
            if frame[4] == 0 && stream.write_all(&frame).is_err() {
                return;
            }
            for _ in 0..frame[4] {
                for (other, member) in members.lock().unwrap().iter_mut().enumerate() {
                    if other != mine && member.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let (one, other) = (serve(broadcasting.clone()), serve(broadcasting));
    let own = std::process::id().to_string();
    let other = other.to_string();
    let arguments = ["receive", "--connections", "10", "--seconds", "0.2"];
    let arguments = [&arguments[..], &["--also-to", &other, "--beside", &own]].concat();
    let report = report(&bots(&arguments, one));
    let bursts = report["bursts"].as_u64().unwrap();
    assert!(bursts > 0, "{report}");
    assert_eq!(report["deliveries"], bursts * 10, "{report}");
    assert!(
        report["beside"][0]["cpu_us"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}

#[test]
fn players_end_with_stdin() {
    let output = bots(&["game", "--count", "3"], serve(world));
    assert_eq!(report(&output)["total"], true);
}

#[test]
fn a_termination_signal_ends_players_cleanly() {
    use rustix::process::{kill_process, Pid, Signal};
    let mut bots = Command::new(env!("CARGO_BIN_EXE_photinus-bots"))
        .args(["game", "--count", "3", "--to", &serve(world).to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bots.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    kill_process(Pid::from_child(&bots), Signal::TERM).unwrap();
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"total\":true"), "{last}");
    assert!(bots.wait().unwrap().success());
}
