//! Whether `config.json` and the graph say the same.

use filbert::format::Activation;

use crate::Error;
use crate::config::{Architecture, Config};
use crate::task::Task;

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
    if !same_family(config, graph) || !same_task(config.task, graph.task) {
        return differ("architectures", &config.class(), &graph.class());
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

/// Whether a config may be that of a graph: XLM-RoBERTa's is RoBERTa's, and so is BERT's where
/// the position table lacks the rows for padding, as Filbert exports it.
fn same_family(config: &Config, graph: &Config) -> bool {
    use Architecture as A;
    match graph.architecture {
        A::DistilBert => config.architecture == A::DistilBert,
        A::Bert => config.architecture != A::DistilBert,
        A::Roberta | A::XlmRoberta => {
            matches!(config.architecture, A::Roberta | A::XlmRoberta)
                && config.position_offset == graph.position_offset
        }
    }
}

/// Whether a task may be that of a graph: labels of texts include those of next sentences, and
/// how rows become a vector is not in the graph.
fn same_task(config: Task, graph: Task) -> bool {
    match (config, graph) {
        (Task::NextSentence, Task::SequenceClassification)
        | (Task::Embedding(_), Task::Embedding(_)) => true,
        _ => config == graph,
    }
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
