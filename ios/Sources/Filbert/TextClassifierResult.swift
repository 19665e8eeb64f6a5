import CFilbert

/// What a model says of one text, or of one pair.
public struct TextClassifierResult: Hashable, Sendable {
    /// The categories that the options let through, the best first.
    public let categories: [ResultCategory]
    /// The model's raw answer: one number for each of its labels, in the order of
    /// ``TextClassifier/labels``. The same file and text give the same bits on every device.
    public let logits: [Float]
    /// The tokens that the model saw, special tokens included.
    public let tokenCount: Int
    /// Whether the text was cut to what the model takes.
    public let isTruncated: Bool

    /// A result of the C library, with the labels of its classifier.
    init(_ result: filbert_result, labels: [String]) {
        let found = UnsafeBufferPointer(start: result.categories, count: result.category_count)
        categories = found.map { category in
            ResultCategory(
                index: category.index, categoryName: labels[category.index], score: category.score)
        }
        logits = Array(UnsafeBufferPointer(start: result.logits, count: result.logit_count))
        tokenCount = result.tokens
        isTruncated = result.truncated
    }
}

/// One label of a model and how well it fits.
public struct ResultCategory: Hashable, Sendable {
    /// The label's place among ``TextClassifier/labels``, and its logit's among the logits.
    public let index: Int
    /// The label's name.
    public let categoryName: String
    /// A probability, 0 to 1; of a regression model, the logit.
    public let score: Float
}
