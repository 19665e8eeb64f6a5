import Filbert
import Observation

/// What the screen shows: the labels of the text that is being written.
@MainActor @Observable
final class Sentiment {
    private(set) var categories: [ResultCategory] = []
    private(set) var problem: String?

    private let classifier: TextClassifier?

    init() {
        do {
            classifier = try TextClassifier(named: "sentiment")
        } catch {
            classifier = nil
            problem = error.message
        }
    }

    /// Labels a text. A call for an older text ends when its task is cancelled.
    func classify(_ text: String) async {
        guard let classifier else { return }
        do {
            categories = try await classifier.classify(text).categories
            problem = nil
        } catch {
            if error.code != .cancelled { problem = error.message }
        }
    }
}
