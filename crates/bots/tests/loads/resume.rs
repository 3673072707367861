//! `photinus-bots resume`: players who are cut and come back.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::server::{bots, read_short_frame, report, serve};

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
