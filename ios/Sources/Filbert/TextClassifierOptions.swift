import CFilbert

/// How a ``TextClassifier`` works.
public struct TextClassifierOptions: Hashable, Sendable {
    /// The categories in a result at most, the best ones; `nil` for all.
    public var maxResults: Int?
    /// The least score of a category in a result; 0 for none, even of a regression model, whose
    /// scores may be negative.
    public var scoreThreshold: Float
    /// The labels that may be in a result, if there are any here.
    public var categoryAllowlist: [String]
    /// The labels that may not be in a result. Not together with ``categoryAllowlist``.
    public var categoryDenylist: [String]
    /// The threads that work on one call, the caller's included: 1 to 1024. The results do not
    /// depend on it.
    public var threads: Int
    /// What is done with a text that is too long for the model.
    public var truncation: Truncation

    public init(
        maxResults: Int? = nil,
        scoreThreshold: Float = 0,
        categoryAllowlist: [String] = [],
        categoryDenylist: [String] = [],
        threads: Int = 1,
        truncation: Truncation = .longestFirst
    ) {
        self.maxResults = maxResults
        self.scoreThreshold = scoreThreshold
        self.categoryAllowlist = categoryAllowlist
        self.categoryDenylist = categoryDenylist
        self.threads = threads
        self.truncation = truncation
    }
}

/// What is done with a text, or a pair, that has more tokens than the model takes.
public enum Truncation: Hashable, Sendable, CaseIterable {
    /// The longer of two texts is cut, token by token; a single text at its end.
    case longestFirst
    /// Only the first text is cut.
    case onlyFirst
    /// Only the second text of a pair is cut.
    case onlySecond
    /// None is cut: a long text is the error ``FilbertError/Code/textTooLong``.
    case refuse

    var number: UInt32 {
        switch self {
        case .longestFirst: UInt32(FILBERT_TRUNCATION_LONGEST_FIRST)
        case .onlyFirst: UInt32(FILBERT_TRUNCATION_ONLY_FIRST)
        case .onlySecond: UInt32(FILBERT_TRUNCATION_ONLY_SECOND)
        case .refuse: UInt32(FILBERT_TRUNCATION_REFUSE)
        }
    }
}

extension TextClassifierOptions {
    /// Calls `body` with the options as C has them.
    func withRecord<Value>(
        _ body: (UnsafePointer<filbert_options>) -> Value
    ) throws(FilbertError) -> Value {
        // Zero stands for the default in C, and there is nothing below it.
        if let maxResults, maxResults < 1 {
            throw FilbertError(
                .invalidArgument,
                "maxResults: expected 1 or more, or nil for all, found \(maxResults)")
        }
        if threads < 1 {
            throw FilbertError(.invalidArgument, "threads: expected 1 to 1024, found \(threads)")
        }
        var record = filbert_options()
        record.size = MemoryLayout<filbert_options>.size
        record.threads = threads
        record.max_results = maxResults ?? 0
        record.score_threshold = scoreThreshold
        record.truncation = truncation.number
        let allowed = PackedTexts(categoryAllowlist)
        let denied = PackedTexts(categoryDenylist)
        return allowed.withTexts { allowed in
            denied.withTexts { denied in
                record.allowed_labels = allowed.baseAddress
                record.allowed_label_count = allowed.count
                record.denied_labels = denied.baseAddress
                record.denied_label_count = denied.count
                return body(&record)
            }
        }
    }
}
