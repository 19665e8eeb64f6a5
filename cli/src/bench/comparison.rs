//! A measurement against an earlier one.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::measurement::estimate;
use super::record::{Record, Run, ShapeRecord, rounded};
use super::statistics::Estimate;
use crate::Failure;

/// By how much two processes of the same command differ: where the loader happens to put code
/// and memory moves times (Mytkowicz et al., Producing wrong data without doing anything
/// obviously wrong, ASPLOS 2009), and no interval from within one process knows. Measurements of
/// the same thing differed by up to this.
const BETWEEN_PROCESSES: f64 = 0.03;

/// What is read of an earlier measurement's JSON.
#[derive(Debug, Deserialize)]
pub(crate) struct Earlier {
    #[serde(skip)]
    path: PathBuf,
    cpu: String,
    kernels: String,
    model: EarlierModel,
    runs: Vec<EarlierRun>,
}

#[derive(Debug, Deserialize)]
struct EarlierModel {
    shape: ShapeRecord,
}

#[derive(Debug, Deserialize)]
struct EarlierRun {
    tokens: usize,
    threads: usize,
    texts: usize,
    p50_ms: f64,
    p50_low_ms: f64,
    p50_high_ms: f64,
}

impl Earlier {
    /// Reads what `filbert bench --json` printed.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let in_file = |message: String| Failure::Failed(format!("{}: {message}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| in_file(error.to_string()))?;
        let mut earlier: Self = serde_json::from_slice(&bytes).map_err(|error| {
            in_file(format!(
                "not the JSON that `filbert bench --json` prints: {error}"
            ))
        })?;
        for run in &earlier.runs {
            let ordered = run.p50_low_ms > 0.0
                && run.p50_low_ms <= run.p50_ms
                && run.p50_ms <= run.p50_high_ms;
            if !ordered {
                return Err(in_file(format!(
                    "the run of {} tokens and {} threads: p50_ms is not between p50_low_ms and \
                     p50_high_ms, so the file is not as it was written",
                    run.tokens, run.threads
                )));
            }
        }
        earlier.path = path.to_owned();
        Ok(earlier)
    }

    /// Refuses a measurement of another model.
    pub(crate) fn check_shape(&self, shape: &ShapeRecord) -> Result<(), Failure> {
        if self.model.shape == *shape {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{}: measured another model: {}; this one has {shape}",
            self.path.display(),
            self.model.shape
        )))
    }

    /// Refuses a measurement of other runs only.
    pub(crate) fn check_runs(
        &self,
        tokens: &[usize],
        threads: &[usize],
        texts: usize,
    ) -> Result<(), Failure> {
        let known = |run: &EarlierRun| {
            tokens.contains(&run.tokens) && threads.contains(&run.threads) && run.texts == texts
        };
        if self.runs.iter().any(known) {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{}: no run in it has one of these numbers of tokens, threads and texts; see --tokens, \
             --threads and --texts",
            self.path.display()
        )))
    }

    /// Compares each run that both have.
    pub(crate) fn compare(&self, record: &Record) -> Comparison {
        let verdicts = record.runs.iter().map(|run| {
            let earlier = self.runs.iter().find(|earlier| {
                (earlier.tokens, earlier.threads, earlier.texts)
                    == (run.tokens, run.threads, run.texts)
            });
            Compared::new(run, earlier)
        });
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        Comparison {
            with: name.to_string_lossy().into_owned(),
            same_cpu: self.cpu == record.cpu,
            same_kernels: self.kernels == record.kernels,
            runs: verdicts.collect(),
        }
    }
}

/// Each run of this measurement beside that of an earlier one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) with: String,
    pub(crate) same_cpu: bool,
    pub(crate) same_kernels: bool,
    pub(crate) runs: Vec<Compared>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) tokens: usize,
    pub(crate) threads: usize,
    pub(crate) texts: usize,
    /// In words.
    pub(crate) verdict: String,
    /// This median divided by the earlier one, and between what that lies; null if the earlier
    /// measurement has no such run.
    pub(crate) ratio: Option<f64>,
    pub(crate) ratio_low: Option<f64>,
    pub(crate) ratio_high: Option<f64>,
}

impl Compared {
    fn new(run: &Run, earlier: Option<&EarlierRun>) -> Self {
        let ratio = earlier.map(|earlier| {
            let earlier = Estimate {
                value: earlier.p50_ms,
                low: earlier.p50_low_ms,
                high: earlier.p50_high_ms,
            };
            estimate(run)
                .ratio_to(earlier)
                .with_doubt(BETWEEN_PROCESSES)
        });
        Self {
            tokens: run.tokens,
            threads: run.threads,
            texts: run.texts,
            verdict: match ratio {
                Some(ratio) => Verdict::of(ratio).to_string(),
                None => "not measured before".to_owned(),
            },
            ratio: ratio.map(|ratio| rounded(ratio.value, 4)),
            ratio_low: ratio.map(|ratio| rounded(ratio.low, 4)),
            ratio_high: ratio.map(|ratio| rounded(ratio.high, 4)),
        }
    }
}

/// What a ratio of times says: parts of the earlier time, and between what they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Faster(f64, [f64; 2]),
    Slower(f64, [f64; 2]),
    NoDifference,
}

impl Verdict {
    fn of(ratio: Estimate) -> Self {
        let Estimate { value, low, high } = ratio;
        if high < 1.0 {
            Self::Faster(1.0 - value, [1.0 - high, 1.0 - low])
        } else if low > 1.0 {
            Self::Slower(value - 1.0, [low - 1.0, high - 1.0])
        } else {
            Self::NoDifference
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, part, range) = match self {
            Self::Faster(part, range) => ("faster", part, range),
            Self::Slower(part, range) => ("slower", part, range),
            Self::NoDifference => return f.write_str("no difference seen"),
        };
        // Tenths where they are a good part of the whole.
        let decimals = usize::from(100.0 * part < 9.5);
        let [part, low, high] = [*part, range[0], range[1]].map(|part| 100.0 * part);
        write!(
            f,
            "{word} {part:.decimals$} % ({low:.decimals$} to {high:.decimals$})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(value: f64, low: f64, high: f64) -> String {
        Verdict::of(Estimate { value, low, high }).to_string()
    }

    #[test]
    fn verdicts_need_an_interval_that_excludes_one() {
        assert_eq!(verdict(0.88, 0.86, 0.90), "faster 12 % (10 to 14)");
        assert_eq!(verdict(1.25, 1.2, 1.3), "slower 25 % (20 to 30)");
        assert_eq!(verdict(1.052, 1.04, 1.063), "slower 5.2 % (4.0 to 6.3)");
        assert_eq!(verdict(0.95, 0.89, 1.001), "no difference seen");
        assert_eq!(verdict(1.0, 1.0, 1.0), "no difference seen");
    }

    #[test]
    fn what_two_processes_differ_by_is_no_difference() {
        let run = |p50: f64| Run {
            tokens: 16,
            threads: 1,
            texts: 1,
            p50_ms: p50,
            p90_ms: p50,
            p95_ms: p50,
            p99_ms: p50,
            p999_ms: p50,
            gmacs: 1.0,
            peak_share: 0.5,
            p50_low_ms: 0.99 * p50,
            p50_high_ms: 1.01 * p50,
            samples: 30,
            tokenize_us: 1.0,
            workspace_bytes: 1,
            multiplications: 1,
        };
        let earlier = EarlierRun {
            tokens: 16,
            threads: 1,
            texts: 1,
            p50_ms: 2.0,
            p50_low_ms: 1.98,
            p50_high_ms: 2.02,
        };
        for (p50, verdict) in [
            (2.0, "no difference seen"),
            (2.05, "no difference seen"),
            (1.6, "faster 20 % (17 to 23)"),
            (2.5, "slower 25 % (21 to 29)"),
        ] {
            assert_eq!(Compared::new(&run(p50), Some(&earlier)).verdict, verdict);
        }
        let new = Compared::new(&run(2.0), None);
        assert_eq!(
            (new.verdict.as_str(), new.ratio),
            ("not measured before", None)
        );
    }
}
