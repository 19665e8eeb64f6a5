//! The CPU: its name, what it can do at most, and which of its cores are used.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::engine::Engine;
use crate::Failure;

/// The CPU's name, or the architecture where the operating system has none.
pub(crate) fn name() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| model_name(&text))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    let name = line.trim_start().strip_prefix(':')?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Keeps this process on these CPUs, and all threads and processes that it starts from now on.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn pin(cpus: &[usize]) -> Result<(), Failure> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let failed = |error| Failure::Failed(format!("--cpus: {error}"));
    let allowed = sched_getaffinity(None).map_err(failed)?;
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
            let allowed: Vec<_> = (0..CpuSet::MAX_CPU)
                .filter(|&cpu| allowed.is_set(cpu))
                .map(|cpu| cpu.to_string())
                .collect();
            return Err(Failure::Usage(format!(
                "--cpus: this process may not use CPU {cpu}; it may use {}",
                allowed.join(", ")
            )));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(failed)
}

/// Keeps this process on these CPUs.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn pin(_: &[usize]) -> Result<(), Failure> {
    Err(Failure::Usage(
        "--cpus: only Linux and Android let a process choose its CPUs; leave it out".to_owned(),
    ))
}

/// How long a measurement of the peak takes.
const SLICE: Duration = Duration::from_millis(10);

/// The most multiplications per second that the kernels' own dot products reach on one core,
/// without loads and stores.
#[derive(Debug)]
pub(crate) struct Peak {
    /// About as many as one slice takes.
    steps: u64,
    per_second: f64,
}

impl Peak {
    /// Finds how many steps a slice takes, then measures some slices.
    pub(crate) fn measure(engine: &Engine) -> Self {
        let mut peak = Self {
            steps: 64,
            per_second: 0.0,
        };
        while peak.sample(engine) < SLICE && peak.steps < 1 << 40 {
            peak.steps *= 2;
        }
        for _ in 0..8 {
            peak.sample(engine);
        }
        peak
    }

    /// Measures once more: the best counts, since nothing makes a core faster than it is.
    pub(crate) fn sample(&mut self, engine: &Engine) -> Duration {
        let start = Instant::now();
        let multiplications = black_box(engine.run_peak(black_box(self.steps)));
        let time = start.elapsed();
        let speed = multiplications as f64 / time.as_secs_f64().max(1e-9);
        // A slice that is too short for the clock tells nothing.
        if time * 2 >= SLICE {
            self.per_second = self.per_second.max(speed);
        }
        time
    }

    /// In 10⁹ multiplications per second.
    pub(crate) fn gmacs(&self) -> f64 {
        self.per_second / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_cpuinfo() {
        let text = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t: sse\n";
        assert_eq!(model_name(text), Some("AMD EPYC".to_owned()));
        assert_eq!(model_name("processor : 0\nBogoMIPS : 48.00\n"), None);
        assert!(!name().is_empty());
    }
}
