import Filbert
import Foundation
import XCTest

final class ClassifyTests: XCTestCase {
    func testALabelForAText() throws {
        let classifier = try openModel()
        XCTAssertEqual(classifier.labels, ["NEGATIVE", "POSITIVE"])
        XCTAssertFalse(classifier.kernelSet.isEmpty)
        XCTAssertEqual(TextClassifier.version.split(separator: ".").count, 3)
        let result: TextClassifierResult = try classifier.classify("a gorgeous, witty film")
        XCTAssertEqual(result.categories.map(\.categoryName), ["POSITIVE", "NEGATIVE"])
        XCTAssertEqual(result.categories.map(\.index), [1, 0])
        XCTAssertGreaterThan(result.categories[0].score, 0.9)
        XCTAssertEqual(result.categories.map(\.score).reduce(0, +), 1, accuracy: 1e-5)
        XCTAssertEqual(result.logits.count, 2)
        XCTAssertGreaterThan(result.logits[1], result.logits[0])
        XCTAssertEqual(result.tokenCount, 7)
        XCTAssertFalse(result.isTruncated)
        try classifier.selfTest()
        try classifier.verify()
    }

    func testTheBitsOfEveryScriptAreThoseOfRust() throws {
        let texts = try everyScript()
        XCTAssertEqual(texts.count, 200)
        let expected = try variable("FILBERT_FINGERPRINT")
        let fromFile = try openModel()
        let fromMemory = try TextClassifier(
            data: try modelData(), options: TextClassifierOptions(threads: 2))
        for classifier in [fromFile, fromMemory] {
            let alone = try texts.map { text in
                if let second = text.second {
                    return try classifier.classify(text.first, with: second)
                }
                return try classifier.classify(text.first)
            }
            XCTAssertEqual(fingerprint(alone), expected)
        }
        print("the 200 texts have the fingerprint \(expected), by \(fromFile.kernelSet)")
    }

    func testTheBitsAreTheSameInEveryWayToCall() async throws {
        let classifier = try openModel()
        let singles = try everyScript().filter { $0.second == nil }.map(\.first)
        let one: [TextClassifierResult] = try singles.map { try classifier.classify($0) }
        let together: [TextClassifierResult] = try await classifier.classify(singles)
        XCTAssertEqual(together, one)
        var awaited: [TextClassifierResult] = []
        for text in singles.prefix(50) {
            awaited.append(try await classifier.classify(text))
        }
        XCTAssertEqual(awaited, Array(one.prefix(50)))

        let pairs = zip(singles, singles.reversed()).map { (first: $0, second: $1) }
        let alone: [TextClassifierResult] = try pairs.map {
            try classifier.classify($0.first, with: $0.second)
        }
        let pairsTogether = try await classifier.classify(pairs: pairs)
        XCTAssertEqual(pairsTogether, alone)
        let pair = try await classifier.classify(pairs[9].first, with: pairs[9].second)
        XCTAssertEqual(pair, alone[9])
    }

    func testAPairIsNotOneText() throws {
        let classifier = try openModel()
        let one: TextClassifierResult = try classifier.classify("dull")
        let empty: TextClassifierResult = try classifier.classify("dull", with: "")
        XCTAssertEqual(empty.tokenCount, one.tokenCount + 1)
        let both: TextClassifierResult = try classifier.classify("", with: "")
        XCTAssertEqual(both.tokenCount, 3)
        let batch: [TextClassifierResult] = try classifier.classify(pairs: [("dull", ""), ("", "")])
        XCTAssertEqual(batch, [empty, both])
    }

    func testEmptyTextsAndBatches() throws {
        let classifier = try openModel()
        let empty: TextClassifierResult = try classifier.classify("")
        XCTAssertEqual(empty.tokenCount, 2)
        let none: [TextClassifierResult] = try classifier.classify([String]())
        XCTAssertEqual(none, [])
        let noPairs: [TextClassifierResult] = try classifier.classify(pairs: [])
        XCTAssertEqual(noPairs, [])
        let two: [TextClassifierResult] = try classifier.classify(["", ""])
        XCTAssertEqual(two, [empty, empty])
    }

    func testEmojiAndANULArePassedWhole() throws {
        let classifier = try openModel()
        let joined: TextClassifierResult = try classifier.classify("good\u{0}ness")
        let plain: TextClassifierResult = try classifier.classify("goodness")
        let cut: TextClassifierResult = try classifier.classify("good")
        XCTAssertEqual(joined.logits, plain.logits)
        XCTAssertNotEqual(joined.logits, cut.logits)
        // A family is one character for Swift and five words of UTF-8 for the model.
        for text in ["👍🏽", "👩‍👩‍👧‍👦 wunderbar", "\u{10FFFF}", "e\u{301}"] {
            let result: TextClassifierResult = try classifier.classify(text)
            XCTAssertGreaterThan(result.tokenCount, 2, text)
        }
    }

    func testTextsThatAreNotStoredAsUTF8() throws {
        let classifier = try openModel()
        let text = "ein großartiger, witziger Film 🎬"
        let plain: TextClassifierResult = try classifier.classify(text)
        let units = Array(text.utf16)
        let other = NSString(characters: units, length: units.count) as String
        let result: TextClassifierResult = try classifier.classify(other)
        XCTAssertEqual(result, plain)
        let part = ("xx" + text + "xx").dropFirst(2).dropLast(2)
        let fromPart: TextClassifierResult = try classifier.classify(String(part))
        XCTAssertEqual(fromPart, plain)
    }

    func testAMegabyteIsCut() async throws {
        let classifier = try openModel()
        let text = String(repeating: "a gorgeous, witty film 🎬 ", count: 1 << 20 / 26)
        XCTAssertGreaterThan(text.utf8.count, 1_000_000)
        let result = try await classifier.classify(text)
        XCTAssertTrue(result.isTruncated)
        XCTAssertGreaterThan(result.tokenCount, 100)
        let word = try await classifier.classify(String(repeating: "x", count: 1 << 20))
        XCTAssertEqual(word.tokenCount, 3)
    }

    func testOptions() throws {
        let text = "a gorgeous, witty film"
        func categories(_ options: TextClassifierOptions) throws -> [String] {
            let result: TextClassifierResult = try openModel(options).classify(text)
            XCTAssertEqual(result.logits.count, 2)
            return result.categories.map(\.categoryName)
        }
        XCTAssertEqual(try categories(.init()), ["POSITIVE", "NEGATIVE"])
        XCTAssertEqual(try categories(.init(maxResults: 1)), ["POSITIVE"])
        XCTAssertEqual(try categories(.init(maxResults: 9)), ["POSITIVE", "NEGATIVE"])
        XCTAssertEqual(try categories(.init(scoreThreshold: 0.5)), ["POSITIVE"])
        XCTAssertEqual(try categories(.init(categoryAllowlist: ["NEGATIVE"])), ["NEGATIVE"])
        XCTAssertEqual(try categories(.init(categoryDenylist: ["NEGATIVE"])), ["POSITIVE"])
        XCTAssertEqual(try categories(.init(threads: 3)), ["POSITIVE", "NEGATIVE"])
    }

    func testTruncation() throws {
        let long = String(repeating: "word ", count: 2000)
        for truncation in Truncation.allCases {
            let classifier = try openModel(.init(truncation: truncation))
            switch truncation {
            case .longestFirst, .onlyFirst:
                let result: TextClassifierResult = try classifier.classify(long)
                XCTAssertTrue(result.isTruncated)
            case .onlySecond:
                let result: TextClassifierResult = try classifier.classify("word", with: long)
                XCTAssertTrue(result.isTruncated)
                XCTAssertEqual(
                    failure(try classifier.classify(long, with: "word"))?.code, .textTooLong)
            case .refuse:
                XCTAssertEqual(failure(try classifier.classify(long))?.code, .textTooLong)
                let result: TextClassifierResult = try classifier.classify("word")
                XCTAssertFalse(result.isTruncated)
            }
        }
    }
}
