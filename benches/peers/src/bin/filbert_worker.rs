//! Filbert: text in, labelled scores out, the tokenizer included.

use filbert::{Classifier, Input, Options};
use filbert_peers::{Engine, Result, Text, serve};

struct Filbert(Classifier);

impl Engine for Filbert {
    type Feed = Vec<String>;

    fn feed(&self, texts: &[Text]) -> Result<Self::Feed> {
        Ok(texts.iter().map(|text| text.text.clone()).collect())
    }

    fn run(&self, feed: &Self::Feed) -> Result<Vec<f32>> {
        if let [text] = &feed[..] {
            return Ok(self.0.classify(text)?.logits().to_vec());
        }
        let inputs: Vec<Input<'_>> = feed.iter().map(|text| text.as_str().into()).collect();
        let results = self.0.classify_batch(&inputs)?;
        let logits = results.iter().flat_map(|result| result.logits());
        Ok(logits.copied().collect())
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.0.tokenize(text.into())?;
        Ok(tokens.iter().map(|token| token.id).collect())
    }
}

fn main() {
    serve(|arguments| {
        let options = Options::new().threads(arguments.threads);
        let classifier = Classifier::open_with(&arguments.model, &options)?;
        let settings = format!("text in, label out; {} kernels", classifier.kernels());
        Ok((Filbert(classifier), settings))
    });
}
