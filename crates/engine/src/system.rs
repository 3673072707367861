//! Calls to the operating system. Nothing else in the engine uses `libc`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Once;

/// Nanoseconds on the system's monotonic clock.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the call to fill; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A word to a sleeping poller: a descriptor that becomes readable, and stays so until cleared.
/// An eventfd on Linux, a pipe elsewhere.
pub struct Event {
    read: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

impl Event {
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Event> {
        // SAFETY: takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made by the kernel for us and has no other owner.
        let read = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Event { read })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Event> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors that pipe writes.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        for end in ends {
            // SAFETY: plain flags on descriptors just made.
            unsafe {
                libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK);
                libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        // SAFETY: both were just made by the kernel for us and have no other owner.
        unsafe {
            Ok(Event {
                read: OwnedFd::from_raw_fd(ends[0]),
                write: OwnedFd::from_raw_fd(ends[1]),
            })
        }
    }

    /// Makes the descriptor readable. A full counter or pipe is readable already.
    pub fn notify(&self) {
        #[cfg(target_os = "linux")]
        let fd = self.read.as_raw_fd();
        #[cfg(not(target_os = "linux"))]
        let fd = self.write.as_raw_fd();
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from a live array to a descriptor we own.
        unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
    }

    pub fn clear(&self) {
        let mut word = [0u8; 8];
        // SAFETY: reads at most eight bytes into a live array.
        while unsafe { libc::read(self.read.as_raw_fd(), word.as_mut_ptr().cast(), 8) } == 8 {
            if cfg!(target_os = "linux") {
                break; // one read empties an eventfd
            }
        }
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.read.as_raw_fd()
    }
}

/// What a thread with a loop of its own sleeps in: until an [`Event`] is given, another poller's
/// descriptor has something to tell, or time is up.
pub struct Sleeper {
    number: u64,
    event: RawFd,
    other: RawFd,
    #[cfg(target_os = "linux")]
    epoll: OwnedFd,
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Sleeper {
    /// Both descriptors must outlive the sleeper.
    #[cfg(target_os = "linux")]
    pub fn new(event: RawFd, other: RawFd) -> io::Result<Sleeper> {
        // SAFETY: takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made by the kernel for us and has no other owner.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        // Edge-triggered: the event is never read, each word to it is an edge of its own.
        for (fd, events) in [
            (event, libc::EPOLLIN | libc::EPOLLET),
            (other, libc::EPOLLIN),
        ] {
            let mut entry = libc::epoll_event {
                events: events as u32,
                u64: fd as u64,
            };
            // SAFETY: `entry` is valid for the call.
            if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut entry) }
                < 0
            {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Sleeper {
            number: next_number(),
            event,
            other,
            epoll,
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new(event: RawFd, other: RawFd) -> io::Result<Sleeper> {
        Ok(Sleeper {
            number: next_number(),
            event,
            other,
        })
    }

    /// No other sleeper of this process has the same.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The event and the other poller.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.event, self.other]
    }

    /// `true`: the other descriptor has something to tell, or a signal came.
    /// `timeout_ms`: -1 is for ever.
    #[cfg(target_os = "linux")]
    pub fn sleep(&self, timeout_ms: i32) -> bool {
        let mut entries = [libc::epoll_event { events: 0, u64: 0 }; 2];
        // SAFETY: room for as many entries as it is told of.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), entries.as_mut_ptr(), 2, timeout_ms)
        };
        debug_assert_ne!(self.event, self.other);
        let Ok(count) = usize::try_from(count) else {
            return true;
        };
        let mut told = entries.iter().take(count);
        told.any(|entry| entry.u64 == self.other as u64)
    }

    #[cfg(not(target_os = "linux"))]
    pub fn sleep(&self, timeout_ms: i32) -> bool {
        let entry = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut entries = [entry(self.event), entry(self.other)];
        // SAFETY: room for as many entries as it is told of.
        match unsafe { libc::poll(entries.as_mut_ptr(), 2, timeout_ms) } {
            0 => return false,
            ..=-1 => return true,
            _ => {}
        }
        if entries[0].revents != 0 {
            let mut words = [0u8; 512];
            // SAFETY: reads at most its length into a live array, from a non-blocking descriptor.
            unsafe { libc::read(self.event, words.as_mut_ptr().cast(), words.len()) };
        }
        entries[1].revents != 0
    }
}

/// How many connections may wait at this listener to be accepted; the system has its own bound, too.
pub fn set_backlog(listener: &impl AsRawFd, connections: i32) -> io::Result<()> {
    // SAFETY: takes no pointers. On a socket that listens already this changes its backlog only.
    match unsafe { libc::listen(listener.as_raw_fd(), connections) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bounds what this connection's two buffers in the system hold, and how much of it may wait there unsent. Where
/// the system does not take that, it stays as it was: things are slower to overtake then, and not wrong.
pub fn bound_buffers(stream: &impl AsRawFd, bytes: i32, unsent: i32) {
    let set = |level: libc::c_int, name: libc::c_int, value: i32| {
        let size = std::mem::size_of::<i32>() as libc::socklen_t;
        let value = std::ptr::from_ref(&value).cast();
        // SAFETY: the option's value is a live integer of the size that is told.
        unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, value, size) };
    };
    set(libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
    set(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    #[cfg(target_os = "linux")]
    set(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, unsent);
    #[cfg(not(target_os = "linux"))]
    let _ = unsent;
}

/// Raises the soft limit of open files to the hard one, as servers with many connections do.
pub fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for both calls; failure leaves the limit as it was, which is harmless.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// How many files this process may have open.
pub fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Blocks all signals in this thread: they are for the interpreter's main thread.
pub fn block_signals() {
    // SAFETY: the set is filled before it is used, and lives on this stack.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// Asks the scheduler for this slice of time: of two threads that want one core, who has the shorter slice
/// is run soon after it wakes, unless the other one's is nearly over. Linux 6.12 and newer take the wish
/// (`sched_runtime` of an ordinary thread, from 0.1 to 100 ms), others leave things as they are.
pub fn wish_slice(nanoseconds: u64) {
    #[cfg(not(target_os = "linux"))]
    let _ = nanoseconds;
    #[cfg(target_os = "linux")]
    {
        /// The first version of the kernel's `struct sched_attr`.
        #[repr(C)]
        struct Attributes {
            size: u32,
            policy: u32,
            flags: u64,
            nice: i32,
            priority: u32,
            runtime: u64,
            deadline: u64,
            period: u64,
        }
        let attributes = Attributes {
            size: std::mem::size_of::<Attributes>() as u32,
            policy: libc::SCHED_OTHER as u32,
            flags: 0,
            nice: 0,
            priority: 0,
            runtime: nanoseconds,
            deadline: 0,
            period: 0,
        };
        // SAFETY: the kernel reads `size` bytes of a live struct of this layout; thread 0 is the caller.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0) };
    }
}

/// Gives freed memory back to the system. glibc keeps what a burst took at the top of its heaps.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(128 << 10);
    }
}

static FORKS: AtomicU32 = AtomicU32::new(0);

/// How often this process has been forked into being: a child's count differs from its parent's.
#[inline]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// From here on [`forks`] counts.
pub fn watch_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_readable_until_cleared() {
        let event = Event::new().unwrap();
        let readable = || {
            let mut entry = libc::pollfd {
                fd: event.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid entry, no waiting.
            unsafe { libc::poll(&mut entry, 1, 0) == 1 }
        };
        assert!(!readable());
        event.notify();
        event.notify();
        assert!(readable());
        event.clear();
        assert!(!readable());
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(monotonic_ns() >= before);
    }
}
