import Filbert
import Foundation
import XCTest

/// What the tests need from outside: ios/README.md says how to give it.
func variable(_ name: String) throws -> String {
    try XCTUnwrap(
        ProcessInfo.processInfo.environment[name],
        "\(name) is not set: it comes from ios/test-on-linux, or see \"Tests\" in ios/README.md")
}

func modelURL() throws -> URL {
    URL(fileURLWithPath: try variable("FILBERT_MODEL"))
}

func modelData() throws -> Data {
    try Data(contentsOf: try modelURL())
}

func openModel(_ options: TextClassifierOptions = TextClassifierOptions()) throws -> TextClassifier
{
    try TextClassifier(contentsOf: try modelURL(), options: options)
}

/// The texts, or pairs with a tab between, one a line, as `filbert selftest --texts` reads them.
func everyScript() throws -> [(first: String, second: String?)] {
    let bytes = try Data(contentsOf: URL(fileURLWithPath: try variable("FILBERT_TEXTS")))
    var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    return lines.map { line in
        let parts = line.split(
            separator: UInt8(ascii: "\t"), maxSplits: 1, omittingEmptySubsequences: false)
        let texts = parts.map { String(decoding: $0, as: UTF8.self) }
        return (texts[0], texts.count > 1 ? texts[1] : nil)
    }
}

/// FNV-1a, 64 bits, of the logits as little-endian float32.
func fingerprint(_ results: [TextClassifierResult]) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for logit in results.flatMap(\.logits) {
        withUnsafeBytes(of: logit.bitPattern.littleEndian) { bytes in
            for byte in bytes {
                hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
            }
        }
    }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// The error that `body` throws.
func failure(
    _ body: @autoclosure () throws -> Any, file: StaticString = #filePath, line: UInt = #line
) -> FilbertError? {
    do {
        let value = try body()
        XCTFail("no error, but \(value)", file: file, line: line)
    } catch let error as FilbertError {
        XCTAssertFalse(error.message.isEmpty, file: file, line: line)
        return error
    } catch {
        XCTFail("not a FilbertError: \(error)", file: file, line: line)
    }
    return nil
}

/// What several threads did, one after the other.
final class Shared<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) {
        self.value = value
    }

    func with<Result>(_ body: (inout Value) -> Result) -> Result {
        lock.withLock { body(&value) }
    }
}

/// Memory of this process that no other has, in bytes.
func privateMemory() throws -> Int {
    #if os(Linux)
        let numbers = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
            .split(separator: " ").compactMap { Int($0) }
        return (numbers[1] - numbers[2]) * Int(getpagesize())
    #else
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(
            MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<integer_t>.size)
        let status = withUnsafeMutablePointer(to: &info) { info in
            info.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                // Not mach_task_self_, which is a variable: no Swift 6 before macOS 15.4's SDK.
                task_info(task_self_trap(), task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        XCTAssertEqual(status, KERN_SUCCESS)
        return Int(info.phys_footprint)
    #endif
}
