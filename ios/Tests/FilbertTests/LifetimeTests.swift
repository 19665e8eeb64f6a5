import Dispatch
import Filbert
import Foundation
import XCTest

final class LifetimeTests: XCTestCase {
    func testManyThreadsAtOnce() throws {
        let classifier = try openModel(.init(threads: 2))
        let texts = try everyScript().map(\.first)
        let expected: [TextClassifierResult] = try texts.map { try classifier.classify($0) }
        let differences = Shared(0)
        DispatchQueue.concurrentPerform(iterations: 16) { thread in
            for index in texts.indices {
                let index = (index * 7 + thread * 13) % texts.count
                let result: TextClassifierResult? = try? classifier.classify(texts[index])
                if result != expected[index] { differences.with { $0 += 1 } }
            }
        }
        XCTAssertEqual(differences.with { $0 }, 0)
    }

    func testAThousandTasksAtOnce() async throws {
        let classifier = try openModel()
        let texts = try everyScript().map(\.first)
        let expected = try await classifier.classify(texts)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for task in 0..<1000 {
                let index = task % texts.count
                group.addTask { try await classifier.classify(texts[index]) == expected[index] }
            }
            for try await same in group { XCTAssertTrue(same) }
        }
    }

    /// Calls on every thread that Swift has leave these threads, and the main actor, to others.
    func testOthersGoOnWhileCallsRun() async throws {
        let classifier = try openModel()
        let texts = Array(repeating: String(repeating: "word ", count: 400), count: 50)
        let calls = 2 * ProcessInfo.processInfo.activeProcessorCount
        let running = Shared(calls)
        let working = (0..<calls).map { _ in
            Task {
                defer { running.with { $0 -= 1 } }
                return try await classifier.classify(texts).count
            }
        }
        let mainTurns = Task { @MainActor in
            var turns = 0
            while running.with({ $0 }) == calls {
                try await Task.sleep(nanoseconds: 1_000_000)
                turns += 1
            }
            return turns
        }
        var turns = 0
        while running.with({ $0 }) == calls {
            try await Task.sleep(nanoseconds: 1_000_000)
            turns += 1
        }
        XCTAssertGreaterThan(turns, 10)
        let onMain = try await mainTurns.value
        XCTAssertGreaterThan(onMain, 10)
        for call in working {
            let count = try await call.value
            XCTAssertEqual(count, 50)
        }
    }

    func testACancelledTask() async throws {
        let classifier = try openModel()
        let before = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await classifier.classify("dull")
        }
        let early = await before.result
        XCTAssertEqual(failure(try early.get())?.code, .cancelled)
        for check in [{ try await classifier.verify() }, { try await classifier.selfTest() }]
            as [@Sendable () async throws -> Void]
        {
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                try await check()
            }
            let result = await task.result
            XCTAssertEqual(failure(try result.get())?.code, .cancelled)
        }

        // Minutes of work, which end at once.
        let texts = Array(repeating: String(repeating: "word ", count: 400), count: 20_000)
        let started = Date()
        let call = Task { try await classifier.classify(texts) }
        try await Task.sleep(nanoseconds: 50_000_000)
        call.cancel()
        let result = await call.result
        XCTAssertEqual(failure(try result.get())?.code, .cancelled)
        XCTAssertLessThan(Date().timeIntervalSince(started), 5)
        let after = try await classifier.classify("dull")
        XCTAssertEqual(after.categories.count, 2)
    }

    /// While others have all threads.
    func testACancelledTaskDoesNotWaitForItsTurn() async throws {
        let classifier = try openModel()
        let texts = Array(repeating: String(repeating: "word ", count: 400), count: 200)
        let ended = Shared(0)
        let working = (0..<ProcessInfo.processInfo.activeProcessorCount).map { _ in
            Task {
                defer { ended.with { $0 += 1 } }
                return try await classifier.classify(texts).count
            }
        }
        try await Task.sleep(nanoseconds: 50_000_000)
        let classify = Task { _ = try await classifier.classify("dull") }
        let verify = Task { try await classifier.verify() }
        try await Task.sleep(nanoseconds: 50_000_000)
        for waiting in [classify, verify] {
            waiting.cancel()
            let result = await waiting.result
            XCTAssertEqual(failure(try result.get())?.code, .cancelled)
        }
        XCTAssertEqual(ended.with { $0 }, 0, "it waited")
        for call in working {
            call.cancel()
            let result = await call.result
            XCTAssertEqual(failure(try result.get())?.code, .cancelled)
        }
        try await classifier.verify()
    }

    func testClosingWhileOthersClassify() async throws {
        for _ in 0..<20 {
            let classifier = try TextClassifier(data: try modelData())
            let text = String(repeating: "word ", count: 100)
            let codes = Shared([FilbertError.Code?]())
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var code: FilbertError.Code?
                        while code == nil {
                            do throws(FilbertError) {
                                _ = try await classifier.classify(text)
                            } catch {
                                code = error.code
                            }
                        }
                        codes.with { $0.append(code) }
                    }
                }
                group.addTask {
                    try? await Task.sleep(nanoseconds: 5_000_000)
                    classifier.close()
                    classifier.close()
                }
            }
            XCTAssertEqual(codes.with { $0 }, Array(repeating: .closed, count: 4))
            checkThatItIsClosed(classifier)
            XCTAssertEqual(classifier.labels.count, 2)
        }
    }

    /// Without `await`.
    private func checkThatItIsClosed(_ classifier: TextClassifier) {
        XCTAssertEqual(failure(try classifier.classify("dull"))?.code, .closed)
        XCTAssertEqual(failure(try classifier.classify(["dull"]))?.code, .closed)
        XCTAssertEqual(failure(try classifier.verify())?.code, .closed)
        XCTAssertEqual(failure(try classifier.selfTest())?.code, .closed)
    }

    func testTheLastReferenceGoesWhileACallRuns() async throws {
        for _ in 0..<50 {
            var classifier: TextClassifier? = try openModel()
            let call = Task { [classifier] in try await classifier?.classify("dull") }
            classifier = nil
            let result = try await call.value
            XCTAssertEqual(result?.categories.count, 2)
        }
    }

    func testThousandsOfCyclesLeaveNothingBehind() throws {
        let data = try modelData()
        let url = try modelURL()
        func cycles(_ count: Int) throws {
            for cycle in 0..<count {
                let classifier =
                    cycle % 2 == 0
                    ? try TextClassifier(contentsOf: url) : try TextClassifier(data: data)
                let _: TextClassifierResult = try classifier.classify("a witty film 🎬")
                let _: [TextClassifierResult] = try classifier.classify(["dull", ""])
                XCTAssertEqual(
                    failure(try openModel(.init(categoryDenylist: ["MIXED"])))?.code,
                    .invalidArgument)
                if cycle % 3 == 0 { classifier.close() }
            }
        }
        try cycles(500)
        let before = try privateMemory()
        try cycles(3000)
        let grown = try privateMemory() - before
        print("3000 cycles: \(grown) bytes more memory")
        // One result, error or classifier that is not freed in each cycle would be more.
        XCTAssertLessThan(grown, 256 << 10)
    }
}
