//! The multiplications that an answer needs.

use filbert::format::embedding;
use filbert::{Head, Model, Shape};

/// Multiplications for one text of so many tokens without a mask: of the unpadded sizes, and in
/// the last layer only what the first token needs, if the head reads no other. Embeddings, norms
/// and other row operations are not counted.
pub(crate) fn multiplications(model: &Model, tokens: usize) -> u64 {
    multiplications_of(model.shape(), model.head(), tokens)
}

fn multiplications_of(shape: &Shape, head: Head, tokens: usize) -> u64 {
    let tokens = tokens as u64;
    let [layers, hidden, intermediate, labels] =
        [shape.layers, shape.hidden, shape.intermediate, shape.labels].map(u64::from);
    let square = hidden * hidden;
    let feed_forward = 2 * hidden * intermediate;
    let layer = (4 * square + feed_forward) * tokens + 2 * tokens * tokens * hidden;
    let keys_and_values = 2 * square * tokens;
    let last = keys_and_values + 2 * square + feed_forward + 2 * tokens * hidden;
    let is_mean = shape.head_options & embedding::MEAN != 0;
    let (last, head) = match head {
        Head::Classification => (last, square + hidden * labels),
        Head::Embedding if !is_mean => (last, 0),
        Head::Embedding => (layer, 0),
        Head::TokenClassification | Head::QuestionAnswering => (layer, tokens * hidden * labels),
        // The head reads mask tokens only.
        Head::MaskedWords => (layer, 0),
    };
    layers.saturating_sub(1) * layer + last + head
}

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::*;
    use filbert_convert::Checkpoint;
    use filbert_convert::package::Package;
    use filbert_convert::progress::Quiet;
    use filbert_convert::published::PublishedShape;

    #[test]
    fn bert_base_with_128_tokens_has_its_known_count() {
        let shape = Shape {
            layers: 12,
            hidden: 768,
            heads: 12,
            head_size: 64,
            intermediate: 3072,
            vocabulary: 30_522,
            positions: 512,
            token_types: 2,
            labels: 2,
            max_tokens: 512,
            activation: 1,
            head_activation: 4,
            problem: 1,
            layer_norm_eps: 1e-12,
            head: 0,
            head_options: 0,
        };
        // 11 layers of 7,077,888 · 128 + 2 · 128² · 768 …
        let layers = 11 * (905_969_664 + 25_165_824);
        // … keys and values, then one row of everything else, then the head.
        let last = 150_994_944 + 1_179_648 + 4_718_592 + 196_608;
        assert_eq!(
            multiplications_of(&shape, Head::Classification, 128),
            layers + last + 589_824 + 1536
        );
    }

    #[test]
    fn the_runtime_counts_the_same() {
        let package = PublishedShape::find("bert-tiny").unwrap().build(&mut Quiet);
        let package = package.unwrap();
        let mut models = vec![("bert-tiny", Model::from_bytes(package.bytes()).unwrap())];
        for name in [
            "bert-classes",
            "bert-tokens",
            "bert-answers",
            "bert-embeddings",
            "bert-cls-embeddings",
            "bert-masked",
        ] {
            let folder = format!("{}/../tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
            let checkpoint = Checkpoint::open(folder.as_ref()).unwrap();
            let package = Package::build(&checkpoint, &mut Quiet).unwrap();
            models.push((name, Model::from_bytes(package.bytes()).unwrap()));
        }
        for (name, model) in models {
            let engine = Engine::new(model, 1).unwrap();
            for text in ["", "a b c d e", "a b c d e f g h i j k l m n o p q r s t"] {
                let tokens = engine.tokenize(text).unwrap().len();
                let profile = engine.profile(&[text.into()]).unwrap();
                let counted: u64 = profile.iter().map(|step| step.multiplications).sum();
                let expected = multiplications(engine.model(), tokens);
                assert_eq!(counted, expected, "{name}: {tokens} tokens");
            }
        }
    }
}
