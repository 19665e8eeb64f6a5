import CFilbert
import Foundation

/// A BERT classifier that runs on the device's CPU.
///
/// ```swift
/// let classifier = try TextClassifier(named: "sentiment")
/// let result = try await classifier.classify("a gorgeous, witty film")
/// print(result.categories[0].categoryName, result.categories[0].score)
/// ```
///
/// A classifier may be used from any number of threads and tasks at once, and closed by any of
/// them. Keep one for as long as there are texts: each call works in memory that the next one uses
/// again. The last reference that goes frees it.
///
/// Each method is there twice. Where there is `await`, the call works on a thread of Filbert's own
/// and ends early when the task is cancelled; where there is none, it works on the caller's thread.
public final class TextClassifier: Sendable {
    /// The names of the model's categories, in the order of the logits.
    public let labels: [String]
    /// The instructions that it uses, such as `"i8mm"`. The results do not depend on them.
    public let kernelSet: String

    private nonisolated(unsafe) let handle: OpaquePointer
    /// What the model lies in, if that is memory of ours.
    private let memory: ModelBytes?

    /// The version of the library, such as `"0.1.0"`.
    public static var version: String { String(cString: filbert_version()) }

    // MARK: Opening

    /// Opens a `.filbert` file.
    ///
    /// The file is mapped, not copied, so this takes a millisecond or less. It must not change
    /// while it is open: replace a model by moving a new file over it. A file that the system
    /// makes unreadable when the device is locked (`FileProtectionType.complete`) must not be
    /// used then.
    ///
    /// - Throws: ``FilbertError`` with the code `io`, `notAModel`, `unsupported`, `malformed` or
    ///   `checksum`; `invalidArgument` for a URL that is no file's, options out of their range and
    ///   labels that the model does not have.
    public convenience init(
        contentsOf url: URL, options: TextClassifierOptions = TextClassifierOptions()
    ) throws(FilbertError) {
        guard url.isFileURL else {
            throw FilbertError(
                .invalidArgument,
                "\(url.absoluteString): expected the URL of a file; download the model first")
        }
        try self.init(options: options, memory: nil) { options, classifier in
            var path = url.path
            return path.withText { path in
                filbert_classifier_open(path.data, path.length, options, classifier)
            }
        }
    }

    /// Opens a model that lies in memory.
    ///
    /// The bytes are kept until the classifier is closed or freed, and are copied only if their
    /// address is not a multiple of 4.
    ///
    /// - Throws: As ``init(contentsOf:options:)``, without `io`.
    public convenience init(
        data: Data, options: TextClassifierOptions = TextClassifierOptions()
    ) throws(FilbertError) {
        let memory = ModelBytes(data)
        try self.init(options: options, memory: memory) { options, classifier in
            let bytes = memory.bytes
            return filbert_classifier_open_memory(
                bytes.baseAddress, bytes.count, options, classifier)
        }
    }

    /// Opens `name.filbert` among the resources of a bundle, the app's if none is given.
    ///
    /// - Throws: As ``init(contentsOf:options:)``; `io` also if the bundle has no such resource.
    public convenience init(
        named name: String, in bundle: Bundle = .main,
        options: TextClassifierOptions = TextClassifierOptions()
    ) throws(FilbertError) {
        guard let url = bundle.url(forResource: name, withExtension: "filbert") else {
            throw FilbertError(
                .io,
                "\(name).filbert: not found in \(bundle.bundlePath); add the file to the resources "
                    + "of the target (in Xcode: Build Phases, Copy Bundle Resources)")
        }
        try self.init(contentsOf: url, options: options)
    }

    private init(
        options: TextClassifierOptions, memory: ModelBytes?,
        open: (UnsafePointer<filbert_options>, UnsafeMutablePointer<OpaquePointer?>)
            -> OpaquePointer?
    ) throws(FilbertError) {
        var opened: OpaquePointer?
        let error = try options.withRecord { open($0, &opened) }
        try FilbertError.check(error)
        guard let handle = opened else {
            throw FilbertError(.internal, "the model was opened, but there is no classifier")
        }
        do {
            labels = try Self.labels(of: handle)
        } catch {
            filbert_classifier_free(handle)
            throw error
        }
        kernelSet = String(cString: filbert_classifier_kernel_set(handle))
        self.handle = handle
        self.memory = memory
    }

    private static func labels(of handle: OpaquePointer) throws(FilbertError) -> [String] {
        var labels: [String] = []
        for index in 0..<filbert_classifier_label_count(handle) {
            var label = filbert_text()
            try FilbertError.check(filbert_classifier_label(handle, index, &label))
            labels.append(String(utf8: label.data, count: label.length))
        }
        return labels
    }

    deinit {
        // The memory goes after this.
        filbert_classifier_free(handle)
    }

    /// Closes the classifier, though others may use it: their calls end with the code `closed`
    /// within the time of one layer of the model, or of a long text's tokens, and so does each call
    /// that begins later. This waits for that, and for the end of a `verify`. When it returns,
    /// file and memory are released. It may be called twice.
    ///
    /// There is no need for it, unless the memory must go before the last reference does.
    public func close() {
        withExtendedLifetime(self) {
            filbert_classifier_close(handle)
            memory?.release()
        }
    }

    // MARK: Classifying

    /// Classifies one text on the caller's thread.
    ///
    /// - Throws: ``FilbertError`` with the code `closed`, or `textTooLong` if the options do not
    ///   let the text be cut.
    public func classify(_ text: String) throws(FilbertError) -> TextClassifierResult {
        try classify(text, nil, cancellation: nil)
    }

    /// Classifies one text off the caller's thread and actor.
    ///
    /// - Throws: ``FilbertError`` with the code `cancelled` if the task is cancelled, `closed`, or
    ///   `textTooLong` if the options do not let the text be cut.
    public func classify(_ text: String) async throws(FilbertError) -> TextClassifierResult {
        try await elsewhere { (cancellation) throws(FilbertError) in
            try self.classify(text, nil, cancellation: cancellation)
        }
    }

    /// Classifies a pair of texts, such as a question and its answer, on the caller's thread.
    ///
    /// - Throws: As ``classify(_:)-(String)``.
    public func classify(
        _ first: String, with second: String
    ) throws(FilbertError) -> TextClassifierResult {
        try classify(first, second, cancellation: nil)
    }

    /// Classifies a pair of texts, such as a question and its answer, off the caller's thread and
    /// actor.
    ///
    /// - Throws: As for one text.
    public func classify(
        _ first: String, with second: String
    ) async throws(FilbertError) -> TextClassifierResult {
        try await elsewhere { (cancellation) throws(FilbertError) in
            try self.classify(first, second, cancellation: cancellation)
        }
    }

    /// Classifies many texts together on the caller's thread, which is faster than one by one.
    /// Each has the result that it would have alone, to the bit. The first one that fails ends the
    /// call.
    ///
    /// - Throws: As for one text.
    public func classify(_ texts: [String]) throws(FilbertError) -> [TextClassifierResult] {
        try classify(texts, cancellation: nil)
    }

    /// Classifies many texts together off the caller's thread and actor. Each has the result that
    /// it would have alone, to the bit. The first one that fails ends the call.
    ///
    /// - Throws: As for one text.
    public func classify(_ texts: [String]) async throws(FilbertError) -> [TextClassifierResult] {
        try await elsewhere { (cancellation) throws(FilbertError) in
            try self.classify(texts, cancellation: cancellation)
        }
    }

    /// Classifies many pairs of texts together on the caller's thread.
    ///
    /// - Throws: As for one text.
    public func classify(
        pairs: [(first: String, second: String)]
    ) throws(FilbertError) -> [TextClassifierResult] {
        try classify(pairs: pairs, cancellation: nil)
    }

    /// Classifies many pairs of texts together off the caller's thread and actor.
    ///
    /// - Throws: As for one text.
    public func classify(
        pairs: [(first: String, second: String)]
    ) async throws(FilbertError) -> [TextClassifierResult] {
        try await elsewhere { (cancellation) throws(FilbertError) in
            try self.classify(pairs: pairs, cancellation: cancellation)
        }
    }

    // MARK: Checking

    /// Computes the logits of the texts that travel in the file again, and compares their bits:
    /// whether this device computes what the converter did. It takes as long as some dozen texts.
    ///
    /// - Throws: ``FilbertError`` with the code `selfTest` or `closed`.
    public func selfTest() throws(FilbertError) {
        try check(filbert_selftest)
    }

    /// As the other `selfTest`, off the caller's thread and actor. Once it has begun it runs to
    /// its end, even if the task is cancelled.
    public func selfTest() async throws(FilbertError) {
        try await elsewhere { (_) throws(FilbertError) in try self.selfTest() }
    }

    /// Checks every checksum of the model, the weights' too, which opening it does not: for a
    /// file that was downloaded. It reads the whole file.
    ///
    /// - Throws: ``FilbertError`` with the code `checksum`, `malformed` or `closed`.
    public func verify() throws(FilbertError) {
        try check(filbert_verify)
    }

    /// As the other `verify`, off the caller's thread and actor. Once it has begun it runs to its
    /// end, even if the task is cancelled.
    public func verify() async throws(FilbertError) {
        try await elsewhere { (_) throws(FilbertError) in try self.verify() }
    }

    // MARK: The C library

    private func classify(
        _ first: String, _ second: String?, cancellation: Cancellation?
    ) throws(FilbertError) -> TextClassifierResult {
        var (first, other) = (first, second ?? "")
        let results = try results(of: 1) { results in
            first.withText { first in
                other.withText { other in
                    withUnsafePointer(to: 0 as CChar) { somewhere in
                        var input = filbert_input(first: first, second: filbert_text())
                        if second != nil {
                            input.second = other
                            // Null stands for no second text; an empty one has another address.
                            input.second.data = other.data ?? somewhere
                        }
                        return filbert_classifier_classify_batch(
                            handle, &input, 1, cancellation?.handle, results)
                    }
                }
            }
        }
        return results[0]
    }

    private func classify(
        _ texts: [String], cancellation: Cancellation?
    ) throws(FilbertError) -> [TextClassifierResult] {
        let packed = PackedTexts(texts)
        return try results(of: texts.count) { results in
            packed.withTexts { texts in
                let inputs = texts.map { filbert_input(first: $0, second: filbert_text()) }
                return filbert_classifier_classify_batch(
                    handle, inputs, inputs.count, cancellation?.handle, results)
            }
        }
    }

    private func classify(
        pairs: [(first: String, second: String)], cancellation: Cancellation?
    ) throws(FilbertError) -> [TextClassifierResult] {
        let packed = PackedTexts(pairs.flatMap { [$0.first, $0.second] })
        return try results(of: pairs.count) { results in
            packed.withTexts { texts in
                let inputs = pairs.indices.map {
                    filbert_input(first: texts[2 * $0], second: texts[2 * $0 + 1])
                }
                return filbert_classifier_classify_batch(
                    handle, inputs, inputs.count, cancellation?.handle, results)
            }
        }
    }

    /// The results that a call gives back.
    private func results(
        of count: Int, _ call: (UnsafeMutablePointer<OpaquePointer?>) -> OpaquePointer?
    ) throws(FilbertError) -> [TextClassifierResult] {
        // Only a reference keeps the handle, and the compiler may drop it after its last use.
        let (error, handle) = withExtendedLifetime(self) {
            var results: OpaquePointer?
            let error = call(&results)
            return (error, results)
        }
        try FilbertError.check(error)
        defer { filbert_results_free(handle) }
        var results: [TextClassifierResult] = []
        results.reserveCapacity(count)
        for text in 0..<count {
            var result = filbert_result()
            try FilbertError.check(filbert_results_get(handle, text, &result))
            results.append(TextClassifierResult(result, labels: labels))
        }
        return results
    }

    private func check(_ call: (OpaquePointer?) -> OpaquePointer?) throws(FilbertError) {
        try FilbertError.check(withExtendedLifetime(self) { call(handle) })
    }

    // MARK: Threads

    /// Runs `work` on a thread of Filbert's own, and cancels what it was given if the task is
    /// cancelled.
    private func elsewhere<Value: Sendable>(
        _ work: @escaping @Sendable (Cancellation) throws(FilbertError) -> Value
    ) async throws(FilbertError) -> Value {
        let cancellation = Cancellation()
        let result: Result<Value, FilbertError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                CallThreads.shared.run(cancellation) { isItsTurn in
                    continuation.resume(
                        returning: Result { () throws(FilbertError) in
                            guard isItsTurn else {
                                throw FilbertError(
                                    .cancelled, "the task was cancelled before the call began")
                            }
                            return try work(cancellation)
                        })
                }
            }
        } onCancel: {
            CallThreads.shared.cancel(cancellation)
        }
        return try result.get()
    }
}
