import Filbert
import Foundation
import XCTest

final class OpeningTests: XCTestCase {
    func testDataAtEveryAlignment() throws {
        let model = try modelData()
        let expected: TextClassifierResult = try openModel().classify("dull")
        for offset in 0..<8 {
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: model.count + offset, alignment: 8)
            memory.initializeMemory(as: UInt8.self, repeating: 0xAA)
            memory[offset...].copyBytes(from: model)
            let address = try XCTUnwrap(memory.baseAddress) + offset
            let data = Data(
                bytesNoCopy: address, count: model.count,
                deallocator: .custom { start, _ in (start - offset).deallocate() })
            let result: TextClassifierResult = try TextClassifier(data: data).classify("dull")
            XCTAssertEqual(result, expected)
            // A part of other data.
            let part = (Data(repeating: 1, count: offset) + model + Data([1, 2, 3]))
                .dropFirst(offset).dropLast(3)
            let partResult: TextClassifierResult = try TextClassifier(data: part).classify("dull")
            XCTAssertEqual(partResult, expected)
        }
    }

    func testDataIsKeptAsLongAsItIsNeeded() throws {
        let freed = Shared(false)
        var classifier: TextClassifier? = try {
            let model = try modelData()
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: model.count, alignment: 8)
            memory.copyBytes(from: model)
            let start = try XCTUnwrap(memory.baseAddress)
            let data = Data(
                bytesNoCopy: start, count: model.count,
                deallocator: .custom { start, _ in
                    start.deallocate()
                    freed.with { $0 = true }
                })
            return try TextClassifier(data: data)
        }()
        XCTAssertFalse(freed.with { $0 }, "the data must stay")
        let result: TextClassifierResult? = try classifier?.classify("dull")
        XCTAssertNotNil(result)
        classifier?.close()
        XCTAssertTrue(freed.with { $0 }, "closing releases the data")
        XCTAssertEqual(classifier?.labels.count, 2)
        classifier = nil
    }

    func testAChangeOfTheCallersDataChangesNothing() throws {
        var data = try modelData()
        let classifier = try TextClassifier(data: data)
        let expected: TextClassifierResult = try classifier.classify("dull")
        data.resetBytes(in: 0..<data.count)
        let result: TextClassifierResult = try classifier.classify("dull")
        XCTAssertEqual(result, expected)
        try classifier.verify()
    }

    func testABundlesModel() throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("filbert-\(UUID().uuidString).bundle")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.copyItem(
            at: try modelURL(), to: folder.appendingPathComponent("gefühl 🎬.filbert"))
        let bundle = try XCTUnwrap(Bundle(url: folder))
        let classifier = try TextClassifier(named: "gefühl 🎬", in: bundle)
        XCTAssertEqual(classifier.labels.count, 2)
        let error = failure(try TextClassifier(named: "absent", in: bundle))
        XCTAssertEqual(error?.code, .io)
        XCTAssertTrue(error?.message.contains("absent.filbert") == true)
        XCTAssertEqual(failure(try TextClassifier(named: "absent"))?.code, .io)
    }

    func testWhatIsNoModel() throws {
        let absent = URL(fileURLWithPath: "/nowhere/absent.filbert")
        let error = failure(try TextClassifier(contentsOf: absent))
        XCTAssertEqual(error?.code, .io)
        XCTAssertTrue(error?.message.contains("/nowhere/absent.filbert") == true)
        XCTAssertEqual(error?.localizedDescription, error?.message)
        let folder = FileManager.default.temporaryDirectory
        XCTAssertEqual(failure(try TextClassifier(contentsOf: folder))?.code, .io)
        let web = try XCTUnwrap(URL(string: "https://example.com/a.filbert"))
        XCTAssertEqual(failure(try TextClassifier(contentsOf: web))?.code, .invalidArgument)
        for bytes in [Data(), Data([1]), Data("not a model, but some text".utf8)] {
            XCTAssertEqual(failure(try TextClassifier(data: bytes))?.code, .notAModel)
        }
    }

    func testTruncatedModels() throws {
        let model = try modelData()
        var lengths = Array(0..<200)
        lengths += stride(from: 200, to: model.count, by: model.count / 97)
        lengths.append(model.count - 1)
        for length in lengths {
            let error = failure(try TextClassifier(data: model.prefix(length)))
            let expected: [FilbertError.Code] = [.notAModel, .malformed, .checksum]
            XCTAssertTrue(error.map { expected.contains($0.code) } == true, "\(length): \(error!)")
        }
    }

    func testDamagedModels() throws {
        let model = try modelData()
        var refused = 0
        let places = Array(0..<256) + stride(from: 256, to: model.count, by: model.count / 211)
        for place in places {
            var damaged = model
            damaged[place] ^= 0x55
            do {
                let classifier = try TextClassifier(data: damaged)
                let _: TextClassifierResult = try classifier.classify("still 🎬 no crash")
                // Opening does not read the weights, and nothing reads padding.
                if (try? classifier.verify()) == nil { refused += 1 }
            } catch {
                XCTAssertNotEqual(error.code, .internal, "\(place): \(error)")
                refused += 1
            }
        }
        XCTAssertGreaterThan(refused, places.count * 9 / 10)
        var weights = model
        weights[model.count / 2] ^= 1
        let classifier = try TextClassifier(data: weights)
        XCTAssertEqual(failure(try classifier.verify())?.code, .checksum)
    }

    func testRefusedOptions() throws {
        for options: TextClassifierOptions in [
            .init(maxResults: 0), .init(maxResults: -1), .init(maxResults: .min),
            .init(threads: 0), .init(threads: -1), .init(threads: 1025), .init(threads: .max),
            .init(categoryAllowlist: ["MIXED"]), .init(categoryDenylist: [""]),
            .init(categoryAllowlist: ["POSITIVE"], categoryDenylist: ["NEGATIVE"]),
            .init(scoreThreshold: .nan),
        ] {
            let error = failure(try openModel(options))
            XCTAssertEqual(error?.code, .invalidArgument, "\(options)")
        }
    }

    func testTheCodesAreFrozen() {
        let codes: [FilbertError.Code] = [
            .io, .notAModel, .unsupported, .malformed, .checksum, .invalidArgument, .textTooLong,
            .selfTest, .cancelled, .closed,
        ]
        XCTAssertEqual(codes.map(\.rawValue), Array(1...10))
        XCTAssertEqual(FilbertError.Code.internal.rawValue, 1000)
        XCTAssertEqual(FilbertError.Code(rawValue: 77).rawValue, 77)
    }
}
