//! From labelled texts to a head.

use super::{Fit, Monitor, TrainingOptions, TrainingStep, fit, invalid};
use crate::classifier::Options;
use crate::error::Error;
use crate::head::embedding::{Embedder, Embedding, Features};
use crate::head::trained::TrainedHead;
use crate::model::Model;
use crate::session::Input;

/// Texts whose features are computed between two reports of progress.
const BATCH: usize = 64;

/// Trains heads on a frozen encoder: a model of any kind, whose own head does not matter.
///
/// ```no_run
/// use filbert::training::{HeadTrainer, Monitor, TrainingOptions};
/// use filbert::{Classifier, Features, Model, Options};
///
/// let encoder = Model::open("encoder.filbert")?;
/// let options = Options::new().threads(4);
/// let trainer = HeadTrainer::new(encoder, Features::mean(), &options)?;
/// let inputs = ["good coffee".into(), "cold soup".into()];
/// let training = TrainingOptions::new().strength(1.0).threads(4);
/// let (head, _) =
///     trainer.train(&inputs, &["GOOD", "BAD"], &training, &mut Monitor::default())?;
/// let classifier = Classifier::with_head(trainer.into_model(), head, &options)?;
/// # Ok::<(), filbert::Error>(())
/// ```
#[derive(Debug)]
pub struct HeadTrainer {
    embedder: Embedder,
    features: Features,
}

impl HeadTrainer {
    /// Of the options, only threads and truncation matter.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`](crate::ErrorCode), for options that this machine cannot
    /// serve.
    pub fn new(encoder: Model, features: Features, options: &Options) -> Result<Self, Error> {
        let embedder = Embedder::of_encoder(encoder, features, options)?;
        Ok(Self { embedder, features })
    }

    /// The encoder.
    pub fn model(&self) -> &Model {
        self.embedder.model()
    }

    /// The encoder, with which no more heads are trained.
    pub fn into_model(self) -> Model {
        self.embedder.into_model()
    }

    /// The features of texts, `[texts, hidden]`.
    ///
    /// # Errors
    /// As for [`Embedder::embed`], and [`ErrorCode::Cancelled`](crate::ErrorCode).
    pub fn compute_features(
        &self,
        inputs: &[Input<'_>],
        monitor: &mut Monitor<'_>,
    ) -> Result<Vec<f32>, Error> {
        let total = inputs.len();
        let width = self.model().shape().hidden as usize;
        let mut features = Vec::with_capacity(total * width);
        let mut embeddings: Vec<Embedding> = Vec::new();
        for (batch, inputs) in inputs.chunks(BATCH).enumerate() {
            let done = batch * BATCH;
            monitor.report(TrainingStep::Features { done, total });
            self.embedder
                .embed_batch_into(inputs, monitor.cancellation, &mut embeddings)?;
            for embedding in &embeddings {
                features.extend_from_slice(embedding.vector());
            }
        }
        monitor.report(TrainingStep::Features { done: total, total });
        Ok(features)
    }

    /// Learns to tell the labels of texts. The head's labels are those that occur, sorted by
    /// their bytes, so that the order of the texts does not matter to their numbers.
    ///
    /// # Errors
    /// Those of [`HeadTrainer::compute_features`] and [`fit`].
    pub fn train(
        &self,
        inputs: &[Input<'_>],
        labels: &[&str],
        options: &TrainingOptions,
        monitor: &mut Monitor<'_>,
    ) -> Result<(TrainedHead, Fit), Error> {
        if inputs.len() != labels.len() {
            return Err(invalid(format!(
                "labels: expected one for each of {} texts, found {}",
                inputs.len(),
                labels.len()
            )));
        }
        options.check()?;
        let mut names = labels.to_vec();
        names.sort_unstable();
        names.dedup();
        let number = |label| names.partition_point(|name| name < label) as u32;
        let targets: Vec<u32> = labels.iter().map(number).collect();
        if names.len() < 2 {
            return Err(invalid(format!(
                "labels: expected at least 2 different ones, found {}; add texts with another label",
                names.len()
            )));
        }
        let features = self.compute_features(inputs, monitor)?;
        let width = self.model().shape().hidden as usize;
        let fit = fit(&features, width, &targets, names.len(), options, monitor)?;
        let head = TrainedHead::new(
            self.model(),
            self.features,
            names.into_iter().map(str::to_owned).collect(),
            (&fit.weights, &fit.bias),
        )?;
        Ok((head, fit))
    }
}
