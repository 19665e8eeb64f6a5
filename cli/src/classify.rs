//! `filbert classify`: texts to labels.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use filbert::{
    Category, Classification, Classifier, ErrorCode, Input, Options, Problem, Truncation,
};

use crate::help::{self, ALWAYS, CONVERT};
use crate::terminal::{note, one_line};
use crate::{Failure, model};

/// Lines that are answered together, and that may wait to be.
const BATCH: usize = 256;
/// Bytes of text after which a batch is full, whatever its lines.
const BATCH_BYTES: usize = 1 << 20;
/// Where any number of labels may be right, those with at least this score are.
const MULTI_LABEL_THRESHOLD: f32 = 0.5;

const CHECKPOINT_EXAMPLE: &str = "  \
  filbert classify models/tiny-sst2 \"a gorgeous, witty film\"";
const EXAMPLES: &str = "  \
  filbert classify tiny.filbert --json < reviews.txt
  filbert classify tiny.filbert --top-k 2 \"good coffee\" \"cold soup\"
  filbert classify pairs.filbert --pair \"It rained.\" \"The weather was wet.\"
  filbert classify tiny.filbert -- \"-1 star\"";
const LONG_CHECKPOINT_EXAMPLE: &str = "  \
  A checkpoint, converted in memory:
    filbert classify models/tiny-sst2 \"a gorgeous, witty film\"
";
const LONG_EXAMPLES: &str = "  \
  A file, one text a line; JSON as the text-classification pipeline of transformers has it:
    filbert classify tiny.filbert --json < reviews.txt
    {\"label\":\"POSITIVE\",\"score\":0.9987}

  Both labels, the better one first:
    filbert classify tiny.filbert --top-k 2 \"good coffee\" \"cold soup\"

  Pairs of texts: two arguments each, or two texts with a tab between on each line:
    filbert classify pairs.filbert --pair \"It rained.\" \"The weather was wet.\"

  A text that begins with a dash:
    filbert classify tiny.filbert -- \"-1 star\"";

/// Say which label fits a text
#[derive(Args)]
#[command(
    long_about = "\
Say which label fits a text.

Texts are arguments, or lines of standard input. A line is answered as soon as no other is \
waiting, so the command can be the middle of a pipe. Empty lines are texts too: there is one \
answer for each line.

A model for which one label is right answers with the best label and its probability. If any \
number of labels may be right (problem_type multi_label_classification), the answer is every \
label with a probability of at least 0.5, or what --threshold says. A regression model answers \
with its numbers.",
    after_help = help::lines(&[
        (ALWAYS, "Examples:"),
        (CONVERT, CHECKPOINT_EXAMPLE),
        (ALWAYS, EXAMPLES)
    ]),
    after_long_help = help::lines(&[
        (ALWAYS, "Examples:"),
        (CONVERT, LONG_CHECKPOINT_EXAMPLE),
        (ALWAYS, LONG_EXAMPLES)
    ])
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// Texts to classify; without any, one text a line from standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// A head that `filbert train` made on this encoder, in place of the model's own
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Print one JSON object a line; an array of them with --top-k, or if any number of labels
    /// may be right
    ///
    /// `null`, or an empty array, stands for a text that --threshold, --allow and --deny leave
    /// without a label.
    #[arg(long)]
    json: bool,
    /// Texts are pairs: arguments two by two, or two texts with a tab between on each line
    #[arg(long)]
    pair: bool,
    /// Print the N best labels
    #[arg(long, value_name = "N")]
    top_k: Option<NonZeroUsize>,
    /// Only labels with at least this score
    #[arg(
        long,
        value_name = "SCORE",
        allow_negative_numbers = true,
        value_parser = parse_score
    )]
    threshold: Option<f32>,
    /// Only this label; may be given several times
    #[arg(long, value_name = "LABEL", conflicts_with = "deny")]
    allow: Vec<String>,
    /// All labels but this; may be given several times
    #[arg(long, value_name = "LABEL")]
    deny: Vec<String>,
    /// How a text or pair with more tokens than the model takes is cut, if at all
    ///
    /// Texts are cut at their end. If nothing would be left of the one text that may be cut, or
    /// if there is no such text, the command fails.
    #[arg(
        long,
        value_name = "STRATEGY",
        value_enum,
        default_value = "longest_first"
    )]
    truncation: Strategy,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
    /// Tell on standard error which kernels run, and count tokens and time
    #[arg(short, long)]
    verbose: bool,
}

/// [`Truncation`], by the names of transformers.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Strategy {
    /// Cut the longer text of a pair, and both once they are equally long
    LongestFirst,
    /// Cut the first text only
    OnlyFirst,
    /// Cut the second text only
    OnlySecond,
    /// Cut nothing, and fail
    Refuse,
}

impl From<Strategy> for Truncation {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::LongestFirst => Self::LongestFirst,
            Strategy::OnlyFirst => Self::OnlyFirst,
            Strategy::OnlySecond => Self::OnlySecond,
            Strategy::Refuse => Self::Refuse,
        }
    }
}

fn parse_score(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(score) if score.is_finite() => Ok(score),
        _ => Err("expected a number, such as 0.5".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.pair && !arguments.texts.len().is_multiple_of(2) {
        return Err(Failure::Usage(format!(
            "--pair takes TEXT arguments two by two, but there are {}",
            arguments.texts.len()
        )));
    }
    let model = model::open(&arguments.model)?;
    let head = model::open_head(arguments.head.as_deref(), &model)?;
    let form = match &head {
        Some(head) => Form::new(arguments, Problem::SingleLabel, head.labels().len()),
        None => Form::new(arguments, model.problem(), model.labels().len()),
    };
    let classifier = model::classifier(model, head, &options(arguments, form))?;
    if arguments.verbose {
        note(&format!(
            "{}: {} kernels, threads: {}",
            arguments.model.display(),
            classifier.kernels(),
            arguments.threads
        ));
    }
    let mut answers = Answers {
        classifier: &classifier,
        style: Style::new(arguments, form, &classifier),
        out: BufWriter::new(io::stdout().lock()),
        count: Count::default(),
    };
    let result = if arguments.texts.is_empty() {
        answers.answer_lines(arguments.pair)
    } else {
        answers.answer_arguments(&arguments.texts, arguments.pair)
    };
    if !matches!(result, Err(Failure::OutputClosed)) {
        answers.tell_count(arguments.verbose);
    }
    result
}

/// What an answer consists of: it depends on the problem that the model solves.
#[derive(Clone, Copy)]
struct Form {
    problem: Problem,
    /// Whether it is a list of labels, be it of one.
    list: bool,
    most: usize,
    threshold: f32,
}

impl Form {
    fn new(arguments: &Arguments, problem: Problem, labels: usize) -> Self {
        let several = match problem {
            Problem::SingleLabel => false,
            Problem::MultiLabel => true,
            Problem::Regression => labels > 1,
        };
        let top_k = arguments.top_k.map(NonZeroUsize::get);
        Self {
            problem,
            list: several || top_k.is_some(),
            most: top_k.unwrap_or(if several { labels } else { 1 }),
            threshold: arguments.threshold.unwrap_or(match problem {
                Problem::MultiLabel if top_k.is_none() => MULTI_LABEL_THRESHOLD,
                _ => f32::NEG_INFINITY,
            }),
        }
    }
}

fn options(arguments: &Arguments, form: Form) -> Options {
    Options::new()
        .threads(arguments.threads.get())
        .truncation(arguments.truncation.into())
        .max_results(form.most)
        .score_threshold(form.threshold)
        .allow_labels(&arguments.allow)
        .deny_labels(&arguments.deny)
}

/// A text or a pair, and where it came from.
struct Text {
    first: String,
    second: Option<String>,
    /// "line" or "text", and a number from 1.
    place: (&'static str, u64),
}

impl Text {
    /// Takes a line without its end.
    fn from_line(line: Vec<u8>, pair: bool, number: u64) -> Result<Self, String> {
        let text = String::from_utf8(line).map_err(|error| {
            format!(
                "standard input: line {number}, byte {}: not UTF-8",
                error.utf8_error().valid_up_to() + 1
            )
        })?;
        let place = ("line", number);
        if !pair {
            return Ok(Self {
                first: text,
                second: None,
                place,
            });
        }
        match text.split('\t').collect::<Vec<_>>().as_slice() {
            &[first, second] => Ok(Self {
                first: first.to_owned(),
                second: Some(second.to_owned()),
                place,
            }),
            parts => Err(format!(
                "standard input: line {number}: expected two texts with a tab between, for --pair; \
                 found {} tabs",
                parts.len() - 1
            )),
        }
    }

    fn input(&self) -> Input<'_> {
        match &self.second {
            None => self.first.as_str().into(),
            Some(second) => (self.first.as_str(), second.as_str()).into(),
        }
    }

    fn bytes(&self) -> usize {
        self.first.len() + self.second.as_ref().map_or(0, String::len)
    }
}

/// What the answers came to.
#[derive(Default)]
struct Count {
    texts: u64,
    tokens: u64,
    truncated: u64,
    time: Duration,
}

/// Answers texts in their order.
struct Answers<'a, W: Write> {
    classifier: &'a Classifier,
    style: Style,
    out: BufWriter<W>,
    count: Count,
}

impl<W: Write> Answers<'_, W> {
    fn answer_arguments(&mut self, texts: &[String], pair: bool) -> Result<(), Failure> {
        let texts: Vec<Text> = texts
            .chunks(if pair { 2 } else { 1 })
            .zip(1..)
            .map(|(text, number)| Text {
                first: text[0].clone(),
                second: text.get(1).cloned(),
                place: ("text", number),
            })
            .collect();
        for batch in texts.chunks(BATCH) {
            self.answer(batch)?;
        }
        Ok(())
    }

    /// Answers what is there, be it one line or many, before it waits for more.
    fn answer_lines(&mut self, pair: bool) -> Result<(), Failure> {
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            note("one text a line; end with Ctrl-D");
        }
        let (sender, lines) = mpsc::sync_channel(BATCH);
        thread::spawn(move || send_lines(pair, &sender));
        while let Ok(first) = lines.recv() {
            let (batch, error) = collect_batch(first, &lines);
            self.answer(&batch)?;
            if let Some(message) = error {
                return Err(Failure::Failed(message));
            }
        }
        Ok(())
    }

    fn answer(&mut self, texts: &[Text]) -> Result<(), Failure> {
        let inputs: Vec<Input<'_>> = texts.iter().map(Text::input).collect();
        let start = Instant::now();
        let answered = self.classifier.classify_batch(&inputs);
        self.count.time += start.elapsed();
        match answered {
            Ok(answers) => self.write(texts, &answers),
            // One text fails the batch: the texts before it have their answers nevertheless.
            Err(_) if texts.len() > 1 => {
                let (first, rest) = texts.split_at(texts.len() / 2);
                self.answer(first)?;
                self.answer(rest)
            }
            Err(error) if error.code() == ErrorCode::TextTooLong => {
                // The runtime counts texts from the one at hand.
                let message = error.to_string();
                let message = message.strip_prefix("text 0: ").unwrap_or(&message);
                let (kind, number) = texts[0].place;
                Err(Failure::Failed(format!(
                    "{kind} {number}: {message} (--truncation longest_first)"
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, texts: &[Text], answers: &[Classification<'_>]) -> Result<(), Failure> {
        for (text, answer) in texts.iter().zip(answers) {
            self.count.texts += 1;
            self.count.tokens += answer.tokens() as u64;
            self.count.truncated += u64::from(answer.truncated());
            let categories = answer.categories();
            match self.style.json {
                true => self.style.write_json(&mut self.out, categories)?,
                false => self.style.write_readable(&mut self.out, text, categories)?,
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn tell_count(&self, verbose: bool) {
        let count = &self.count;
        if verbose {
            let seconds = count.time.as_secs_f64();
            note(&format!(
                "texts: {}, tokens: {}, {:.2} ms, {:.0} texts/s",
                count.texts,
                count.tokens,
                1000.0 * seconds,
                count.texts as f64 / seconds.max(1e-9)
            ));
        }
        if count.truncated > 0 {
            note(&format!(
                "{} of {} texts cut to the {} tokens that the model takes",
                count.truncated,
                count.texts,
                self.classifier.model().shape().max_tokens
            ));
        }
    }
}

/// Sends each line of standard input; after the first that cannot be a text, no more.
fn send_lines(pair: bool, sender: &SyncSender<Result<Text, String>>) {
    let mut input = io::stdin().lock();
    for number in 1.. {
        let mut line = Vec::new();
        let text = match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                }
                Text::from_line(line, pair, number)
            }
            Err(error) => Err(format!("standard input: line {number}: {error}")),
        };
        let last = text.is_err();
        if sender.send(text).is_err() || last {
            return;
        }
    }
}

/// The first text and those that wait behind it, up to a full batch or an error.
fn collect_batch(
    first: Result<Text, String>,
    lines: &Receiver<Result<Text, String>>,
) -> (Vec<Text>, Option<String>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(text) = next {
        match text {
            Ok(text) => {
                bytes += text.bytes();
                batch.push(text);
            }
            Err(message) => return (batch, Some(message)),
        }
        let full = batch.len() >= BATCH || bytes >= BATCH_BYTES;
        next = if full { None } else { lines.try_recv().ok() };
    }
    (batch, None)
}

/// How answers look.
struct Style {
    json: bool,
    form: Form,
    /// Columns of the longest label.
    width: usize,
}

impl Style {
    fn new(arguments: &Arguments, form: Form, classifier: &Classifier) -> Self {
        let labels = classifier.labels();
        let longest = labels.map(|label| one_line(label).chars().count()).max();
        Self {
            json: arguments.json,
            form,
            width: longest.unwrap_or(0).min(32),
        }
    }

    fn write_json(&self, out: &mut impl Write, categories: &[Category<'_>]) -> io::Result<()> {
        let object = |out: &mut dyn Write, category: &Category<'_>| -> io::Result<()> {
            out.write_all(b"{\"label\":")?;
            serde_json::to_writer(&mut *out, category.label)?;
            // As an f32, which has no digits beyond its own.
            out.write_all(b",\"score\":")?;
            serde_json::to_writer(&mut *out, &category.score)?;
            out.write_all(b"}")
        };
        match (self.form.list, categories.first()) {
            (false, None) => out.write_all(b"null")?,
            (false, Some(best)) => object(out, best)?,
            (true, _) => {
                out.write_all(b"[")?;
                for (place, category) in categories.iter().enumerate() {
                    if place > 0 {
                        out.write_all(b",")?;
                    }
                    object(out, category)?;
                }
                out.write_all(b"]")?;
            }
        }
        out.write_all(b"\n")
    }

    /// The labels with their scores in columns, then the text.
    fn write_readable(
        &self,
        out: &mut impl Write,
        text: &Text,
        categories: &[Category<'_>],
    ) -> io::Result<()> {
        if categories.is_empty() {
            write!(out, "{:<width$}", "(none)", width = self.width + 10)?;
        }
        for category in categories {
            let label = one_line(category.label);
            if self.form.problem != Problem::Regression {
                let percent = 100.0 * category.score;
                write!(out, "{label:<width$} {percent:>7.2} %", width = self.width)?;
            } else {
                write!(
                    out,
                    "{label:<width$} {:>9.4}",
                    category.score,
                    width = self.width
                )?;
            }
            out.write_all(b"  ")?;
        }
        write!(out, "{}", one_line(&text.first))?;
        if let Some(second) = &text.second {
            write!(out, " | {}", one_line(second))?;
        }
        writeln!(out)
    }
}
