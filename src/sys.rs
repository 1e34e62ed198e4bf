//! System calls that no safe library offers, each with the reason why it is sound here.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitOptions, setpgid, waitpid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which standard descriptors were closed when this process was started. Written by [`record_start`] only.
static CLOSED_AT_START: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Whether `SIGPIPE` was ignored when this process was started. Written by [`record_start`] only.
static SIGPIPE_IGNORED_AT_START: AtomicBool = AtomicBool::new(false);

/// Before `main` the standard library opens `/dev/null` for standard descriptors that are closed, and ignores
/// `SIGPIPE`. What they were before is seen only by what runs before it: the functions that this section lists
/// (System V ABI, "Initialization and Termination Functions").
// SAFETY: the section is a list of pointers to functions, and this is one. They are called once, when the C library is
// there and before any thread is.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD_START: extern "C" fn() = record_start;

/// Nothing of the standard library but atomics: it is not set up yet.
extern "C" fn record_start() {
    for (descriptor, closed) in (0..).zip(&CLOSED_AT_START) {
        // SAFETY: the call only asks whether the descriptor is open.
        closed.store(unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1, Ordering::Relaxed);
    }
    SIGPIPE_IGNORED_AT_START.store(is_ignored(Signal::SIGPIPE), Ordering::Relaxed);
}

/// Does what the standard library does before its own `main`, and what all else here relies on: nothing is opened with the
/// number of a standard descriptor, and a write that nobody reads fails.
pub fn prepare() {
    for descriptor in 0..CLOSED_AT_START.len() {
        // The lowest number that is free is this one.
        // SAFETY: the path ends in a zero, and nothing else is handed over.
        if was_closed(descriptor) && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } == -1 {
            // What is opened next would be taken for standard output or error.
            std::process::abort();
        }
    }
    // SAFETY: no handler is installed.
    _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
}

/// Whether this process was started with the standard descriptor `descriptor`, 0 to 2, closed.
pub fn was_closed(descriptor: usize) -> bool {
    CLOSED_AT_START[descriptor].load(Ordering::Relaxed)
}

/// Whether this process was started with `SIGPIPE` ignored.
pub fn was_sigpipe_ignored() -> bool {
    SIGPIPE_IGNORED_AT_START.load(Ordering::Relaxed)
}

/// Lets `command` have `SIGPIPE` as this process was started with it. The standard library sets it to the default.
pub fn hand_sigpipe_on(command: &mut Command) {
    if was_sigpipe_ignored() {
        // SAFETY: no handler is installed.
        let ignore = || unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop).map_err(io::Error::from);
        // SAFETY: between fork and exec this only calls sigaction(2), which is safe there (signal-safety(7)).
        unsafe { command.pre_exec(ignore) };
    }
}

/// A program that is to be started with everything of this process's own but for what is said here.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Which one, looked for as `execvp(3)` does.
    pub program: &'a CStr,
    /// What it is called, and its arguments.
    pub words: &'a [CString],
    /// Its environment.
    pub environment: &'a [CString],
    /// Whether it leads a process group of its own.
    pub leads_group: bool,
    /// The signals that are blocked in it.
    pub blocked: SigSet,
    /// What it has in the place of these descriptors.
    pub descriptors: Vec<(RawFd, BorrowedFd<'a>)>,
}

/// Bytes of the stack on which `execvpe(3)` puts paths together; it also copies the words of a script that names no
/// interpreter.
const SPAWN_STACK_BYTES: usize = 256 * 1024;

/// Starts a program; gives its process, a child of this one. That calls `first` before anything of the program runs, and
/// even where it cannot be executed.
///
/// `posix_spawn(3)` does the same, but nothing can be done there first.
///
/// # Errors
///
/// When there can be no process, or it cannot execute the program; then it has been waited for.
pub fn spawn(program: &Spawn<'_>, first: &dyn Fn()) -> io::Result<Pid> {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (words, environment) = (pointers(program.words), pointers(program.environment));
    let mut stack = vec![0; SPAWN_STACK_BYTES + size_of_val(&words[..])];
    let failure = AtomicI32::new(0);
    let become_it = || -> Result<(), Errno> {
        if program.leads_group {
            setpgid(None, None)?;
        }
        for (number, descriptor) in &program.descriptors {
            // SAFETY: it replaces a descriptor of the new process alone.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), *number) } == -1 {
                return Err(last_errno());
            }
        }
        first();
        if !was_sigpipe_ignored() {
            // SAFETY: no handler is installed.
            unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(|_| last_errno())?;
        }
        program.blocked.thread_set_mask().map_err(|_| last_errno())?;
        // SAFETY: each is a text that ends in a zero, and each list ends in a null pointer; all of them live on.
        unsafe { libc::execvpe(program.program.as_ptr(), words.as_ptr(), environment.as_ptr()) };
        Err(last_errno())
    };
    let child = Box::new(|| {
        if let Err(errno) = become_it() {
            failure.store(errno.raw_os_error(), Ordering::Relaxed);
        }
        1
    });
    // SAFETY: with CLONE_VFORK this thread sleeps until the child executes something or ends, so that the child is in this
    // memory in the place of this thread, and may do what this thread may. What it changes elsewhere, descriptors and
    // what becomes of signals, is its own. No handler of a signal is installed that it could be interrupted by. The stack is
    // larger than what is called takes.
    let cloned = unsafe {
        nix::sched::clone(child, &mut stack, CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK, Some(libc::SIGCHLD))
    };
    let pid = cloned.ok().and_then(|pid| Pid::from_raw(pid.as_raw())).ok_or_else(last_errno)?;
    match failure.load(Ordering::Relaxed) {
        0 => Ok(pid),
        errno => {
            _ = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Closes every descriptor from `first` on (`close_range(2)`).
///
/// For the start of a program only: whatever still uses one of them finds it closed, or another in its place.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call touches no memory. The caller runs before anything has opened a descriptor that it keeps.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| u32::try_from(*descriptor).is_ok_and(|descriptor| descriptor >= first))
        .collect();
    for descriptor in open {
        // SAFETY: as above. The directory's own descriptor is closed already, closing it again only fails.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Takes over a descriptor that the service manager passed by its number (`sd_listen_fds(3)`).
pub fn take_passed(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call only asks whether the descriptor is open.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, it was opened for this process by its parent, and nothing else here knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets a write past the limit on the size of files fail, instead of ending this process (`setrlimit(2)`).
pub fn ignore_file_size_signal() {
    // SAFETY: no handler is set that could do anything unsafe.
    _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Puts `SIGCHLD` back to its default, in case the parent ignores it: with `SIGCHLD` ignored the kernel throws a
/// child's exit status away (`wait(2)`, NOTES).
pub fn default_sigchld() {
    // SAFETY: no handler is installed, and none that other code relies on is replaced: this runs first thing.
    // It can only fail for a signal that does not exist.
    _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Whether `number` is ignored now (`sigaction(2)`). Before anything has changed that, it is what this process was started
/// with, as by `nohup(1)`.
pub fn is_ignored(number: Signal) -> bool {
    let mut found = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call only fills `found`, which is read only if it did.
    unsafe {
        libc::sigaction(number as i32, std::ptr::null(), found.as_mut_ptr()) == 0
            && found.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// A descriptor whose readiness to be read the runtime tells. Only within the runtime.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// A descriptor that others use as well, of which the runtime tells what is of `interest`. Only within the runtime.
pub fn watched(descriptor: Rc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Rc<OwnedFd>>> {
    // SAFETY: as above; it lives for as long as one of those who use it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// A few 64-bit words of a file, mapped into memory: what is stored there is in the file at once, without a call, and
/// stays when this process is killed.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl Words {
    /// Maps the first `count` words of `file`, which is made long enough first, with zeros.
    pub fn map(file: &File, count: usize) -> io::Result<Words> {
        let bytes = count * size_of::<u64>();
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length < bytes {
            // Written, not just made longer: a page that the disk has no room for would end this process later.
            file.write_all_at(&vec![0; bytes - length], length as u64)?;
        }
        // A copy of such a file may have holes where zeros were.
        match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            allocated => allocated?,
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let descriptor = file.as_raw_fd();
        // SAFETY: a new mapping at a place that the kernel chooses; the file is at least `bytes` long.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Words { start, count })
    }

    /// The word at `index`.
    ///
    /// # Panics
    ///
    /// When there is no such word.
    pub fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Sets the word at `index`. Whoever sees it sees all that was set before.
    ///
    /// # Panics
    ///
    /// When there is no such word.
    pub fn store(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "the words are {}, not {index}", self.count);
        // SAFETY: inside the mapping, which lives as long as `self`; a page is aligned for any word, every value of
        // a word is valid, and an atomic may be changed by others.
        unsafe { self.start.add(index).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: this mapping, made in `map`; no reference into it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
