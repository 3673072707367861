//! A relay between two nodes, which cuts what goes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Every connection goes to the one place that it relays to.
pub struct Relay {
    pub place: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Both ends of what goes through now.
    open: Mutex<Vec<TcpStream>>,
    /// Bytes, both ways together, after which a connection is cut; 0: never.
    cut_after: AtomicUsize,
    cuts: AtomicUsize,
    stops: AtomicBool,
}

impl Relay {
    pub fn to(target: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let (shared, target) = (shared.clone(), target.to_owned());
            move || {
                let mut pumps = Vec::new();
                for stream in listener.incoming() {
                    if shared.stops.load(SeqCst) {
                        break;
                    }
                    pumps.extend(shared.join(stream.unwrap(), &target));
                }
                shared.cut();
                pumps.into_iter().for_each(|pump| pump.join().unwrap());
            }
        });
        Relay {
            place,
            shared,
            thread: Some(thread),
        }
    }

    /// Connections are cut when so many bytes went through; 0: they are not.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.cut_after.store(bytes, SeqCst);
    }

    /// How often one was.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(SeqCst)
    }

    /// Cuts what goes through now.
    pub fn cut(&self) {
        self.shared.cut();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stops.store(true, SeqCst);
        let _ = TcpStream::connect(&self.place);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Two threads that pump; none if nobody listens at the target.
    fn join(self: &Arc<Self>, near: TcpStream, target: &str) -> Vec<JoinHandle<()>> {
        let Ok(far) = TcpStream::connect(target) else {
            return Vec::new();
        };
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
            self.open.lock().unwrap().push(stream.try_clone().unwrap());
        }
        let through = Arc::new(AtomicUsize::new(0));
        let ways = [
            (near.try_clone().unwrap(), far.try_clone().unwrap()),
            (far, near),
        ];
        let pumps = ways.into_iter().map(|(from, to)| {
            let (shared, through) = (self.clone(), through.clone());
            std::thread::spawn(move || shared.pump(from, to, &through))
        });
        pumps.collect()
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, through: &AtomicUsize) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let before = through.fetch_add(count, SeqCst);
            let most = self.cut_after.load(SeqCst);
            // In the middle of what was read, that is of a frame.
            let count = match most {
                0 => count,
                _ => count.min(most.saturating_sub(before)),
            };
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
            if most != 0 && before + count >= most {
                self.cuts.fetch_add(1, SeqCst);
                break;
            }
        }
        for stream in [&from, &to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
