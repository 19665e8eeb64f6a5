//! Threads that claim the tasks of a job.
//!
//! A job is divided into numbered tasks, each with its own part of the output, so results do
//! not depend on which thread runs what. The caller works too; with one thread there is no
//! other. Between the steps of a text the workers spin for some microseconds, then sleep.
//!
//! Each thread begins with a range of tasks of its own, the same in jobs of the same size, since
//! what it wrote in the last job lies in its cache; then it helps the others.
//!
//! A job costs little more than the passage of a cache line from core to core and back: the
//! caller publishes it by one addition, and who comes in announces himself by another. No lock
//! is waited for unless a thread sleeps.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

use crate::error::{Error, ErrorCode};
use crate::kernels::matrix::Parts;

/// Threads that a pool may have: a bound on what a wrong option can ask for.
const MAX_THREADS: usize = 1024;

/// Polls before a waiting thread sleeps: 50 microseconds on Zen 4, and as many times the pause
/// instruction elsewhere.
const SPINS: u32 = 2_000;

/// A pool of threads, and the calling one.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs. Another caller then runs its own tasks alone, so that the number
    /// of busy threads stays what was asked for per caller.
    busy: Mutex<()>,
    /// The next task of each thread's range. Used by whoever holds `busy`.
    next: Vec<Apart<AtomicUsize>>,
}

/// A job as the threads see it: a function of the thread's number.
type Job = &'static (dyn Fn(usize) + Sync);

/// Alone on its cache lines (two: the hardware fetches them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// Odd while a job is open to those who come in; changes when one opens or closes.
    generation: Apart<AtomicU64>,
    /// Threads of the pool that are in the job, or find out that it is closed.
    inside: Apart<AtomicUsize>,
    /// Written while no job is open and nobody is inside; read by those inside an open one.
    job: UnsafeCell<Option<Job>>,
    /// Threads that sleep, or are about to.
    asleep: AtomicUsize,
    end: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Held between the last look at `generation` and the sleep, and to wake.
    sleep: Mutex<()>,
    /// Signalled when there is a new job, or the end.
    wake: Condvar,
}

// SAFETY: `job` is the only member that is not `Sync`. It is written by `broadcast` alone, under
// `busy`, while `generation` is even and `inside` was seen to be 0 after that; it is read by
// `serve` after entering `inside` and then seeing the same odd generation. Both sides write
// before they read, in sequentially consistent order, so one of them sees the other. The
// function that it points to is `Sync`.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new() -> Self {
        Self {
            generation: Apart::default(),
            inside: Apart::default(),
            job: UnsafeCell::new(None),
            asleep: AtomicUsize::new(0),
            end: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// What a thread of the pool does, for its life.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let open = self.wait_for_job(seen);
            if self.end.load(Ordering::Acquire) {
                return;
            }
            seen = open;
            self.inside.0.fetch_add(1, Ordering::SeqCst);
            // A thread that comes late finds the job closed.
            if self.generation.0.load(Ordering::SeqCst) == open {
                // SAFETY: the job is open and this thread inside, so `broadcast` neither writes
                // `job` nor returns, and the function lives, until `inside` is 0 again.
                let job = unsafe { *self.job.get() };
                if let Some(job) = job
                    && let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(thread)))
                {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
            self.inside.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// The generation of an open job other than the last one seen, or any at the end.
    fn wait_for_job(&self, seen: u64) -> u64 {
        let is_new = |generation: u64| generation != seen && generation % 2 == 1;
        for _ in 0..SPINS {
            let generation = self.generation.0.load(Ordering::Acquire);
            if is_new(generation) {
                return generation;
            }
            std::hint::spin_loop();
        }
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let mut guard = lock(&self.sleep);
        let generation = loop {
            let generation = self.generation.0.load(Ordering::SeqCst);
            if is_new(generation) || self.end.load(Ordering::SeqCst) {
                break generation;
            }
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        generation
    }

    /// Wakes those who sleep, after a change that they wait for.
    fn wake_sleepers(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 {
            // Whoever counts as asleep has the lock until it waits, or looks again.
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }
}

/// Runs tasks `0..tasks` on the calling thread.
pub(crate) fn run_alone<P: Parts, S>(
    tasks: usize,
    scratch: &mut S,
    output: &P,
    task: &impl Fn(usize, &mut S, P::Part),
) {
    for number in 0..tasks {
        // SAFETY: the loop gives each number once.
        let part = unsafe { output.part(number) };
        task(number, scratch, part);
    }
}

impl Workers {
    /// A pool in which `threads` threads work, the caller's included; at least 1.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let mut workers = Self {
            shared: Arc::new(Shared::new()),
            threads: Vec::new(),
            busy: Mutex::new(()),
            next: Vec::new(),
        };
        workers.next.resize_with(threads, Apart::default);
        for thread in 1..threads {
            let shared = Arc::clone(&workers.shared);
            let builder = std::thread::Builder::new().name(format!("filbert-{thread}"));
            workers
                .threads
                .push(builder.spawn(move || shared.serve(thread))?);
        }
        Ok(workers)
    }

    /// As [`Workers::new`], for a number of threads that a caller asked for.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], if there cannot be as many.
    pub(crate) fn with_threads(threads: usize) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(invalid(format!(
                "threads: expected 1 to {MAX_THREADS}, found {threads}"
            )));
        }
        Self::new(threads)
            .map_err(|error| invalid(format!("threads: {threads} cannot be started: {error}")))
    }

    /// Threads that work, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs tasks `0..tasks`, each with its part of the output and the scratch of the thread
    /// that runs it.
    ///
    /// # Panics
    /// If there is less scratch than threads, or if a task panics.
    pub(crate) fn run<P: Parts, S: Send>(
        &self,
        tasks: usize,
        scratch: &mut [S],
        output: P,
        task: impl Fn(usize, &mut S, P::Part) + Sync,
    ) {
        let threads = self.threads();
        assert!(scratch.len() >= threads);
        if tasks > 1
            && threads > 1
            && let Some(_guard) = self.try_lock_busy()
        {
            let scratch = Scratch(scratch.as_mut_ptr());
            let end_of = |range: usize| (range + 1) * tasks / threads;
            for (range, next) in self.next.iter().enumerate() {
                next.0.store(range * tasks / threads, Ordering::Relaxed);
            }
            return self.broadcast(&|thread| {
                // SAFETY: `thread` is below `threads()`, hence in the slice, and each thread of a
                // job has a number of its own.
                let scratch = unsafe { &mut *scratch.of(thread) };
                for range in (thread..threads).chain(0..thread) {
                    loop {
                        let number = self.next[range].0.fetch_add(1, Ordering::Relaxed);
                        if number >= end_of(range) {
                            break;
                        }
                        // SAFETY: ranges are disjoint, and their counters give each number once.
                        let part = unsafe { output.part(number) };
                        task(number, scratch, part);
                    }
                }
            });
        }
        run_alone(tasks, &mut scratch[0], &output, &task);
    }

    /// `busy`, unless another caller has it. A panic of a task leaves nothing half done.
    fn try_lock_busy(&self) -> Option<MutexGuard<'_, ()>> {
        match self.busy.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Calls `function` on this thread, and on those of the pool that come before it is done:
    /// a thread that the system has not woken in time is not waited for. Under `busy`.
    fn broadcast(&self, function: &(dyn Fn(usize) + Sync)) {
        let shared = &self.shared;
        // SAFETY: only the lifetime changes, and no thread uses the function after this call: it
        // closes the job and waits below for those inside, whatever happens.
        let job = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(
                function,
            )
        };
        // SAFETY: no job is open: the last call closed its own, and then saw nobody inside.
        // Whoever has come in since looks at `generation` first.
        unsafe { *shared.job.get() = Some(job) };
        shared.generation.0.fetch_add(1, Ordering::SeqCst);
        shared.wake_sleepers();
        let own = catch_unwind(AssertUnwindSafe(|| function(0)));
        shared.generation.0.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0;
        while shared.inside.0.load(Ordering::SeqCst) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let other = lock(&shared.panic).take();
        if let Some(panic) = own.err().or(other) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        // To those who spin, the end looks like one more job.
        self.shared.generation.0.fetch_or(1, Ordering::SeqCst);
        self.shared.wake_sleepers();
        for thread in self.threads.drain(..) {
            // A thread of the pool catches the panics of its jobs.
            let _ = thread.join();
        }
    }
}

/// A slice with one element for each thread.
struct Scratch<S>(*mut S);

// SAFETY: each thread reaches its own element only.
unsafe impl<S: Send> Sync for Scratch<S> {}

impl<S> Scratch<S> {
    /// The element of a thread.
    fn of(&self, thread: usize) -> *mut S {
        self.0.wrapping_add(thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matrix::Chunks;

    #[test]
    fn every_task_runs_once_with_its_own_part() {
        for threads in [1, 2, 3, 8] {
            let workers = Workers::new(threads).unwrap();
            assert_eq!(workers.threads(), threads);
            for tasks in [0, 1, 2, 7, 100] {
                let mut values = vec![0usize; tasks * 3];
                let mut counts = vec![0usize; threads];
                workers.run(
                    tasks,
                    &mut counts,
                    Chunks::new(&mut values, 3),
                    |number, count, part| {
                        *count += 1;
                        for value in part {
                            *value += number + 1;
                        }
                    },
                );
                assert_eq!(counts.iter().sum::<usize>(), tasks);
                assert!(
                    values
                        .iter()
                        .enumerate()
                        .all(|(i, &value)| value == i / 3 + 1)
                );
            }
        }
    }

    #[test]
    fn many_callers_share_a_pool() {
        let workers = Workers::new(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mut values = vec![0u8; 50];
                        workers.run(
                            50,
                            &mut [(); 3],
                            Chunks::new(&mut values, 1),
                            |_, _, part| part[0] += 1,
                        );
                        assert!(values.iter().all(|&v| v == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let workers = Workers::new(2).unwrap();
        let mut values = vec![0u8; 8];
        let result = catch_unwind(AssertUnwindSafe(|| {
            workers.run(
                8,
                &mut [(); 2],
                Chunks::new(&mut values, 1),
                |number, _, _| {
                    assert_ne!(number, 5);
                },
            );
        }));
        assert!(result.is_err());
        // Tasks that wait for each other: both threads must take part.
        let barrier = std::sync::Barrier::new(2);
        workers.run(
            2,
            &mut [(); 2],
            Chunks::new(&mut values, 4),
            |_, _, part| {
                barrier.wait();
                part.fill(9);
            },
        );
        assert_eq!(values, [9; 8]);
    }
}
