import Filbert
import SwiftUI

@main
struct SampleApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}

struct ContentView: View {
    @State private var sentiment = Sentiment()
    @State private var text = "a gorgeous, witty film"

    var body: some View {
        Form {
            Section("Text") {
                TextField("Text", text: $text, axis: .vertical)
            }
            Section("Labels") {
                ForEach(sentiment.categories, id: \.index) { category in
                    LabeledContent(category.categoryName) {
                        Text(Double(category.score), format: .percent.precision(.fractionLength(1)))
                    }
                }
                if let problem = sentiment.problem {
                    Text(problem).foregroundStyle(.red)
                }
            }
            Section {
                Text("Filbert \(TextClassifier.version)").foregroundStyle(.secondary)
            }
        }
        // A new text cancels the call for the one before.
        .task(id: text) { await sentiment.classify(text) }
    }
}
