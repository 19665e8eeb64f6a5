//! Whether `config.json` and the graph say the same.

use filbert::format::Activation;

use crate::Error;
use crate::config::{Architecture, Config};

/// Refuses a config that is not that of the graph, by the first field that differs.
///
/// Labels and how logits become scores are the config's alone, but for the number of labels.
pub(super) fn check(config: &Config, graph: &Config) -> Result<(), Error> {
    let differ = |field: &str, config: &str, graph: &str| {
        Err(Error::new(format!(
            "{field} is {config}, but the ONNX graph beside it has {graph}; take the config.json \
             that the model was exported with, or remove it: without it labels are LABEL_0 and so \
             on"
        )))
    };
    if config.architecture != graph.architecture {
        let [config, graph] = [config, graph].map(|config| config.architecture.class());
        return differ("architectures", config, graph);
    }
    let distil = graph.architecture == Architecture::DistilBert;
    let name = |bert, distilbert| if distil { distilbert } else { bert };
    for (field, config, graph) in [
        (
            name("num_hidden_layers", "n_layers"),
            config.layers,
            graph.layers,
        ),
        (name("hidden_size", "dim"), config.hidden, graph.hidden),
        (
            name("num_attention_heads", "n_heads"),
            config.heads,
            graph.heads,
        ),
        (
            name("intermediate_size", "hidden_dim"),
            config.intermediate,
            graph.intermediate,
        ),
        ("vocab_size", config.vocabulary, graph.vocabulary),
        ("max_position_embeddings", config.positions, graph.positions),
        (
            "type_vocab_size",
            // A graph that is given no token types uses the first alone.
            if graph.token_types == 1 {
                1
            } else {
                config.token_types
            },
            graph.token_types,
        ),
        (
            "the number of labels in id2label",
            config.labels.len(),
            graph.labels.len(),
        ),
    ] {
        if config != graph {
            return differ(field, &config.to_string(), &graph.to_string());
        }
    }
    if config.activation != graph.activation {
        let [config, graph] = [config, graph].map(|config| activation(config.activation));
        return differ(name("hidden_act", "activation"), config, graph);
    }
    if config.layer_norm_eps != graph.layer_norm_eps {
        let [config, graph] = [config, graph].map(|config| config.layer_norm_eps.to_string());
        return differ("layer_norm_eps", &config, &graph);
    }
    Ok(())
}

/// As `config.json` calls it.
fn activation(function: Activation) -> &'static str {
    match function {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu => "relu",
        Activation::Tanh => "tanh",
    }
}
