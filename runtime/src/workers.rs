//! Threads that claim the tasks of a job from one counter.
//!
//! A job is divided into numbered tasks, each with its own part of the output, so results do
//! not depend on which thread runs what. The caller works too; with one thread there is no
//! other. Between the steps of a text the workers spin for some microseconds, then sleep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::kernels::matrix::Parts;

/// Polls before a waiting thread sleeps: some ten microseconds.
const SPINS: u32 = 2_000;

/// A pool of threads, and the calling one.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held while a job runs. Another caller then runs its own tasks alone, so that the number
    /// of busy threads stays what was asked for per caller.
    busy: Mutex<()>,
}

/// A job as the threads see it: a function of the thread's number.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize) + Sync));

// SAFETY: the function is `Sync`, and `Workers::broadcast` keeps it alive until every thread
// has returned from it.
unsafe impl Send for Job {}

struct Shared {
    /// Counts the jobs; changes when there is a new one.
    generation: AtomicU64,
    /// Threads of the pool that are in the current job.
    inside: AtomicUsize,
    state: Mutex<State>,
    /// Signalled when there is a new job, or the end.
    wake: Condvar,
}

struct State {
    /// There is one while threads may still come in.
    job: Option<Job>,
    panic: Option<Box<dyn std::any::Any + Send>>,
    end: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread of the pool does, for its life.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.generation.load(Ordering::Acquire) == seen && spins < SPINS {
                std::hint::spin_loop();
                spins += 1;
            }
            let job = {
                let mut state = self.lock();
                while self.generation.load(Ordering::Acquire) == seen {
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if state.end {
                    return;
                }
                seen = self.generation.load(Ordering::Acquire);
                // A thread that comes late finds no job.
                let Some(job) = state.job else { continue };
                self.inside.fetch_add(1, Ordering::Relaxed);
                job
            };
            // SAFETY: `broadcast` returns, and the function dies, only after it has withdrawn
            // the job and `inside` is 0; both are under the lock in which this thread came in.
            let function = unsafe { &*job.0 };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(thread))) {
                self.lock().panic = Some(panic);
            }
            self.inside.fetch_sub(1, Ordering::Release);
        }
    }

    fn announce(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.wake.notify_all();
    }
}

impl Workers {
    /// A pool in which `threads` threads work, the caller's included; at least 1.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(0),
            inside: AtomicUsize::new(0),
            state: Mutex::new(State {
                job: None,
                panic: None,
                end: false,
            }),
            wake: Condvar::new(),
        });
        let mut workers = Self {
            shared,
            threads: Vec::new(),
            busy: Mutex::new(()),
        };
        for thread in 1..threads {
            let shared = Arc::clone(&workers.shared);
            let builder = std::thread::Builder::new().name(format!("filbert-{thread}"));
            workers
                .threads
                .push(builder.spawn(move || shared.serve(thread))?);
        }
        Ok(workers)
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
        assert!(scratch.len() >= self.threads());
        let scratch = Scratch(scratch.as_mut_ptr());
        let next = AtomicUsize::new(0);
        let work = |thread: usize| {
            // SAFETY: `thread` is below `threads()`, hence in the slice, and each thread of a
            // job has a number of its own.
            let scratch = unsafe { &mut *scratch.of(thread) };
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tasks {
                    return;
                }
                // SAFETY: the counter gives each number once.
                let part = unsafe { output.part(number) };
                task(number, scratch, part);
            }
        };
        if tasks > 1
            && !self.threads.is_empty()
            && let Ok(_guard) = self.busy.try_lock()
        {
            return self.broadcast(&work);
        }
        work(0);
    }

    /// Calls `function` on this thread, and on those of the pool that come before it is done:
    /// a thread that the system has not woken in time is not waited for.
    fn broadcast(&self, function: &(dyn Fn(usize) + Sync)) {
        let shared = &self.shared;
        {
            let mut state = shared.lock();
            // SAFETY: only the lifetime changes, and no thread uses the function after this
            // call: it withdraws the job and waits below for those inside, whatever happens.
            let function = unsafe {
                std::mem::transmute::<
                    *const (dyn Fn(usize) + Sync),
                    *const (dyn Fn(usize) + Sync + 'static),
                >(function)
            };
            state.job = Some(Job(function));
            state.panic = None;
            shared.announce();
        }
        let own = catch_unwind(AssertUnwindSafe(|| function(0)));
        shared.lock().job = None;
        let mut spins = 0;
        while shared.inside.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let other = shared.lock().panic.take();
        if let Some(panic) = own.err().or(other) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.end = true;
            self.shared.announce();
        }
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
        workers.run(
            8,
            &mut [(); 2],
            Chunks::new(&mut values, 1),
            |_, _, part| part[0] = 9,
        );
        assert_eq!(values, [9; 8]);
    }
}
