//! The model that is measured, as programs use it.

use std::path::Path;

use filbert::{
    Classification, Classifier, Head, Input, Measurement, Model, Options, RawOutput, Runner, Token,
};

use crate::Failure;

/// A classification answers with labels and scores, any other model with what its head computes.
pub(crate) enum Engine {
    Classifier(Box<Classifier>),
    Runner(Box<Runner>),
}

/// What a call returns. Who measures the call drops it afterwards.
pub(crate) enum Answers<'a> {
    Classifications(Vec<Classification<'a>>),
    Outputs(Vec<RawOutput>),
}

impl Answers<'_> {
    /// The number of tokens of each text.
    pub(crate) fn tokens(&self) -> Vec<usize> {
        match self {
            Self::Classifications(answers) => answers.iter().map(|a| a.tokens()).collect(),
            Self::Outputs(answers) => answers.iter().map(|answer| answer.tokens).collect(),
        }
    }
}

impl Engine {
    pub(crate) fn open(path: &Path, threads: usize) -> Result<Self, Failure> {
        Self::new(Model::open(path)?, threads)
    }

    pub(crate) fn new(model: Model, threads: usize) -> Result<Self, Failure> {
        let options = Options::new().threads(threads);
        Ok(match model.head() {
            Head::Classification => Self::Classifier(Box::new(Classifier::new(model, &options)?)),
            _ => Self::Runner(Box::new(Runner::new(model, &options)?)),
        })
    }

    pub(crate) fn model(&self) -> &Model {
        match self {
            Self::Classifier(classifier) => classifier.model(),
            Self::Runner(runner) => runner.model(),
        }
    }

    pub(crate) fn kernels(&self) -> &'static str {
        match self {
            Self::Classifier(classifier) => classifier.kernels(),
            Self::Runner(runner) => runner.kernels(),
        }
    }

    pub(crate) fn answer<'a>(&'a self, inputs: &[Input<'_>]) -> Result<Answers<'a>, Failure> {
        Ok(match self {
            Self::Classifier(classifier) => {
                Answers::Classifications(classifier.classify_batch(inputs)?)
            }
            Self::Runner(runner) => Answers::Outputs(runner.run(inputs)?),
        })
    }

    pub(crate) fn tokenize(&self, text: &str) -> Result<Vec<Token>, Failure> {
        Ok(match self {
            Self::Classifier(classifier) => classifier.tokenize(text.into())?,
            Self::Runner(runner) => runner.tokenize(text.into())?,
        })
    }

    pub(crate) fn profile(&self, inputs: &[Input<'_>]) -> Result<Vec<Measurement>, Failure> {
        Ok(match self {
            Self::Classifier(classifier) => classifier.profile(inputs)?,
            Self::Runner(runner) => runner.profile(inputs)?,
        })
    }

    pub(crate) fn workspace_bytes(&self, tokens: usize) -> usize {
        match self {
            Self::Classifier(classifier) => classifier.workspace_bytes(tokens),
            Self::Runner(runner) => runner.workspace_bytes(tokens),
        }
    }

    pub(crate) fn run_peak(&self, steps: u64) -> u64 {
        match self {
            Self::Classifier(classifier) => classifier.run_peak(steps),
            Self::Runner(runner) => runner.run_peak(steps),
        }
    }
}
